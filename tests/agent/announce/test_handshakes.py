"""Which of two new peers begins the handshake, and when: once the other one has it as a peer."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from agent.announce.barrier import Barrier
from agent.announce.handshakes import Handshakes
from store.store import Store
from tests.agent.announce.asking import Asked
from tests.agent.worlds import environment, host
from tests.waiting import until
from tests.worlds import lease_of
from zones.hosts import Host

ONE = environment(1, [1, 2, 3])
FIRST, SECOND, THIRD = host(1), host(2), host(3)  # their keys ascend
LONG = 60_000  # milliseconds


async def test_the_host_with_the_smaller_key_begins_once_the_other_has_acknowledged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked.of(store, monkeypatch)
    await store.environments.commit(ONE, 0)
    for each in (FIRST, SECOND, THIRD):
        await store.hosts.register(each)
        await store.leases.renew(lease_of(each.id), LONG)
    handshakes, woken = Handshakes(Barrier(store)), asyncio.Event()
    handshakes.schedule(SECOND, [FIRST, THIRD], [ONE], woken.set)
    await asked.again("h3")
    assert handshakes.take_due() == set()  # the third host does not have us as a peer yet
    await store.acks.acknowledge(lease_of("h1"), {ONE.id: 1})
    await store.acks.acknowledge(lease_of("h3"), {ONE.id: 1})
    await until(woken.is_set)
    assert handshakes.take_due() == {THIRD.public_key}  # and not the first, whose key is smaller: it begins itself
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
async def test_the_host_behind_nat_begins(store: Store, me: Host, other: Host, begins: bool) -> None:
    await store.environments.commit(ONE, 0)
    await store.hosts.register(other)
    await store.leases.renew(lease_of(other.id), LONG)
    await store.acks.acknowledge(lease_of(other.id), {ONE.id: 1})
    handshakes, woken = Handshakes(Barrier(store)), asyncio.Event()
    handshakes.schedule(me, [other], [ONE], woken.set)
    assert list(handshakes.waiting) == ([other.public_key] if begins else [])
    if begins:
        await until(woken.is_set)
    assert handshakes.take_due() == ({other.public_key} if begins else set())
    assert not handshakes.waiting


async def test_a_host_that_shares_no_environment_with_us_gets_no_handshake(store: Store) -> None:
    handshakes = Handshakes(Barrier(store))
    handshakes.schedule(FIRST, [host(9)], [ONE], lambda: None)
    assert not handshakes._tasks


async def test_with_the_store_away_no_handshake_is_begun(store: Store) -> None:
    away = Store("unix:///nobody/there.sock")
    handshakes = Handshakes(Barrier(away))
    handshakes.schedule(FIRST, [SECOND], [ONE], lambda: None)
    await until(lambda: not handshakes._tasks)
    assert handshakes.take_due() == set()
    await away.close()
