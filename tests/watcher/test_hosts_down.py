"""Hosts that are down: everybody who follows the store or a host's agent hears it, and leaves their instances out."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.store import Store
from tests.store.servers import inside
from tests.waiting import until, until_true
from tests.watcher.feed.ends import agent, publish, resolver
from tests.watcher.harness import following
from tests.worlds import LONG_LEASE, PRODUCTION, STAGING, build_on, lease_of, make_host
from watcher.feed.server import FeedServer
from watcher.guard import Kind
from watcher.hosts import HOSTS_DOWN
from watcher.session.protocol import HostGone, HostIs, Loaded
from watcher.session.view import SessionView
from zones.model import Environment
from zones.names import Name
from zones.placement import NONE_AWAY, HostsAway
from zones.records import RRType
from zones.zone import Zone

API = Name.parse("api.railway.internal")


def answered(zone: Zone | None) -> int:
    """How many addresses the service ``api`` is answered with."""
    node = zone.find(API) if zone else None
    rrset = node.rrsets.get(RRType.AAAA) if node else None
    return len(rrset.rdatas) if rrset else 0


@pytest.mark.parametrize("with_hosts", [True, False], ids=["mesh", "resolver"])
async def test_who_follows_the_store_leaves_out_what_is_down_until_it_is_back(store: Store, with_hosts: bool) -> None:
    await store.environments.commit(build_on(PRODUCTION, 1, "h1", "h2"), 0)
    await store.environments.commit(build_on(STAGING, 2, "h2"), 0)
    for number in (1, 2):
        await store.hosts.register(make_host(number))
    await store.leases.renew(lease_of("h2"), LONG_LEASE)
    async with following(store, with_hosts=with_hosts) as (watcher, recorder):
        assert [answered(recorder.zones[id_]) for id_ in (PRODUCTION, STAGING)] == [2, 1]
        staging, revision = recorder.zones[STAGING], recorder.zones[PRODUCTION].revision
        await _judge(store)
        await until(lambda: answered(recorder.zones[PRODUCTION]) == 1)
        assert recorder.zones[STAGING] is staging  # nothing of it is there
        assert recorder.zones[PRODUCTION].revision == revision
        assert watcher.instances["ready", "host down"] == 1
        mark = watcher.snapshot_mark
        assert (hosts := watcher.snapshot_contents().hosts)
        assert hosts.down == {"h1"}
        await store.leases.renew(lease_of("h1"), LONG_LEASE)
        await until(lambda: answered(recorder.zones[PRODUCTION]) == 2)
        assert watcher.snapshot_mark != mark
        assert (watcher.counts.gaps, watcher.counts.repaired) == (0, 0)
        assert (watcher.instances["ready", "host down"], watcher.instances["ready", "attached"]) == (0, 3)


async def test_a_document_that_comes_later_is_compiled_with_what_is_down(store: Store) -> None:
    for number in (1, 2):
        await store.hosts.register(make_host(number))
    await store.leases.renew(lease_of("h2"), LONG_LEASE)
    await _judge(store)
    async with following(store) as (_, recorder):
        await store.environments.commit(build_on(PRODUCTION, 1, "h1", "h2"), 0)
        await until(lambda: answered(recorder.zones.get(PRODUCTION)) == 1)


async def test_what_cannot_be_read_takes_no_name_and_stops_nothing(store: Store, store_url: str) -> None:
    """As where the store's user of a resolver was made by an earlier release."""
    await store.environments.commit(build_on(PRODUCTION, 1, "h1"), 0)
    async with inside(store, store_url) as (redis, keys):
        await redis.set(keys.hosts_down, "x")
    async with following(store) as (watcher, recorder):
        assert answered(recorder.zones[PRODUCTION]) == 1
        assert HOSTS_DOWN in watcher.guard.unreadable


async def test_a_data_set_that_was_lost_takes_no_name_and_brings_none_back(store: Store, store_url: str) -> None:
    await store.environments.commit(build_on(PRODUCTION, 1, "h1", "h2"), 0)
    for number in (1, 2):
        await store.hosts.register(make_host(number))
    await store.leases.renew(lease_of("h2"), LONG_LEASE)
    await _judge(store)
    async with following(store, with_hosts=True) as (watcher, recorder):
        assert answered(recorder.zones[PRODUCTION]) == 1
        async with inside(store, store_url) as (redis, _):
            await redis.flushall()
        await until(lambda: watcher.guard.holds_back(Kind.DATA_SET), "the loss is not held")
        for _ in range(3):
            verdict = await store.leases.judge(0, least=0, settle=0)  # leases are gone, and so are all hosts
            assert verdict.down == ()
        assert answered(recorder.zones[PRODUCTION]) == 1


async def test_the_feed_says_which_hosts_have_no_path(tmp_path: Path) -> None:
    production, path = build_on(PRODUCTION, 1, "h1", "h2"), tmp_path / "names.sock"
    async with agent(path, loaded=False) as server:
        server.set_away(HostsAway(frozenset({"h1"})))
        await publish(server, production)
        await _hears(server, path, production)


async def _hears(server: FeedServer, path: Path, production: Environment) -> None:
    async with resolver(path, server) as (follower, recorder):
        await until(lambda: recorder.holds(production))
        assert answered(recorder.zones[PRODUCTION]) == 1
        assert recorder.pending == {}
        server.loaded()
        server.set_away(HostsAway(frozenset({"h1"}), frozenset({"h2"})))
        await until(lambda: recorder.zones[PRODUCTION].away.unreachable)
        assert answered(recorder.zones[PRODUCTION]) == 1  # nothing else is left
        server.set_away(NONE_AWAY)
        await until(lambda: answered(recorder.zones[PRODUCTION]) == 2)
        server.announce(staging := build_on(STAGING, 2, "h1", "h2"))
        await until(lambda: answered(recorder.pending.get(STAGING)) == 2)
        server.set_away(HostsAway(frozenset({"h2"})))
        await until(lambda: answered(recorder.pending.get(STAGING)) == 1, "what is pending has what is down")
        await server.publish(staging)
        assert (recorder.pending, answered(recorder.zones[STAGING])) == ({}, 1)
        server.set_away(NONE_AWAY)
        await until(lambda: answered(recorder.zones[PRODUCTION]) == 2)
        contents = follower.snapshot_contents()
        assert contents.hosts
        assert contents.hosts.down == frozenset()


def test_a_session_says_which_hosts_are_down() -> None:
    view = SessionView()
    view.begin()
    for update in (HostIs(make_host(1), is_down=True), HostIs(make_host(2)), Loaded("e")):
        view.take(update)
    assert view.all_hosts.down == {"h1"}
    view.take(HostIs(make_host(1)))
    assert view.all_hosts.down == frozenset()
    view.take(HostIs(make_host(2), is_down=True))
    view.take(HostGone("h2"))
    assert view.all_hosts.down == frozenset()


async def _judge(store: Store) -> None:
    """Has the store find that h1, which has no lease, is down."""

    async def is_down() -> bool:
        await store.leases.judge(1, least=0, settle=0, most=60_000)
        return await store.hosts.down() == {"h1"}

    await until_true(is_down)
