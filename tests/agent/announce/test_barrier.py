"""Waiting for the acknowledgements of other hosts: what the control plane is asked, and what becomes of its answer."""

from __future__ import annotations

import asyncio

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


async def test_those_who_wait_for_the_same_ask_once(plane: Plane, control: ControlPlane) -> None:
    """As attaches at once do, whose commits were made together."""
    plane.answers = lambda request: Waited(request.number)
    barrier = Barrier(control)
    await asyncio.gather(*(barrier.wait("e1", 3) for _ in range(5)), barrier.wait("e1", 4))
    assert [one for one in plane.requests if not isinstance(one, Hello)] == [
        Wait(2, "e1", 3, DEADLINE),
        Wait(3, "e1", 4, DEADLINE),
    ]
    assert (barrier.passed, barrier.overdue) == (6, 0)
    await barrier.wait("e1", 3)  # it is asked again when it is answered
    assert len(plane.requests) == 4


async def test_who_joins_a_wait_that_ends_at_its_deadline_waits_on(plane: Plane, control: ControlPlane) -> None:
    lagging = [("h2",), ()]
    plane.answers = lambda request: Waited(request.number, lagging.pop(0))
    barrier = Barrier(control)
    first, second = await asyncio.gather(barrier.wait("e1", 3), barrier.wait("e1", 3))
    assert first == {"h2"}
    assert second == frozenset()
    assert (barrier.passed, barrier.overdue) == (1, 1)


async def test_who_goes_on_waiting_does_not_mind_who_gives_up(plane: Plane, control: ControlPlane) -> None:
    plane.answers = lambda request: Waited(request.number)
    barrier = Barrier(control)
    first, second = (asyncio.create_task(barrier.wait("e1", 3)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == frozenset()


async def test_without_a_control_plane_there_is_no_wait(away: ControlPlane) -> None:
    with pytest.raises(Unavailable):
        await Barrier(away).wait("e1", 3)
