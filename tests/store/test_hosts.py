"""Hosts in a real store: registration, what belongs to whom, changes, leases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from store.changes import Change
from store.errors import EndpointTaken, HostChanged, KeyTaken, StoreError
from store.keys import ALL_HOSTS
from store.store import Store
from tests import worlds
from tests.store.servers import Proxy, StartServer, inside, opened
from tests.waiting import until
from tests.worlds import LONG_LEASE, lease_of, make_host
from zones.hosts import Host, Hosts, encode_host
from zones.names import EnvironmentId

# Registration


async def test_an_empty_store_has_no_hosts(store: Store) -> None:
    assert await store.hosts.read() == Hosts(0, {}, {})


async def test_a_registered_host_is_read_back(store: Store) -> None:
    assert await store.hosts.register(make_host(1)) == 1
    assert await store.hosts.register(make_host(2, region="eu")) == 2
    assert await store.hosts.read() == Hosts(2, {"h1": make_host(1), "h2": make_host(2, region="eu")}, {})
    one, other = await store.changes.read_after("0-0")
    assert one == Change(one.position, "0-0", EnvironmentId(""), 1, None, "h1")
    assert other == Change(other.position, one.position, EnvironmentId(""), 2, None, "h2")
    assert (await store.changes.position()).epoch


async def test_registering_the_same_again_changes_nothing(store: Store) -> None:
    await store.hosts.register(make_host(1))
    await store.hosts.register(make_host(2))
    position = await store.changes.position()
    assert await store.hosts.register(make_host(1)) == 2
    assert await store.changes.position() == position
    assert await store.hosts.register(make_host(1, draining=True)) == 3
    assert (await store.changes.position()) != position


TAKEN: dict[str, tuple[dict[str, Any], dict[str, Any], type[StoreError], str]] = {
    # what: (fields of the registered host, fields of the new one, error, fragment of the message)
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
async def test_a_key_or_an_endpoint_of_another_host_is_refused(store: Store, what: str) -> None:
    """Whether that other host is alive does not matter: none has a lease here."""
    theirs, ours, error, fragment = TAKEN[what]
    await store.hosts.register(make_host(1, **theirs))
    await store.hosts.register(make_host(2))
    before = (await store.hosts.read(), await store.changes.position())
    for id_ in ("h2", "h3"):
        with pytest.raises(error, match=fragment):
            await store.hosts.register(replace(make_host(int(id_[1])), **ours))
    assert (await store.hosts.read(), await store.changes.position()) == before
    await store.hosts.forget("h1")
    await store.hosts.register(replace(make_host(2), **ours))


async def test_a_host_can_change_all_that_is_its_own(store: Store) -> None:
    await store.hosts.register(make_host(1, next_public_key=worlds.public_key(9)))
    await store.hosts.register(make_host(2))
    switched = make_host(1, public_key=worlds.public_key(9), endpoint="[2001:db8::1]:51820", region="eu")
    assert await store.hosts.register(switched) == 3
    assert await store.hosts.register(make_host(3, public_key=worlds.public_key(1), endpoint="192.0.2.1:51820")) == 4
    assert (await store.hosts.read()).hosts["h1"] == switched


async def test_of_many_hosts_that_want_one_key_one_gets_it(store: Store, store_url: str) -> None:
    async with opened(store_url, store.connection.keys.prefix) as other:
        outcomes = await asyncio.gather(
            *(
                (store, other)[number % 2].hosts.register(make_host(number, public_key=worlds.public_key(1)))
                for number in range(1, 21)
            ),
            return_exceptions=True,
        )
    assert [isinstance(outcome, KeyTaken) for outcome in outcomes].count(True) == 19
    found = await store.hosts.read()
    assert (found.revision, len(found.hosts)) == (1, 1)


async def test_a_forgotten_host_leaves_nothing_behind(store: Store, store_url: str) -> None:
    await store.hosts.register(make_host(1))
    await store.leases.renew(lease_of("h1"), LONG_LEASE)
    await store.acks.acknowledge(lease_of("h1"), {ALL_HOSTS: 1})
    assert await store.acks.read(ALL_HOSTS) == {"h1": 1}
    await store.hosts.forget("h1")
    assert await store.hosts.read() == Hosts(2, {}, {})
    assert await store.leases.live(["h1"]) == frozenset()
    assert await store.acks.read(ALL_HOSTS) == {}
    position = await store.changes.position()
    await store.hosts.forget("h1")
    assert await store.changes.position() == position
    assert await store.hosts.register(make_host(1)) == 3
    async with inside(store, store_url) as (redis, keys):
        assert await redis.exists(keys.lease("h1"), keys.acks(ALL_HOSTS)) == 0


UNREADABLE = {
    b"": "not a document of a host",
    b"{": "not a document of a host",
    b"[1]": "not a document of a host",
    b'"x"': "not a document of a host",
    b"7": "not a document of a host",
    encode_host(make_host(8)): "says that it is 'h8'",
    encode_host(make_host(9)).replace(b":51820", b""): "not an endpoint",
}


@pytest.mark.parametrize(("written", "fragment"), UNREADABLE.items())
async def test_a_host_whose_document_is_bad_is_named(
    store: Store, store_url: str, written: bytes, fragment: str
) -> None:
    await store.hosts.register(make_host(1))
    async with inside(store, store_url) as (redis, keys):
        await redis.hset(keys.hosts, "h9", written)
    await store.hosts.register(make_host(2))
    found = await store.hosts.read()
    assert found.hosts == {"h1": make_host(1), "h2": make_host(2)}
    assert list(found.unreadable) == ["h9"]
    assert fragment in found.unreadable["h9"]
    await store.hosts.register(make_host(9))  # its own agent mends the document
    assert (await store.hosts.read()).hosts["h9"] == make_host(9)


async def test_a_registration_whose_reply_is_lost_was_made(start_server: StartServer) -> None:
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await store.hosts.register(make_host(1))
        proxy.cut_after = b"EVALSHA"
        assert await store.hosts.register(make_host(2)) == 2
        assert proxy.cuts == 1
        assert [change.host for change in await store.changes.read_after("0-0")] == ["h1", "h2"]
        proxy.cut_after = b"EVALSHA"
        with pytest.raises(StoreError):
            await store.hosts.register(make_host(3, public_key=worlds.public_key(1)))
        assert proxy.cuts == 2
        assert "h3" not in (await store.hosts.read()).hosts


# Changing a host


async def test_a_change_is_applied_to_the_registered_host(store: Store) -> None:
    await store.hosts.register(make_host(1))
    assert await store.hosts.change("h1", lambda known: replace(known, draining=True)) == (
        2,
        make_host(1, draining=True),
    )
    assert (await store.hosts.read()).hosts["h1"] == make_host(1, draining=True)


async def test_a_host_that_is_not_registered_cannot_be_changed(store: Store) -> None:
    assert await store.hosts.change("h1", lambda known: known) is None


async def test_a_host_that_was_changed_meanwhile_is_not_overwritten(store: Store) -> None:
    await store.hosts.register(make_host(1))
    await store.hosts.register(make_host(1, draining=True))
    with pytest.raises(HostChanged, match="'h1' was changed by somebody else"):
        await store.hosts.register(make_host(1, region="eu"), before=make_host(1))
    assert (await store.hosts.read()).hosts["h1"] == make_host(1, draining=True)


async def test_a_host_that_was_forgotten_meanwhile_does_not_come_back(store: Store) -> None:
    await store.hosts.register(make_host(1))
    await store.hosts.forget("h1")
    with pytest.raises(HostChanged):
        await store.hosts.register(make_host(1, draining=True), before=make_host(1))
    assert (await store.hosts.read()).hosts == {}


async def test_of_two_changes_to_one_host_at_once_both_are_made(store: Store) -> None:
    await store.hosts.register(make_host(1))
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


# Leases


async def test_a_lease_ends(store: Store) -> None:
    await store.leases.renew(lease_of("h1"), LONG_LEASE)
    await store.leases.renew(lease_of("h2"), LONG_LEASE)
    assert await store.leases.live(["h1", "h2", "h3"]) == {"h1", "h2"}
    assert await store.leases.live([]) == frozenset()
    await store.leases.renew(lease_of("h1"), 1)
    alive = {"h1", "h2"}

    async def watch() -> None:
        nonlocal alive
        while alive != {"h2"}:
            alive = set(await store.leases.live(["h1", "h2"]))

    watching = asyncio.create_task(watch())
    await until(watching.done, "h1 is dead")
    await watching
