"""Leases in a real store: one agent is a host at a time, and what is done in a host's name needs its lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from store.errors import LeaseNotHeld
from store.keys import ALL_HOSTS
from store.leases import Lease
from store.store import Store
from store.writer import Writer
from tests import worlds
from tests.store.servers import inside
from tests.waiting import scaled
from tests.worlds import LONG_LEASE, PRODUCTION, lease_of, make_host
from zones.edits import DeleteInstance

FIRST, SECOND = Lease("h1", "first"), Lease("h1", "second")


async def test_one_agent_at_a_time_holds_it(store: Store) -> None:
    await store.leases.renew(FIRST, LONG_LEASE)
    await store.leases.renew(FIRST, LONG_LEASE)
    with pytest.raises(LeaseNotHeld, match="another agent is the host 'h1', and lives"):
        await store.leases.renew(SECOND, LONG_LEASE)
    await store.leases.renew(Lease("h2", "second"), LONG_LEASE)


async def test_it_is_free_when_it_has_ended(store: Store) -> None:
    await store.leases.renew(FIRST, 1)

    async with asyncio.timeout(scaled(10)):
        while True:
            with contextlib.suppress(LeaseNotHeld):
                await store.leases.renew(SECOND, LONG_LEASE)
                break
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(FIRST, LONG_LEASE)


async def test_its_holder_learns_of_a_claim_that_was_refused(store: Store) -> None:
    assert await store.leases.renew(FIRST, LONG_LEASE, where="here") == ""
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(SECOND, LONG_LEASE, where="192.0.2.9:51820, on the machine 'copy'")
    for _ in range(2):
        assert await store.leases.renew(FIRST, LONG_LEASE, where="here") == "192.0.2.9:51820, on the machine 'copy'"


async def test_a_successor_that_waited_is_no_rival(store: Store, store_url: str) -> None:
    await store.leases.renew(FIRST, LONG_LEASE, where="here")
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(SECOND, LONG_LEASE, where="here")
    async with inside(store, store_url) as (redis, keys):
        await redis.delete(keys.lease("h1"))  # as if it had ended
    assert await store.leases.renew(SECOND, LONG_LEASE, where="here") == ""


async def test_a_host_that_is_not_able_keeps_it_and_is_not_live(store: Store) -> None:
    await store.hosts.register(make_host(1))
    await store.leases.renew(FIRST, LONG_LEASE, is_able=False)
    assert await store.leases.live(["h1"]) == frozenset()
    with pytest.raises(LeaseNotHeld):
        await store.leases.renew(SECOND, LONG_LEASE)
    await store.leases.renew(FIRST, LONG_LEASE)
    assert await store.leases.live(["h1"]) == {"h1"}


async def test_the_lease_of_a_release_without_incarnations_is_anybodys(store: Store, store_url: str) -> None:
    async with inside(store, store_url) as (redis, keys):
        await redis.set(keys.lease("h1"), "", px=LONG_LEASE)
    assert await store.leases.live(["h1"]) == {"h1"}
    await store.leases.renew(FIRST, LONG_LEASE)


IN_THE_NAME_OF_A_HOST: dict[str, Callable[[Store, Lease], Awaitable[object]]] = {
    "register": lambda store, lease: store.hosts.register(make_host(1), lease=lease),
    "register the same": lambda store, lease: store.hosts.register(make_host(1, draining=True), lease=lease),
    "change": lambda store, lease: store.hosts.change("h1", lambda _: make_host(1), lease),
    "forget": lambda store, lease: store.hosts.forget("h1", lease),
    "acknowledge": lambda store, lease: store.acks.acknowledge(lease, {PRODUCTION: 1, ALL_HOSTS: 1}),
    "delete an instance": lambda store, lease: Writer(store, lease=lease).edit(
        PRODUCTION, [DeleteInstance("api", "on-h1")], worlds.NOW
    ),
}


@pytest.mark.parametrize("action", IN_THE_NAME_OF_A_HOST)
@pytest.mark.parametrize("holder", ["another", "nobody"])
async def test_what_is_done_in_the_name_of_a_host_needs_its_lease(
    store: Store, store_url: str, action: str, holder: str
) -> None:
    act = IN_THE_NAME_OF_A_HOST[action]
    await store.hosts.register(make_host(1, draining=True))
    await store.environments.commit(worlds.build_on(PRODUCTION, 1, "h1", "h2"), 0)
    if holder == "another":
        await store.leases.renew(SECOND, LONG_LEASE)
    before = await _state(store, store_url)
    with pytest.raises(LeaseNotHeld, match="does not hold the lease of the host 'h1': nothing was changed"):
        await act(store, FIRST)
    assert await _state(store, store_url) == before

    async with inside(store, store_url) as (redis, keys):
        await redis.delete(keys.lease("h1"))
    await store.leases.renew(FIRST, LONG_LEASE)
    await act(store, FIRST)


async def test_an_administrator_needs_none(store: Store) -> None:
    await store.leases.renew(lease_of("h1"), LONG_LEASE)
    await store.hosts.register(make_host(1))
    assert await store.hosts.change("h1", lambda _: make_host(1, draining=True))
    await store.hosts.forget("h1")


async def _state(store: Store, store_url: str) -> dict[bytes, object]:
    """All that the store holds, but how long leases last."""
    async with inside(store, store_url) as (redis, keys):
        return {key: await redis.dump(key) for key in await redis.keys(f"{keys.prefix}*")}
