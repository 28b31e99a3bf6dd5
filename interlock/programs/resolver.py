"""``interlock resolver``: the resolver alone, fed by a store that is elsewhere or by the agent of this host."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

from interlock.errors import BadSetting
from interlock.observe import logs
from interlock.observe.metrics import (
    Metrics,
    clock_metrics,
    resolver_metrics,
    snapshot_metrics,
    supervisor_metrics,
    watcher_metrics,
)
from interlock.observe.readiness import (
    Readiness,
    all_answer,
    clock_agrees,
    documents_used,
    snapshot_kept,
    source_answers,
    store_history,
    store_is_durable,
    withdrawals_passed,
    zones_loaded,
)
from interlock.parts.durability import DurabilityCheck
from interlock.parts.http import operations_part
from interlock.parts.listening import worker_processes
from interlock.parts.resolver import ResolverParts
from interlock.parts.store import open_store
from interlock.process.lifecycle import run_until_signal, serve
from interlock.process.supervise import Supervisor
from interlock.programs.required import require_store
from interlock.programs.succession import Line
from interlock.settings.table import RESOLVER, Settings
from interlock.workers.handed import Handed

STDIN = 0
NOT_FOLLOWED = "the sockets are opened once: restart the resolver to have it follow this setting"

log = logging.getLogger(__name__)


def run_resolver(settings: Settings, handed: Handed | None = None) -> None:
    """Runs the watcher and the resolver until a signal ends them. Raises `InterlockError` where it cannot start.

    ``handed`` is what a launcher has started this process with; None where this is all of the resolver.
    """
    if settings.agent_dir and settings.redis:
        raise BadSetting("a resolver learns from the store or from this host's agent: leave out --redis or --agent-dir")
    url = (
        None
        if settings.agent_dir
        else require_store(settings, "resolver", ", or --agent-dir to learn from this host's agent")
    )
    logs.configure(settings.log_level, settings.log_format)
    for name in settings_not_followed(settings, handed) if handed else ():
        log.warning("setting_not_followed", extra={"setting": name, "reason": NOT_FOLLOWED})
    if handed or not os.isatty(STDIN):  # else its terminal has gone, which ends it
        signal.signal(signal.SIGHUP, signal.SIG_IGN if handed else _say_not_renewed)
    run_until_signal(_serve(settings, url, handed))


def settings_not_followed(settings: Settings, handed: Handed) -> Iterator[str]:
    """The keys of the settings that have changed since the launcher opened the sockets that are ``handed``."""
    if worker_processes(settings) != len(handed.sockets):
        yield "workers"
    addresses = {pair.address for pair in handed.sockets[0]}
    takes_any_port = any(endpoint.port == 0 for endpoint in settings.dns_listen)
    # Of the default addresses those are left out that the machine does not have.
    if not (settings.is_default("dns_listen") or takes_any_port or set(settings.dns_listen) == addresses):
        yield "dns-listen"


def _say_not_renewed(_number: int, _frame: object) -> None:
    log.warning("resolver_not_renewed", extra={"reason": "there are no workers: restart it, or see --workers"})


async def _serve(settings: Settings, url: str | None, handed: Handed | None) -> None:
    store = open_store(settings, url) if url else None
    dns = ResolverParts.of(RESOLVER, settings, store, settings.bind, handed=handed)
    durability = DurabilityCheck(store) if store else None
    line = Line(handed, dns.workers) if handed and dns.workers else None
    supervisor = Supervisor([*dns.parts, *([durability.part] if durability else [])])
    if line:
        # What only one program can have, the one before this one has until it has left.
        supervisor.parts.insert(2, line.part)
    if settings.ops_listen:
        checks = [
            zones_loaded(dns),
            *all_answer(dns.workers),
            *store_history(dns.watcher),
            withdrawals_passed(dns.watcher),
        ]
        checks += [*snapshot_kept(dns.watcher), source_answers(dns.watcher), documents_used(dns.watcher)]
        if store and durability:
            # A resolver without a store follows the agent of its host, which names a wrong clock.
            checks += [clock_agrees(store.clock), store_is_durable(durability)]
        readiness = Readiness(supervisor, *checks)
        metrics = Metrics(
            supervisor_metrics(supervisor),
            resolver_metrics(dns.resolver, dns.workers),
            watcher_metrics(dns.watcher),
            snapshot_metrics(dns.watcher, lambda: dns.stale_since),
            *([clock_metrics(store.clock)] if store else []),
        )
        supervisor.parts.append(operations_part(settings.ops_listen, readiness, dns.ask_before(metrics.render)).part)
    if line and handed and not handed.is_first:
        # Clients are answered by then. What cannot start beside that, such as /readyz on a port that is taken, must not
        # end it, and would again each time that the launcher starts the next program.
        after = supervisor.parts.index(line.part) + 1
        supervisor.parts[after:] = [replace(part, is_vital=False) for part in supervisor.parts[after:]]
    await serve(supervisor, store, line.say_ready if line else None, line.left if line else None)
