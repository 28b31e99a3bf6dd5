"""Acknowledging to a real store: the newest revision of each environment, again where the store has lost it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from msgspec.structs import replace

from agent.announce.acknowledger import Acknowledger
from store.store import Store
from tests.agent.worlds import environment
from tests.waiting import until
from tests.worlds import lease_of

ONE = environment(1, [1, 2, 3])
LONG = 60_000  # milliseconds of a lease that does not end during a test


@pytest_asyncio.fixture
async def world(store: Store) -> AsyncIterator[Store]:
    """A store with one environment on three hosts, all alive."""
    await store.environments.commit(ONE, 0)
    for host in ("h1", "h2", "h3"):
        await store.leases.renew(lease_of(host), LONG)
    yield store


async def test_the_newest_revision_of_each_environment_is_sent(world: Store) -> None:
    acknowledger = Acknowledger(world, lease_of("h1"))
    task = asyncio.create_task(acknowledger.run())
    for revision in range(1, 50):
        acknowledger.note(ONE.id, revision)
    await until(lambda: acknowledger.acknowledged == {ONE.id: 49})
    assert (await world.acks.read(ONE.id))["h1"] == 49
    task.cancel()


async def test_what_the_store_has_lost_is_sent_again(world: Store) -> None:
    acknowledger = Acknowledger(world, lease_of("h1"))
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


async def test_what_is_sent_again_does_not_replace_a_newer_revision_in_flight(world: Store) -> None:
    acknowledger = Acknowledger(world, lease_of("h1"))
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


async def test_an_older_revision_is_sent_too_for_the_store_may_have_been_restored(world: Store) -> None:
    acknowledger = Acknowledger(world, lease_of("h1"))
    task = asyncio.create_task(acknowledger.run())
    for revision in (5, 2):
        acknowledger.note(ONE.id, revision)
        await until(lambda: acknowledger.acknowledged == {ONE.id: revision})  # noqa: B023 read before the next round
    assert (await world.acks.read(ONE.id))["h1"] == 2
    task.cancel()


async def test_a_withdrawn_environment_is_not_acknowledged(world: Store) -> None:
    acknowledger = Acknowledger(world, lease_of("h1"))
    acknowledger.note(ONE.id, 3)
    acknowledger.forget(ONE.id)
    acknowledger.note("@hosts", 0)
    task = asyncio.create_task(acknowledger.run())
    await until(lambda: "@hosts" in acknowledger.acknowledged)
    assert "h1" not in await world.acks.read(ONE.id)
    task.cancel()
