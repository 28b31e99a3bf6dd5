"""What the mesh knows of itself: for `interlock mesh`, for readiness and for metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.plan.drops import RecentDrops
from agent.plan.health import Health
from agent.plan.steps import Actual
from agent.plan.wanted import Rejection


@dataclass(slots=True)
class MeshCounts:
    """What has happened since the start, for metrics."""

    passes: int = 0
    """Passes begun."""
    steps: int = 0
    """Changes made to the system."""
    read_backs: int = 0
    """Times that the whole system was read."""
    repairs: int = 0
    """Times that a manual change was undone."""
    failures: int = 0
    """Passes that failed."""


@dataclass(slots=True)
class Status:
    """The state of the mesh on this host. The scheduler and the passes write it; everybody else reads."""

    counts: MeshCounts = field(default_factory=MeshCounts)
    """What has happened since the start."""
    problem: str = "not started"
    """Why the last pass failed, or that there was none yet; empty after one that succeeded."""
    actual: Actual | None = None
    """The system as it is; None before it was first read and after a pass that failed, so the next pass reads it."""
    health: Health = field(default_factory=Health)
    """Which peers answer."""
    drops: RecentDrops = field(default_factory=RecentDrops)
    """Which packets were dropped lately."""
    rejected: tuple[Rejection, ...] = ()
    """What the last plan left out."""
