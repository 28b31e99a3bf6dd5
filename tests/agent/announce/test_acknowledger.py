"""Acknowledging to a control plane: the newest revision of each environment, again where the store has lost it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agent.announce import acknowledger as module
from agent.announce.acknowledger import Acknowledger
from agent.control_plane.connection import ControlPlane
from tests.agent.control_plane.plane import Plane
from tests.waiting import cancel, until
from watcher.session.protocol import Acknowledge, Answer, Done, Failure, Request

ONE = "e1"


@pytest_asyncio.fixture
async def acknowledger(control: ControlPlane) -> AsyncIterator[Acknowledger]:
    made = Acknowledger(control)
    task = asyncio.create_task(made.run())
    yield made
    assert not task.done(), task.exception()
    await cancel(task)


def sent(plane: Plane) -> list[dict[str, int]]:
    """What was acknowledged, call by call."""
    return [dict(one.revisions) for one in plane.requests if isinstance(one, Acknowledge)]


async def test_the_newest_revision_of_each_environment_is_sent(plane: Plane, acknowledger: Acknowledger) -> None:
    for revision in range(1, 50):
        acknowledger.note(ONE, revision)
    await until(lambda: acknowledger.acknowledged == {ONE: 49})
    assert sent(plane) == [{ONE: 49}]


async def test_all_is_sent_again_when_that_is_asked_for(plane: Plane, acknowledger: Acknowledger) -> None:
    acknowledger.note(ONE, 1)
    await until(lambda: acknowledger.acknowledged == {ONE: 1})
    acknowledger.send_all_again()
    assert acknowledger.acknowledged == {}
    await until(lambda: acknowledger.acknowledged == {ONE: 1})
    assert sent(plane) == [{ONE: 1}, {ONE: 1}]


async def test_what_is_sent_again_does_not_replace_a_newer_revision_in_flight(
    plane: Plane, acknowledger: Acknowledger
) -> None:
    acknowledger.note(ONE, 1)
    await until(lambda: acknowledger.acknowledged == {ONE: 1})
    acknowledger.note(ONE, 2)
    await asyncio.sleep(0)  # it is sent, and not answered yet
    assert acknowledger.acknowledged == {ONE: 1}
    acknowledger.send_all_again()
    await until(lambda: acknowledger.acknowledged == {ONE: 2} and not acknowledger._pending | acknowledger._in_flight)
    assert sent(plane)[-1] == {ONE: 2}


async def test_an_older_revision_is_sent_too_for_the_store_may_have_been_restored(
    plane: Plane, acknowledger: Acknowledger
) -> None:
    for revision in (5, 2):
        acknowledger.note(ONE, revision)
        await until(lambda: acknowledger.acknowledged == {ONE: revision})  # noqa: B023 read before the next round
    assert sent(plane) == [{ONE: 5}, {ONE: 2}]


async def test_a_withdrawn_environment_is_not_acknowledged(plane: Plane, acknowledger: Acknowledger) -> None:
    acknowledger.note(ONE, 3)
    acknowledger.forget(ONE)
    acknowledger.note("@hosts", 0)
    await until(lambda: "@hosts" in acknowledger.acknowledged)
    assert sent(plane) == [{"@hosts": 0}]


async def test_what_the_control_plane_does_not_take_is_sent_again_with_what_came_since(
    plane: Plane, acknowledger: Acknowledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)

    def refuse(request: Request) -> Answer | Failure:
        return Failure(request.number, "lease", "another agent is the host 'h1', and lives")

    plane.answers = refuse
    acknowledger.note(ONE, 3)
    await until(lambda: acknowledger._problem)
    acknowledger.note("e2", 4)
    plane.answers = lambda request: Done(request.number)
    await until(lambda: acknowledger.acknowledged == {ONE: 3, "e2": 4})
    assert acknowledger._problem == ""
