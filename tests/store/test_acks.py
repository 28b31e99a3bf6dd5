"""Acknowledgements in a real store: which hosts have programmed a revision, and which lag."""

from __future__ import annotations

import asyncio

from store.errors import LeaseNotHeld
from store.keys import ALL_HOSTS
from store.leases import Lease
from store.store import Store
from tests import worlds
from tests.store.servers import Proxy, StartServer, inside, opened
from tests.worlds import LONG_LEASE, PRODUCTION, STAGING, build_on, lease_of, make_host
from zones.edits import DeleteInstance, PutInstance, SetEnabled, apply
from zones.model import Environment
from zones.names import EnvironmentId


async def three_hosts(store: Store) -> Environment:
    """Production with a member on each of three hosts, all registered and alive."""
    environment = build_on(PRODUCTION, 1, "h1", "h2", "h3")
    await store.environments.commit(environment, 0)
    for number in (1, 2, 3):
        await store.hosts.register(make_host(number))
        await store.leases.renew(lease_of(f"h{number}"), LONG_LEASE)
    return environment


# Lagging


async def test_a_host_that_has_not_acknowledged_lags(store: Store) -> None:
    revision = (await three_hosts(store)).revision
    hosts = ["h1", "h2", "h3"]
    assert await store.acks.lagging(PRODUCTION, revision, hosts) == {"h1", "h2", "h3"}
    await store.acks.acknowledge(lease_of("h1"), {PRODUCTION: revision})
    await store.acks.acknowledge(lease_of("h2"), {PRODUCTION: revision - 1})
    assert await store.acks.lagging(PRODUCTION, revision, hosts) == {"h2", "h3"}
    assert await store.acks.lagging(PRODUCTION, revision - 1, hosts) == {"h3"}
    assert await store.acks.lagging(PRODUCTION, revision + 1, ["h1"]) == {"h1"}
    assert await store.acks.lagging(PRODUCTION, revision, []) == frozenset()
    assert await store.acks.read(PRODUCTION) == {"h1": revision, "h2": revision - 1}


async def test_a_host_without_a_lease_does_not_lag(store: Store, store_url: str) -> None:
    revision = (await three_hosts(store)).revision
    async with inside(store, store_url) as (redis, keys):
        await redis.delete(keys.lease("h2"))
    assert await store.acks.lagging(PRODUCTION, revision, ["h1", "h2", "h3", "never"]) == {"h1", "h3"}


async def test_a_host_that_lost_its_last_member_does_not_lag(store: Store) -> None:
    """It will never program the revision, and it serves nothing of the environment any more."""
    environment = await three_hosts(store)
    left = apply(environment, [DeleteInstance("api", "on-h2")], worlds.NOW)
    await store.environments.commit(left, environment.revision)
    assert await store.acks.lagging(PRODUCTION, environment.revision, ["h1", "h2", "h3"]) == {"h1", "h3"}
    await store.environments.delete(left)
    assert await store.acks.lagging(PRODUCTION, environment.revision, ["h1", "h2", "h3"]) == frozenset()


async def test_the_revision_of_all_hosts_is_acknowledged_too(store: Store) -> None:
    await three_hosts(store)
    await store.acks.acknowledge(lease_of("h1"), {ALL_HOSTS: 3, PRODUCTION: 2})
    assert await store.acks.lagging(ALL_HOSTS, 3, ["h1", "h2", "h3"]) == {"h2", "h3"}
    assert await store.acks.read(ALL_HOSTS) == {"h1": 3}


async def test_asking_which_hosts_lag_is_one_round_trip(start_server: StartServer) -> None:
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        revision = (await three_hosts(store)).revision
        await store.acks.lagging(PRODUCTION, revision, ["h1"])  # the server knows the script from now on
        requests = proxy.requests
        assert await store.acks.lagging(PRODUCTION, revision, ["h1", "h2", "h3"]) == {"h1", "h2", "h3"}
        assert proxy.requests == requests + 1


# Acknowledging


