"""``interlock resolver``: the resolver alone, fed by a store that is elsewhere or by the agent of this host."""

from __future__ import annotations

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
from interlock.parts.resolver import ResolverParts
from interlock.parts.store import open_store
from interlock.process.lifecycle import run_until_signal, serve
from interlock.process.supervise import Supervisor
from interlock.programs.required import require_store
from interlock.settings.table import RESOLVER, Settings


def run_resolver(settings: Settings) -> None:
    """Runs the watcher and the resolver until a signal ends them. Raises `InterlockError` where it cannot start."""
    if settings.agent_dir and settings.redis:
        raise BadSetting("a resolver learns from the store or from this host's agent: leave out --redis or --agent-dir")
    url = (
        None
        if settings.agent_dir
        else require_store(settings, "resolver", ", or --agent-dir to learn from this host's agent")
    )
    logs.configure(settings.log_level, settings.log_format)
    run_until_signal(_serve(settings, url))


async def _serve(settings: Settings, url: str | None) -> None:
    store = open_store(settings, url) if url else None
    dns = ResolverParts.of(RESOLVER, settings, store, settings.bind)
    durability = DurabilityCheck(store) if store else None
    supervisor = Supervisor([*dns.parts, *([durability.part] if durability else [])])
    if settings.ops_listen:
        checks = [zones_loaded(dns), *store_history(dns.watcher), withdrawals_passed(dns.watcher)]
        checks += [*snapshot_kept(dns.watcher), source_answers(dns.watcher), documents_used(dns.watcher)]
        if store and durability:
            # A resolver without a store follows the agent of its host, which names a wrong clock.
            checks += [clock_agrees(store.clock), store_is_durable(durability)]
        readiness = Readiness(supervisor, *checks)
        metrics = Metrics(
            supervisor_metrics(supervisor),
            resolver_metrics(dns.resolver),
            watcher_metrics(dns.watcher),
            snapshot_metrics(dns.watcher, lambda: dns.stale_since),
            *([clock_metrics(store.clock)] if store else []),
        )
        supervisor.parts.append(operations_part(settings.ops_listen, readiness, metrics.render).part)
    await serve(supervisor, store)
