"""``interlock admin``: the control plane, on a store that is elsewhere: the admin API, and the agents of hosts."""

from __future__ import annotations

import logging

from admin.console.context import Console
from admin.counts import ApiCounts
from admin.lookups.hub import LookupHub
from interlock.observe import logs
from interlock.observe.metrics import (
    Metrics,
    admin_metrics,
    clock_metrics,
    hosts_metrics,
    lookups_metrics,
    probe_metrics,
    snapshot_metrics,
    supervisor_metrics,
    watcher_metrics,
)
from interlock.observe.readiness import (
    Readiness,
    clock_agrees,
    documents_used,
    snapshot_kept,
    store_answers,
    store_history,
    store_is_durable,
    withdrawals_passed,
    writes_taken,
)
from interlock.parts.durability import DurabilityCheck
from interlock.parts.hosts import HostsParts, watcher_part
from interlock.parts.http import RootToken, admin_part
from interlock.parts.snapshot import snapshot_keeper, snapshot_parts
from interlock.parts.store import open_store
from interlock.parts.store_probe import StoreProbe
from interlock.parts.write_probe import WriteProbe
from interlock.process.lifecycle import run_until_signal, serve
from interlock.process.state_dir import make_state_directory
from interlock.process.supervise import Supervisor
from interlock.programs.required import require_store
from interlock.settings.table import ADMIN, Settings
from watcher.guard import Guard
from watcher.watcher import Watcher

log = logging.getLogger(__name__)


def run_admin(settings: Settings) -> None:
    """Runs the admin API until a signal ends it. Raises `InterlockError` where it cannot start."""
    url = require_store(settings, "admin")
    logs.configure(settings.log_level, settings.log_format)
    make_state_directory(settings.state_dir)
    run_until_signal(_serve(settings, url))


async def _serve(settings: Settings, url: str) -> None:
    store, token = open_store(settings, url), RootToken.of(settings)
    probe, durability, counts = StoreProbe(store), DurabilityCheck(store), ApiCounts()
    writes = WriteProbe(store)
    supervisor = Supervisor([probe.part, durability.part, writes.part])
    checks = [store_answers(probe), writes_taken(writes), clock_agrees(store.clock), store_is_durable(durability)]
    sources = [supervisor_metrics(supervisor), admin_metrics(counts), clock_metrics(store.clock)]
    watcher, service, console = None, None, Console()
    if not settings.hosts_listen:
        sources.append(probe_metrics(probe))  # a watcher would say the same
        shown = Watcher(store, settings.platform, console.state, guard=Guard(settings.guard))
        supervisor.parts.append(watcher_part(shown))
    else:
        hosts = HostsParts.of(settings, store, counts)
        watcher = hosts.watch(settings.platform, Guard(settings.guard), console.state)
        watcher.snapshots = snapshot_keeper(ADMIN, settings)
        supervisor.parts += [watcher_part(watcher), *snapshot_parts(watcher), *hosts.parts(watcher)]
        checks += [*store_history(watcher), withdrawals_passed(watcher), documents_used(watcher)]
        checks += snapshot_kept(watcher)
        service, state = hosts.service, hosts.service.state
        sources += [
            watcher_metrics(watcher),
            snapshot_metrics(watcher, lambda: state.stale_since),
            hosts_metrics(hosts.service),
        ]
    lookups = service.lookups if service else LookupHub()
    readiness, metrics = Readiness(supervisor, *checks), Metrics(*sources, lookups_metrics(lookups))
    guard = watcher.guard if watcher else None
    api = admin_part(settings, store, token, counts, readiness, metrics.render, guard, service, lookups, console)
    supervisor.parts.append(api.part)
    if token.is_new:
        log.info("token_made", extra={"path": str(token.path)})
    await serve(supervisor, store)
