"""Waiting for the acknowledgements of live hosts, in a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agent.announce.barrier import Barrier
from store.store import Store
from tests.agent.announce.asking import Asked
from tests.agent.worlds import environment
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


async def test_the_wait_ends_when_the_last_host_has_the_revision(world: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked.of(world, monkeypatch)
    barrier = Barrier(world)
    waiting = asyncio.create_task(barrier.wait(ONE.id, 1, ["h1", "h2", "h3"]))
    for host in ("h1", "h2"):
        await world.acks.acknowledge(lease_of(host), {ONE.id: 1})
    await asked.again("h3")
    assert not waiting.done()
    await world.acks.acknowledge(lease_of("h3"), {ONE.id: 1})
    assert await waiting == frozenset()
    assert (barrier.passed, barrier.overdue) == (1, 0)


async def test_a_newer_revision_counts_as_well(world: Store) -> None:
    await world.acks.acknowledge(lease_of("h1"), {ONE.id: 7})
    assert await Barrier(world).wait(ONE.id, 1, ["h1"]) == frozenset()


async def test_a_host_that_dies_is_waited_for_until_its_lease_ends(
    world: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked.of(world, monkeypatch)
    waiting = asyncio.create_task(Barrier(world).wait(ONE.id, 1, ["h1"]))
    await asked.again("h1")
    assert not waiting.done()
    await world.leases.renew(lease_of("h1"), 1)  # millisecond, and then no more
    assert await waiting == frozenset()


async def test_a_host_that_lives_and_does_not_acknowledge_is_named_at_the_deadline(world: Store) -> None:
    barrier = Barrier(world)
    assert await barrier.wait(ONE.id, 1, ["h1"], deadline=0.1) == {"h1"}
    assert (barrier.passed, barrier.overdue) == (0, 1)


async def test_without_hosts_there_is_no_wait(world: Store) -> None:
    assert await Barrier(world).wait(ONE.id, 1, []) == frozenset()
