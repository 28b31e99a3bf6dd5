"""Hosts in the store: who they are, whether they live, and what they have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from store.changes import Change
from store.errors import EndpointTaken, HostChanged, KeyTaken, StoreError
from store.hosts import Hosts
from store.keys import ALL_HOSTS
from store.store import Store
from tests import worlds
from tests.watcher.conftest import StartServer
from tests.watcher.harness import Proxy, inside, opened, until
from tests.worlds import PRODUCTION, STAGING, build
from zones.edits import DeleteInstance, PutInstance, PutService, SetEnabled, apply
from zones.hosts import Host, encode_host
from zones.model import Environment
from zones.names import EnvironmentId

LONG = 60_000  # milliseconds of a lease that does not end within a test


def host(number: int, **fields: Any) -> Host:
    """The ``number``-th host, with a key and an endpoint of its own."""
    return replace(Host(f"h{number}", f"192.0.2.{number}:51820", worlds.public_key(number)), **fields)


def placed(id_: str, bits: int, *hosts: str) -> Environment:
    """An environment with an instance on each of ``hosts``."""
    return build(id_, bits, PutService("api"), *(PutInstance("api", f"on-{one}", host=one) for one in hosts))


# Who they are


async def test_there_are_none_at_first(store: Store) -> None:
    assert await store.hosts.read() == Hosts(0, {}, {})


async def test_who_is_registered_is_known(store: Store) -> None:
    assert await store.hosts.register(host(1)) == 1
    assert await store.hosts.register(host(2, region="eu")) == 2
    assert await store.hosts.read() == Hosts(2, {"h1": host(1), "h2": host(2, region="eu")}, {})
    one, other = await store.changes.read_after("0-0")
    assert one == Change(one.position, "0-0", EnvironmentId(""), 1, None, "h1")
    assert other == Change(other.position, one.position, EnvironmentId(""), 2, None, "h2")
    assert (await store.changes.position()).epoch


async def test_to_register_again_changes_nothing(store: Store) -> None:
    await store.hosts.register(host(1))
    await store.hosts.register(host(2))
    position = await store.changes.position()
    assert await store.hosts.register(host(1)) == 2
    assert await store.changes.position() == position
    assert await store.hosts.register(host(1, draining=True)) == 3
    assert (await store.changes.position()) != position


async def test_changes_of_hosts_and_environments_are_one_chain(store: Store) -> None:
    await store.hosts.register(host(1))
    await store.environments.commit(build("production", 1), 0)
    await store.hosts.forget("h1")
    await store.environments.delete(build("production", 1))
    changes = await store.changes.read_after("0-0")
    assert [change.previous for change in changes] == ["0-0", *(change.position for change in changes[:-1])]
    assert [(change.environment, change.host) for change in changes] == [
        ("", "h1"),
        (PRODUCTION, None),
        ("", "h1"),
        (PRODUCTION, None),
    ]


TAKEN: dict[str, tuple[dict[str, Any], dict[str, Any], type[StoreError], str]] = {
    # what: (the fields of the host that is there, those of the one that comes, error, fragment of the message)
    "key": ({}, {"public_key": worlds.public_key(1)}, KeyTaken, "host 'h1' has this public key"),
    "key that is to be another's": (
        {"next_public_key": worlds.public_key(9)},
        {"public_key": worlds.public_key(9)},
        KeyTaken,
        "'h1'",
    ),
    "next key": ({}, {"next_public_key": worlds.public_key(1)}, KeyTaken, "'h1'"),
    "next key of both": (
        {"next_public_key": worlds.public_key(9)},
        {"next_public_key": worlds.public_key(9)},
        KeyTaken,
        "'h1'",
    ),
    "endpoint": ({}, {"endpoint": "192.0.2.1:51820"}, EndpointTaken, "'h1' is registered at 192.0.2.1:51820"),
}


@pytest.mark.parametrize("what", TAKEN)
async def test_what_is_anothers_is_refused(store: Store, what: str) -> None:
    """Be that other alive or not: none of them has a lease here."""
    theirs, ours, error, fragment = TAKEN[what]
    await store.hosts.register(host(1, **theirs))
    await store.hosts.register(host(2))
    before = (await store.hosts.read(), await store.changes.position())
    for id_ in ("h2", "h3"):
        with pytest.raises(error, match=fragment):
            await store.hosts.register(replace(host(int(id_[1])), **ours))
    assert (await store.hosts.read(), await store.changes.position()) == before
    await store.hosts.forget("h1")
    await store.hosts.register(replace(host(2), **ours))


async def test_a_host_can_change_all_that_is_its_own(store: Store) -> None:
    await store.hosts.register(host(1, next_public_key=worlds.public_key(9)))
    await store.hosts.register(host(2))
    switched = host(1, public_key=worlds.public_key(9), endpoint="[2001:db8::1]:51820", region="eu")
    assert await store.hosts.register(switched) == 3
    assert await store.hosts.register(host(3, public_key=worlds.public_key(1), endpoint="192.0.2.1:51820")) == 4
    assert (await store.hosts.read()).hosts["h1"] == switched


async def test_of_many_who_want_one_key_one_gets_it(store: Store, store_url: str) -> None:
    async with opened(store_url, store.connection.keys.prefix) as other:
        outcomes = await asyncio.gather(
            *(
                (store, other)[number % 2].hosts.register(host(number, public_key=worlds.public_key(1)))
                for number in range(1, 21)
            ),
            return_exceptions=True,
        )
    assert [isinstance(outcome, KeyTaken) for outcome in outcomes].count(True) == 19
    found = await store.hosts.read()
    assert (found.revision, len(found.hosts)) == (1, 1)


async def test_what_is_forgotten_leaves_nothing_behind(store: Store, store_url: str) -> None:
    await store.hosts.register(host(1))
    await store.hosts.renew_lease("h1", LONG)
    await store.acks.acknowledge("h1", {ALL_HOSTS: 1})
    assert await store.acks.read(ALL_HOSTS) == {"h1": 1}
    await store.hosts.forget("h1")
    assert await store.hosts.read() == Hosts(2, {}, {})
    assert await store.hosts.live(["h1"]) == frozenset()
    assert await store.acks.read(ALL_HOSTS) == {}
    position = await store.changes.position()
    await store.hosts.forget("h1")
    assert await store.changes.position() == position
    assert await store.hosts.register(host(1)) == 3
    async with inside(store, store_url) as (redis, keys):
        assert await redis.exists(keys.lease("h1"), keys.acks(ALL_HOSTS)) == 0


UNREADABLE = {
    b"": "not a document of a host",
    b"{": "not a document of a host",
    b"[1]": "not a document of a host",
    b'"x"': "not a document of a host",
    b"7": "not a document of a host",
    encode_host(host(8)): "says that it is 'h8'",
    encode_host(host(9)).replace(b":51820", b""): "not an endpoint",
}


@pytest.mark.parametrize(("written", "fragment"), UNREADABLE.items())
async def test_a_host_that_cannot_be_read_is_named(store: Store, store_url: str, written: bytes, fragment: str) -> None:
    await store.hosts.register(host(1))
    async with inside(store, store_url) as (redis, keys):
        await redis.hset(keys.hosts, "h9", written)
    await store.hosts.register(host(2))
    found = await store.hosts.read()
    assert found.hosts == {"h1": host(1), "h2": host(2)}
    assert list(found.unreadable) == ["h9"]
    assert fragment in found.unreadable["h9"]
    await store.hosts.register(host(9))  # it mends itself
    assert (await store.hosts.read()).hosts["h9"] == host(9)


async def test_a_registration_whose_reply_is_lost_was_made(start_server: StartServer) -> None:
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await store.hosts.register(host(1))
        proxy.cut_after = b"EVALSHA"
        assert await store.hosts.register(host(2)) == 2
        assert proxy.cuts == 1
        assert [change.host for change in await store.changes.read_after("0-0")] == ["h1", "h2"]
        proxy.cut_after = b"EVALSHA"
        with pytest.raises(StoreError):
            await store.hosts.register(host(3, public_key=worlds.public_key(1)))
        assert proxy.cuts == 2
        assert "h3" not in (await store.hosts.read()).hosts


# Whether they live


async def test_a_lease_ends(store: Store) -> None:
    await store.hosts.renew_lease("h1", LONG)
    await store.hosts.renew_lease("h2", LONG)
    assert await store.hosts.live(["h1", "h2", "h3"]) == {"h1", "h2"}
    assert await store.hosts.live([]) == frozenset()
    await store.hosts.renew_lease("h1", 1)
    alive = {"h1", "h2"}

    async def watch() -> None:
        nonlocal alive
        while alive != {"h2"}:
            alive = set(await store.hosts.live(["h1", "h2"]))

    watching = asyncio.create_task(watch())
    await until(watching.done, "h1 is dead")
    await watching


# What they have


async def everybody(store: Store) -> Environment:
    """Production with a member on each of three hosts, all registered and alive."""
    environment = placed(PRODUCTION, 1, "h1", "h2", "h3")
    await store.environments.commit(environment, 0)
    for number in (1, 2, 3):
        await store.hosts.register(host(number))
        await store.hosts.renew_lease(f"h{number}", LONG)
    return environment


async def test_who_has_not_acknowledged_lags(store: Store) -> None:
    revision = (await everybody(store)).revision
    hosts = ["h1", "h2", "h3"]
    assert await store.acks.lagging(PRODUCTION, revision, hosts) == {"h1", "h2", "h3"}
    await store.acks.acknowledge("h1", {PRODUCTION: revision})
    await store.acks.acknowledge("h2", {PRODUCTION: revision - 1})
    assert await store.acks.lagging(PRODUCTION, revision, hosts) == {"h2", "h3"}
    assert await store.acks.lagging(PRODUCTION, revision - 1, hosts) == {"h3"}
    assert await store.acks.lagging(PRODUCTION, revision + 1, ["h1"]) == {"h1"}
    assert await store.acks.lagging(PRODUCTION, revision, []) == frozenset()
    assert await store.acks.read(PRODUCTION) == {"h1": revision, "h2": revision - 1}


async def test_the_dead_do_not_lag(store: Store, store_url: str) -> None:
    revision = (await everybody(store)).revision
    async with inside(store, store_url) as (redis, keys):
        await redis.delete(keys.lease("h2"))
    assert await store.acks.lagging(PRODUCTION, revision, ["h1", "h2", "h3", "never"]) == {"h1", "h3"}


async def test_who_has_left_does_not_lag(store: Store) -> None:
    """It will never have the revision that it is asked for, and answers nothing of the environment any more."""
    environment = await everybody(store)
    left = apply(environment, [DeleteInstance("api", "on-h2")], worlds.NOW)
    await store.environments.commit(left, environment.revision)
    assert await store.acks.lagging(PRODUCTION, environment.revision, ["h1", "h2", "h3"]) == {"h1", "h3"}
    await store.environments.delete(left)
    assert await store.acks.lagging(PRODUCTION, environment.revision, ["h1", "h2", "h3"]) == frozenset()


async def test_all_hosts_can_be_waited_for_too(store: Store) -> None:
    await everybody(store)
    await store.acks.acknowledge("h1", {ALL_HOSTS: 3, PRODUCTION: 2})
    assert await store.acks.lagging(ALL_HOSTS, 3, ["h1", "h2", "h3"]) == {"h2", "h3"}
    assert await store.acks.read(ALL_HOSTS) == {"h1": 3}


async def test_to_ask_who_lags_is_one_round_trip(start_server: StartServer) -> None:
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        revision = (await everybody(store)).revision
        requests = proxy.requests
        assert await store.acks.lagging(PRODUCTION, revision, ["h1", "h2", "h3"]) == {"h1", "h2", "h3"}
        assert proxy.requests == requests + 1


async def test_several_are_acknowledged_at_once(store: Store) -> None:
    await everybody(store)
    await store.environments.commit(placed(STAGING, 2, "h1"), 0)
    await store.acks.acknowledge("h1", {})
    await store.acks.acknowledge("h1", {PRODUCTION: 2, STAGING: 1, ALL_HOSTS: 3, EnvironmentId("nosuch"): 7})
    assert await store.acks.read(PRODUCTION) == {"h1": 2}
    assert await store.acks.read(STAGING) == {"h1": 1}
    assert await store.acks.read(ALL_HOSTS) == {"h1": 3}
    assert await store.acks.read("nosuch") == {}


async def test_an_older_revision_can_be_acknowledged(store: Store) -> None:
    """After a data set was restored from a copy, that is what there is."""
    await everybody(store)
    for revision in (7, 2):
        await store.acks.acknowledge("h1", {PRODUCTION: revision})
        assert await store.acks.read(PRODUCTION) == {"h1": revision}


async def test_who_has_left_is_forgotten_and_says_nothing_more(store: Store, store_url: str) -> None:
    environment = await everybody(store)
    for id_ in ("h1", "h2"):
        await store.acks.acknowledge(id_, {PRODUCTION: environment.revision})
    after = apply(environment, [DeleteInstance("api", "on-h2")], worlds.NOW)
    await store.environments.commit(after, environment.revision)
    assert await store.acks.read(PRODUCTION) == {"h1": environment.revision}
    await store.acks.acknowledge("h2", {PRODUCTION: environment.revision})
    assert await store.acks.read(PRODUCTION) == {"h1": environment.revision}
    await store.environments.delete(after)
    await store.acks.acknowledge("h1", {PRODUCTION: environment.revision})
    await store.acks.acknowledge("h9", {ALL_HOSTS: 1})
    async with inside(store, store_url) as (redis, keys):
        assert await redis.exists(keys.acks(PRODUCTION), keys.acks(ALL_HOSTS)) == 0


async def test_who_comes_back_is_heard_again(store: Store) -> None:
    environment = await everybody(store)
    for edit in (DeleteInstance("api", "on-h2"), PutInstance("api", "again", host="h2")):
        before, environment = environment, apply(environment, [edit], worlds.NOW)
        await store.environments.commit(environment, before.revision)
    await store.acks.acknowledge("h2", {PRODUCTION: environment.revision})
    assert await store.acks.lagging(PRODUCTION, environment.revision, ["h2"]) == frozenset()


async def test_what_a_release_before_hosts_has_written_can_be_acknowledged(store: Store, store_url: str) -> None:
    environment = await everybody(store)
    async with inside(store, store_url) as (redis, keys):
        entry = await redis.hget(keys.environments, PRODUCTION)
        await redis.hset(keys.environments, PRODUCTION, b" ".join(entry.split()[:2]))
    await store.acks.acknowledge("h1", {PRODUCTION: environment.revision})
    assert await store.acks.lagging(PRODUCTION, environment.revision, ["h1", "h2"]) == {"h2"}
    following = apply(environment, [SetEnabled(False)], worlds.NOW)
    await store.environments.commit(following, environment.revision)
    assert await store.acks.read(PRODUCTION) == {"h1": environment.revision}


# Several at it


async def test_a_change_is_made_of_what_is_known(store: Store) -> None:
    await store.hosts.register(host(1))
    assert await store.hosts.change("h1", lambda known: replace(known, draining=True)) == (2, host(1, draining=True))
    assert (await store.hosts.read()).hosts["h1"] == host(1, draining=True)


async def test_who_is_not_registered_cannot_be_changed(store: Store) -> None:
    assert await store.hosts.change("h1", lambda known: known) is None


async def test_what_was_changed_meanwhile_is_not_overwritten(store: Store) -> None:
    await store.hosts.register(host(1))
    await store.hosts.register(host(1, draining=True))
    with pytest.raises(HostChanged, match="'h1' was changed by somebody else"):
        await store.hosts.register(host(1, region="eu"), before=host(1))
    assert (await store.hosts.read()).hosts["h1"] == host(1, draining=True)


async def test_what_was_forgotten_meanwhile_does_not_come_back(store: Store) -> None:
    await store.hosts.register(host(1))
    await store.hosts.forget("h1")
    with pytest.raises(HostChanged):
        await store.hosts.register(host(1, draining=True), before=host(1))
    assert (await store.hosts.read()).hosts == {}


async def test_two_that_change_one_host_both_have_their_way(store: Store) -> None:
    await store.hosts.register(host(1))
    seen: list[Host] = []

    def rotate(known: Host) -> Host:
        seen.append(known)
        return replace(known, next_public_key=worlds.public_key(9))

    async def drain() -> None:
        await store.hosts.change("h1", lambda known: replace(known, draining=True))

    await asyncio.gather(drain(), store.hosts.change("h1", rotate), drain())
    found = (await store.hosts.read()).hosts["h1"]
    assert (found.draining, found.next_public_key) == (True, worlds.public_key(9))
    assert seen
