"""Which of two new peers begins the handshake, and when: once the other one has it as a peer."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from agent.announce.barrier import Barrier
from agent.announce.handshakes import Handshakes
from agent.control_plane.connection import ControlPlane
from tests.agent.control_plane.plane import Plane
from tests.agent.worlds import environment, host
from tests.waiting import until
from watcher.session.protocol import Wait, Waited, encode
from zones.hosts import Host

ONE = environment(1, [1, 2, 3])
FIRST, SECOND, THIRD = host(1), host(2), host(3)  # their keys ascend


async def test_the_host_with_the_smaller_key_begins_once_the_other_has_acknowledged(
    plane: Plane, control: ControlPlane
) -> None:
    plane.answers = lambda _: None
    handshakes, woken = Handshakes(Barrier(control)), asyncio.Event()
    handshakes.schedule(SECOND, [FIRST, THIRD], [ONE], woken.set)
    await until(lambda: len(plane.requests) == 2)
    asked = plane.requests[1]
    assert isinstance(asked, Wait)
    # Not for the first, whose key is smaller: it begins itself.
    assert (asked.id, asked.revision, asked.hosts) == (ONE.id, ONE.revision, ("h3",))
    assert handshakes.take_due() == set()  # the third host does not have us as a peer yet
    handshakes.begin([FIRST.public_key, THIRD.public_key])  # as when the address changes: it would be lost for 5 s
    assert handshakes.take_due() == {FIRST.public_key}
    await plane.sockets[0].send_bytes(encode(Waited(asked.number)))
    await until(woken.is_set)
    assert handshakes.take_due() == {THIRD.public_key}
    assert handshakes.take_due() == set()


@pytest.mark.parametrize(
    ("me", "other", "begins"),
    [
        (host(1), replace(host(2), behind_nat=True), False),
        (host(2), replace(host(1), behind_nat=True), False),
        (replace(host(1), behind_nat=True), host(2), True),
        (replace(host(2), behind_nat=True), host(1), True),
        (replace(host(1), behind_nat=True), replace(host(2), behind_nat=True), True),
        (replace(host(2), behind_nat=True), replace(host(1), behind_nat=True), False),
    ],
)
async def test_the_host_behind_nat_begins(
    plane: Plane, control: ControlPlane, me: Host, other: Host, begins: bool
) -> None:
    plane.answers = lambda request: Waited(request.number)
    handshakes, woken = Handshakes(Barrier(control)), asyncio.Event()
    handshakes.schedule(me, [other], [ONE], woken.set)
    assert list(handshakes.waiting) == ([other.public_key] if begins else [])
    if begins:
        await until(woken.is_set)
    assert handshakes.take_due() == ({other.public_key} if begins else set())
    assert not handshakes.waiting


async def test_with_a_host_that_does_not_acknowledge_there_is_no_handshake(plane: Plane, control: ControlPlane) -> None:
    plane.answers = lambda request: Waited(request.number, ("h2",))
    handshakes = Handshakes(Barrier(control))
    handshakes.schedule(FIRST, [SECOND], [ONE], lambda: None)
    await until(lambda: not handshakes._tasks)
    assert handshakes.take_due() == set()


async def test_a_host_that_shares_no_environment_with_us_gets_no_handshake(control: ControlPlane) -> None:
    handshakes = Handshakes(Barrier(control))
    handshakes.schedule(FIRST, [host(9)], [ONE], lambda: None)
    assert not handshakes._tasks


async def test_with_the_control_plane_away_no_handshake_is_begun(away: ControlPlane) -> None:
    handshakes = Handshakes(Barrier(away))
    handshakes.schedule(FIRST, [SECOND], [ONE], lambda: None)
    await until(lambda: not handshakes._tasks)
    assert handshakes.take_due() == set()
