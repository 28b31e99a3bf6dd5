"""Waiting for other hosts, and acknowledging to them: acknowledgements and leases in a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from msgspec.structs import replace

from agent.announce.acknowledger import Acknowledger
from agent.announce.barrier import Barrier
from store.store import Store
from tests.agent.worlds import environment
from tests.waiting import until

ONE = environment(1, [1, 2, 3])
LONG = 60_000  # milliseconds of a lease that nobody outlives here


@pytest_asyncio.fixture
async def world(store: Store) -> AsyncIterator[Store]:
    """A store with one environment on three hosts, all alive."""
    await store.environments.commit(ONE, 0)
    for host in ("h1", "h2", "h3"):
        await store.hosts.renew_lease(host, LONG)
    yield store


async def test_it_opens_when_the_last_host_has_the_revision(world: Store) -> None:
    barrier = Barrier(world)
    waiting = asyncio.create_task(barrier.wait(ONE.id, 1, ["h1", "h2", "h3"]))
    for host in ("h1", "h2"):
        await world.acks.acknowledge(host, {ONE.id: 1})
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await world.acks.acknowledge("h3", {ONE.id: 1})
    assert await waiting == frozenset()
    assert (barrier.passed, barrier.overdue) == (1, 0)


async def test_a_newer_revision_counts_as_well(world: Store) -> None:
    await world.acks.acknowledge("h1", {ONE.id: 7})
    assert await Barrier(world).wait(ONE.id, 1, ["h1"]) == frozenset()


async def test_a_host_that_dies_is_waited_for_until_its_lease_ends(world: Store) -> None:
    await world.hosts.renew_lease("h1", 300)
    waiting = asyncio.create_task(Barrier(world).wait(ONE.id, 1, ["h1"]))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    assert await waiting == frozenset()


async def test_a_host_that_lives_and_does_not_get_there_is_named_at_the_deadline(world: Store) -> None:
    barrier = Barrier(world)
    assert await barrier.wait(ONE.id, 1, ["h1"], deadline=0.1) == {"h1"}
    assert (barrier.passed, barrier.overdue) == (0, 1)


async def test_nobody_is_waited_for_where_there_is_nobody(world: Store) -> None:
    assert await Barrier(world).wait(ONE.id, 1, []) == frozenset()


# Acknowledging


async def test_the_newest_of_each_is_given(world: Store) -> None:
    acknowledger = Acknowledger(world, "h1")
    task = asyncio.create_task(acknowledger.run())
    for revision in range(1, 50):
        acknowledger.note(ONE.id, revision)
    await until(lambda: acknowledger.acknowledged == {ONE.id: 49})
    assert (await world.acks.read(ONE.id))["h1"] == 49
    task.cancel()


async def test_what_the_store_has_lost_is_given_again(world: Store) -> None:
    acknowledger = Acknowledger(world, "h1")
    task = asyncio.create_task(acknowledger.run())
    acknowledger.note(ONE.id, 1)
    await until(lambda: acknowledger.acknowledged == {ONE.id: 1})
    await world.environments.delete(ONE)  # with all its acknowledgements
    await world.environments.commit(replace(environment(2, [1]), id=ONE.id, revision=3), 2)
    acknowledger.send_all_again()
    assert acknowledger.acknowledged == {}
    await until(lambda: acknowledger.acknowledged == {ONE.id: 1})
    assert await world.acks.read(ONE.id) == {"h1": 1}
    task.cancel()


async def test_what_is_given_again_does_not_follow_what_is_newer_and_on_its_way(world: Store) -> None:
    acknowledger = Acknowledger(world, "h1")
    task = asyncio.create_task(acknowledger.run())
    acknowledger.note(ONE.id, 1)
    await until(lambda: acknowledger.acknowledged == {ONE.id: 1})
    acknowledger.note(ONE.id, 2)
    await asyncio.sleep(0)  # it is sent, and the store has not answered
    assert acknowledger.acknowledged == {ONE.id: 1}
    acknowledger.send_all_again()
    await until(
        lambda: acknowledger.acknowledged == {ONE.id: 2} and not acknowledger._pending | acknowledger._in_flight
    )
    assert (await world.acks.read(ONE.id))["h1"] == 2
    task.cancel()


async def test_an_older_revision_is_given_too_for_the_store_may_have_been_restored(world: Store) -> None:
    acknowledger = Acknowledger(world, "h1")
    task = asyncio.create_task(acknowledger.run())
    for revision in (5, 2):
        acknowledger.note(ONE.id, revision)
        await until(lambda: acknowledger.acknowledged == {ONE.id: revision})  # noqa: B023 read before the next round
    assert (await world.acks.read(ONE.id))["h1"] == 2
    task.cancel()


async def test_what_was_forgotten_is_not_given(world: Store) -> None:
    acknowledger = Acknowledger(world, "h1")
    acknowledger.note(ONE.id, 3)
    acknowledger.forget(ONE.id)
    acknowledger.note("@hosts", 0)
    task = asyncio.create_task(acknowledger.run())
    await until(lambda: "@hosts" in acknowledger.acknowledged)
    assert "h1" not in await world.acks.read(ONE.id)
    task.cancel()
