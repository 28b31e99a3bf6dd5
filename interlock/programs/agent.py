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
    withdrawals_passed,
)
from interlock.parts.agent import AgentParts
from interlock.parts.http import operations_part
from interlock.parts.snapshot import remove_snapshot
from interlock.parts.this_host import HostSettings
from interlock.process.lifecycle import run_until_signal, serve
from interlock.process.state_dir import held_alone, make_state_directory
from interlock.process.supervise import Supervisor
from interlock.settings.table import AGENT, Settings


def run_agent(settings: Settings) -> None:
    """Runs the agent of this host until a signal or ``interlock host leave`` ends it.

    Raises `InterlockError` where it cannot start.
    """
    host = HostSettings.of(settings)
    logs.configure(settings.log_level, settings.log_format)
    make_state_directory(settings.state_dir)
    with held_alone(settings.state_dir):  # two agents would be one host, and undo each other's work
        run_until_signal(_serve(settings, host))


async def _serve(settings: Settings, host: HostSettings) -> None:
    agent = await AgentParts.of(settings, host)
    supervisor = Supervisor([*agent.parts])
    if settings.ops_listen:
        clock = agent.control_plane.clock
        notes = (clock_agrees(clock), withdrawals_passed(agent.follower), documents_used(agent.follower))
        readiness = Readiness(supervisor, host_ready(agent.operations), *notes, *snapshot_kept(agent.follower))
        metrics = Metrics(
            supervisor_metrics(supervisor),
            watcher_metrics(agent.follower),
            clock_metrics(clock),
            snapshot_metrics(agent.follower, lambda: agent.mesh.published.stale_since),
            mesh_metrics(agent.mesh, agent.operations, agent.acknowledger),
        )
        supervisor.parts.append(operations_part(settings.ops_listen, readiness, metrics.render).part)
    await serve(supervisor, None, until=agent.left)
    if agent.left.is_set():
        remove_snapshot(AGENT, settings)
