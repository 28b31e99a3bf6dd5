"""Waiting for the acknowledgements of other hosts: what the control plane is asked, and what becomes of its answer."""

from __future__ import annotations

import pytest

from agent.announce.barrier import DEADLINE, Barrier
from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import Unavailable
from tests.agent.control_plane.plane import Plane
from watcher.session.protocol import Hello, Wait, Waited


async def test_a_wait_is_for_all_other_hosts_or_for_some(plane: Plane, control: ControlPlane) -> None:
    plane.answers = lambda request: Waited(request.number)
    barrier = Barrier(control)
    assert await barrier.wait("e1", 3) == frozenset()
    assert await barrier.wait("e1", 4, ["h2"], deadline=2.0) == frozenset()
    assert [one for one in plane.requests if not isinstance(one, Hello)] == [
        Wait(2, "e1", 3, DEADLINE),
        Wait(3, "e1", 4, 2.0, ("h2",)),
    ]
    assert (barrier.passed, barrier.overdue) == (2, 0)


async def test_hosts_that_lag_at_the_deadline_are_named_and_counted(plane: Plane, control: ControlPlane) -> None:
    plane.answers = lambda request: Waited(request.number, ("h2", "h3"))
    barrier = Barrier(control)
    assert await barrier.wait("e1", 3) == {"h2", "h3"}
    assert (barrier.passed, barrier.overdue) == (0, 1)


async def test_without_a_control_plane_there_is_no_wait(away: ControlPlane) -> None:
    with pytest.raises(Unavailable):
        await Barrier(away).wait("e1", 3)