async def test_acknowledgements_that_come_together_are_one_round_trip_and_each_has_its_own_outcome(
    start_server: StartServer,
) -> None:
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await three_hosts(store)
        await store.environments.commit(build_on(STAGING, 2, "h1"), 0)
        await store.acks.acknowledge(lease_of("h3"), {PRODUCTION: 1})  # the server knows the script from now on
        requests = proxy.requests
        outcomes = await asyncio.gather(
            store.acks.acknowledge(lease_of("h1"), {PRODUCTION: 2, STAGING: 1, ALL_HOSTS: 3}),
            store.acks.acknowledge(Lease("h2", "a copy of its disk"), {PRODUCTION: 9, ALL_HOSTS: 9}),
            store.acks.acknowledge(lease_of("h3"), {}),
            store.acks.acknowledge(lease_of("h3"), {STAGING: 5, PRODUCTION: 3}),  # it has no member of the first
            return_exceptions=True,
        )
        assert proxy.requests == requests + 1
        assert [type(outcome) for outcome in outcomes] == [type(None), LeaseNotHeld, type(None), type(None)]
        assert await store.acks.read(PRODUCTION) == {"h1": 2, "h3": 3}
        assert (await store.acks.read(STAGING), await store.acks.read(ALL_HOSTS)) == ({"h1": 1}, {"h1": 3})


async def test_several_environments_are_acknowledged_at_once(store: Store) -> None:
    await three_hosts(store)
    await store.environments.commit(build_on(STAGING, 2, "h1"), 0)
    await store.acks.acknowledge(lease_of("h1"), {})
    await store.acks.acknowledge(lease_of("h1"), {PRODUCTION: 2, STAGING: 1, ALL_HOSTS: 3, EnvironmentId("nosuch"): 7})
    assert await store.acks.read(PRODUCTION) == {"h1": 2}
    assert await store.acks.read(STAGING) == {"h1": 1}
    assert await store.acks.read(ALL_HOSTS) == {"h1": 3}
    assert await store.acks.read("nosuch") == {}


async def test_an_older_revision_can_be_acknowledged(store: Store) -> None:
    """After a data set was restored from a copy, the newest revision is an older one."""
    await three_hosts(store)
    for revision in (7, 2):
        await store.acks.acknowledge(lease_of("h1"), {PRODUCTION: revision})
        assert await store.acks.read(PRODUCTION) == {"h1": revision}


async def test_the_acknowledgements_of_a_host_that_left_are_removed_and_refused(store: Store, store_url: str) -> None:
    environment = await three_hosts(store)
    for id_ in ("h1", "h2"):
        await store.acks.acknowledge(lease_of(id_), {PRODUCTION: environment.revision})
    after = apply(environment, [DeleteInstance("api", "on-h2")], worlds.NOW)
    await store.environments.commit(after, environment.revision)
    assert await store.acks.read(PRODUCTION) == {"h1": environment.revision}
    await store.acks.acknowledge(lease_of("h2"), {PRODUCTION: environment.revision})
    assert await store.acks.read(PRODUCTION) == {"h1": environment.revision}
    await store.environments.delete(after)
    await store.acks.acknowledge(lease_of("h1"), {PRODUCTION: environment.revision})
    await store.leases.renew(lease_of("h9"), LONG_LEASE)
    await store.acks.acknowledge(lease_of("h9"), {ALL_HOSTS: 1})
    async with inside(store, store_url) as (redis, keys):
        assert await redis.exists(keys.acks(PRODUCTION), keys.acks(ALL_HOSTS)) == 0


async def test_a_host_that_comes_back_can_acknowledge_again(store: Store) -> None:
    environment = await three_hosts(store)
    for edit in (DeleteInstance("api", "on-h2"), PutInstance("api", "again", host="h2")):
        before, environment = environment, apply(environment, [edit], worlds.NOW)
        await store.environments.commit(environment, before.revision)
    await store.acks.acknowledge(lease_of("h2"), {PRODUCTION: environment.revision})
    assert await store.acks.lagging(PRODUCTION, environment.revision, ["h2"]) == frozenset()


async def test_an_entry_of_a_release_without_hosts_can_be_acknowledged(store: Store, store_url: str) -> None:
    environment = await three_hosts(store)
    async with inside(store, store_url) as (redis, keys):
        entry = await redis.hget(keys.environments, PRODUCTION)
        await redis.hset(keys.environments, PRODUCTION, b" ".join(entry.split()[:2]))
    await store.acks.acknowledge(lease_of("h1"), {PRODUCTION: environment.revision})
    assert await store.acks.lagging(PRODUCTION, environment.revision, ["h1", "h2"]) == {"h2"}
    following = apply(environment, [SetEnabled(False)], worlds.NOW)
    await store.environments.commit(following, environment.revision)
    assert await store.acks.read(PRODUCTION) == {"h1": environment.revision}
