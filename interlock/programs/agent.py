"""``interlock agent``: the agent of this host."""

from __future__ import annotations

from interlock.observe import logs
from interlock.observe.mesh_metrics import mesh_metrics
from interlock.observe.metrics import Metrics, clock_metrics, snapshot_metrics, supervisor_metrics, watcher_metrics
from interlock.observe.readiness import (
    Readiness,
    clock_agrees,
    documents_used,
    host_ready,
    snapshot_kept,
    store_history,
    store_is_durable,
    withdrawals_passed,
)
from interlock.parts.agent import AgentParts, HostSettings
from interlock.parts.durability import DurabilityCheck
from interlock.parts.http import operations_part
from interlock.parts.snapshot import remove_snapshot
from interlock.parts.store import open_store
from interlock.process.lifecycle import run_until_signal, serve
from interlock.process.state_dir import make_state_directory
from interlock.process.supervise import Supervisor
from interlock.programs.required import require_store
from interlock.settings.table import AGENT, Settings


def run_agent(settings: Settings) -> None:
    """Runs the agent of this host until a signal or ``interlock host leave`` ends it.

    Raises `InterlockError` where it cannot start.
    """
    url = require_store(settings, "agent")
    host = HostSettings.of(settings)
    logs.configure(settings.log_level, settings.log_format)
    make_state_directory(settings.state_dir)
    run_until_signal(_serve(settings, host, url))


async def _serve(settings: Settings, host: HostSettings, url: str) -> None:
    store = open_store(settings, url)
    agent = await AgentParts.of(settings, host, store)
    durability = DurabilityCheck(store)
    supervisor = Supervisor([*agent.parts, durability.part])
    if settings.ops_listen:
        notes = (
            clock_agrees(store.clock),
            withdrawals_passed(agent.watcher),
            documents_used(agent.watcher),
            store_is_durable(durability),
        )
        kept = snapshot_kept(agent.watcher)
        readiness = Readiness(supervisor, host_ready(agent.operations), *store_history(agent.watcher), *notes, *kept)
        metrics = Metrics(
            supervisor_metrics(supervisor),
            watcher_metrics(agent.watcher),
            clock_metrics(store.clock),
            snapshot_metrics(agent.watcher, lambda: agent.mesh.published.stale_since),
            mesh_metrics(agent.mesh, agent.operations, agent.acknowledger),
        )
        supervisor.parts.append(operations_part(settings.ops_listen, readiness, metrics.render).part)
    await serve(supervisor, store, until=agent.left)
    if agent.left.is_set():
        remove_snapshot(AGENT, settings)
