"""``interlock admin``: the admin API alone, on a store that is elsewhere."""

from __future__ import annotations

import logging

from admin.counts import ApiCounts
from interlock.observe import logs
from interlock.observe.metrics import Metrics, admin_metrics, clock_metrics, supervisor_metrics
from interlock.observe.readiness import Readiness, clock_agrees, store_answers, store_is_durable
from interlock.parts.durability import DurabilityCheck
from interlock.parts.http import RootToken, admin_part
from interlock.parts.store import open_store
from interlock.parts.store_probe import StoreProbe
from interlock.process.lifecycle import run_until_signal, serve
from interlock.process.state_dir import make_state_directory
from interlock.process.supervise import Supervisor
from interlock.programs.required import require_store
from interlock.settings.table import Settings

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
    supervisor = Supervisor([probe.part, durability.part])
    readiness = Readiness(supervisor, store_answers(probe), clock_agrees(store.clock), store_is_durable(durability))
    metrics = Metrics(supervisor_metrics(supervisor), admin_metrics(counts), clock_metrics(store.clock))
    supervisor.parts.append(admin_part(settings, store, token, counts, readiness, metrics.render).part)
    if token.is_new:
        log.info("token_made", extra={"path": str(token.path)})
    await serve(supervisor, store)
