"""A watcher with an interest: the environments that have a member on one host, no others, and all hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from store.changes import Change, ChangeStream
from store.connection import Connection
from store.environments import EnvironmentStore
from store.hosts import Hosts
from store.index import IndexEntry
from store.store import Store
from tests import worlds
from tests.store.servers import StartServer, inside, opened
from tests.waiting import until
from tests.watcher.harness import commit_raw, following
from tests.worlds import NOW, PRODUCTION, STAGING, build_on, make_host
from watcher.watcher import Watcher
from zones import document
from zones.edits import DeleteInstance, DeletePeer, Edit, PutInstance, PutPeer, SetEnabled, apply
from zones.model import Environment
from zones.names import EnvironmentId

ME = "h1"


class CountingStore(Store):
    """A store that remembers which documents were read."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url, prefix)
        self.asked: list[EnvironmentId] = []
        self.environments = CountingEnvironments(self.connection, self.asked)


class CountingEnvironments(EnvironmentStore):
    def __init__(self, connection: Connection, asked: list[EnvironmentId]) -> None:
        super().__init__(connection)
        self._asked = asked

    async def documents(
        self, ids: Iterable[EnvironmentId]
    ) -> dict[EnvironmentId, tuple[IndexEntry | None, bytes | None]]:
        wanted = list(ids)
        self._asked += wanted
        return await super().documents(wanted)


async def change(store: Store, environment: Environment, *edits: Edit) -> Environment:
    """Commits ``environment`` after ``edits`` (or with another switch of its), and gives it."""
    after = apply(environment, edits or [SetEnabled(not environment.enabled)], NOW)
    await store.environments.commit(after, environment.revision)
    return after


async def compared(watcher: Watcher) -> None:
    """Returns when ``watcher`` has compared all, from beginning to end."""
    before = watcher.counts.compared
    await until(lambda: watcher.counts.compared > before + 1)


async def fill(store: Store) -> tuple[Environment, Environment]:
    """Production, which has a member here, and staging, which has none."""
    production, staging = build_on(PRODUCTION, 1, ME, "h2"), build_on(STAGING, 2, "h2")
    await store.environments.commit(production, 0)
    await store.environments.commit(staging, 0)
    return production, staging


# Environments


async def test_only_what_has_a_member_here_is_loaded_and_followed(store: Store, store_url: str) -> None:
    production, staging = await fill(store)
    counting = CountingStore(store_url, store.connection.keys.prefix)
    async with following(counting, interest=ME) as (watcher, recorder):
        assert recorder.holds(production)
        assert recorder.events == [("publish", PRODUCTION), ("loaded", "")]
        staging = await change(store, staging)
        await store.environments.delete(staging)
        production = await change(store, production)
        await until(lambda: recorder.holds(production))
        assert counting.asked == [PRODUCTION, PRODUCTION], "what is of no concern costs no read"
        assert watcher.revisions == {PRODUCTION: production.revision}
        assert (watcher.counts.changes, watcher.counts.gaps) == (3, 0), "and yet every change is seen"
    await counting.close()


async def test_without_an_interest_all_is_followed(store: Store) -> None:
    production, staging = await fill(store)
    async with following(store) as (_, recorder):
        assert recorder.holds(production, staging)


COMING_AND_GOING: dict[str, tuple[Edit, Edit]] = {
    "an instance that is placed here, and elsewhere": (
        PutInstance("api", "on-h2", host=ME),
        PutInstance("api", "on-h2", host="h3"),
    ),
    "an instance that is made, and deleted": (PutInstance("api", "new", host=ME), DeleteInstance("api", "new")),
    "a peer that is made, and deleted": (PutPeer("laptop", worlds.public_key(1), ME), DeletePeer("laptop")),
}


@pytest.mark.parametrize("what", COMING_AND_GOING)
async def test_the_first_member_brings_an_environment_and_the_last_takes_it_away(store: Store, what: str) -> None:
    coming, going = COMING_AND_GOING[what]
    production, staging = await fill(store)
    async with following(store, interest=ME) as (watcher, recorder):
        staging = await change(store, staging, coming)
        await until(lambda: recorder.holds(production, staging))
        staging = await change(store, staging, going)
        await until(lambda: recorder.holds(production))
        assert recorder.events[-2:] == [("publish", STAGING), ("withdraw", STAGING)]
        staging = await change(store, staging, coming)
        await until(lambda: recorder.holds(production, staging))
        await store.environments.delete(staging)
        await until(lambda: recorder.holds(production))
        assert (watcher.counts.withdrawn, watcher.counts.gaps, watcher.counts.repaired) == (2, 0, 0)


async def test_what_has_left_is_not_looked_at_again(store: Store, store_url: str, quick: None) -> None:
    production, _ = await fill(store)
    counting = CountingStore(store_url, store.connection.keys.prefix)
    async with following(counting, interest=ME) as (watcher, recorder):
        await change(store, production, DeleteInstance("api", "on-h1"))
        await until(lambda: not recorder.zones)
        await compared(watcher)
        asked = list(counting.asked)
        await compared(watcher)
        assert counting.asked == asked
    await counting.close()


@pytest.mark.parametrize("loss", ["XTRIM", "DEL"])
async def test_a_gap_is_noticed_whomever_the_next_change_concerns(store: Store, store_url: str, loss: str) -> None:
    production, staging = await fill(store)
    async with following(store, interest=ME) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await (redis.xtrim(keys.changes, 0, approximate=False) if loss == "XTRIM" else redis.delete(keys.changes))
        await change(store, staging)
        await until(lambda: watcher.counts.gaps == 1)
        assert recorder.holds(production)


async def test_what_went_while_the_stream_was_lost_is_withdrawn(store: Store, store_url: str, quick: None) -> None:
    production, _ = await fill(store)
    async with following(store, interest=ME) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        gone = apply(production, [DeleteInstance("api", "on-h1")], NOW)
        written = document.encode(gone)
        async with redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.environment(PRODUCTION), written)
            pipe.hset(keys.environments, PRODUCTION, f"{gone.revision} {document.digest(written)} h2")
            await pipe.execute()
        await until(lambda: not recorder.zones)
        assert (watcher.counts.repaired, watcher.counts.gaps) == (1, 0)


async def test_a_bad_document_is_quarantined_for_as_long_as_it_concerns_us(store: Store, store_url: str) -> None:
    production, _ = await fill(store)
    async with following(store, interest=ME) as (watcher, recorder), inside(store, store_url) as (redis, _keys):
        await commit_raw(store, redis, PRODUCTION, 3, b"{}", str(production.network), f"{ME},h2")
        await until(lambda: watcher.quarantined)
        assert recorder.holds(production), "the last good one stays"
        gone = apply(production, [DeleteInstance("api", "on-h1")], NOW)
        await store.environments.commit(replace(gone, revision=4), 3)
        await until(lambda: not recorder.zones)
        assert not watcher.quarantined


# What a release before there were hosts has written


async def make_old(store: Store, store_url: str, *ids: str) -> None:
    """Lets the index say of ``ids`` what a release before there were hosts would have."""
    async with inside(store, store_url) as (redis, keys):
        for id_ in ids:
            entry = await redis.hget(keys.environments, id_)
            await redis.hset(keys.environments, id_, b" ".join(entry.split()[:2]))


async def test_where_the_index_does_not_say_the_document_does(store: Store, store_url: str, quick: None) -> None:
    production, staging = await fill(store)
    await make_old(store, store_url, PRODUCTION, STAGING)
    counting = CountingStore(store_url, store.connection.keys.prefix)
    async with following(counting, interest=ME) as (watcher, recorder):
        assert recorder.holds(production)
        await compared(watcher)
        assert sorted(counting.asked) == [PRODUCTION, STAGING], "once, and not with every comparison"
        assert watcher.counts.repaired == 0
        staging = await change(store, staging)
        await store.environments.delete(staging)
        await until(lambda: watcher.counts.changes == 2)
        assert recorder.holds(production)
        assert ("withdraw", STAGING) not in recorder.events
    await counting.close()


async def test_a_writer_of_that_release_takes_nothing_away(store: Store, store_url: str) -> None:
    production, _ = await fill(store)
    async with following(store, interest=ME) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        after = apply(production, [SetEnabled(False)], NOW)
        written = document.encode(after)
        last = (await store.changes.position()).change
        async with redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.environment(PRODUCTION), written)
            pipe.hset(keys.environments, PRODUCTION, f"{after.revision} {document.digest(written)}")
            pipe.xadd(keys.changes, {"environment": PRODUCTION, "revision": 3, "digest": "d", "previous": last})
            await pipe.execute()
        await until(lambda: recorder.holds(after))
        gone = await change(store, after, DeleteInstance("api", "on-h1"))
        await until(lambda: not recorder.zones, "told, though the entry before did not say who was there")
        assert gone.revision == 4
        assert (watcher.counts.gaps, watcher.counts.repaired) == (0, 0)


# Hosts


async def test_hosts_are_known_before_what_is_on_them(store: Store) -> None:
    production, _ = await fill(store)
    await store.hosts.register(make_host(1))
    async with following(store, interest=ME, with_hosts=True) as (watcher, recorder):
        heard = recorder.heard
        assert recorder.events == [("hosts", "1"), ("publish", PRODUCTION), ("loaded", "")]
        assert heard == [Hosts(1, {ME: make_host(1)}, {})]
        await store.hosts.register(make_host(2))
        await until(lambda: len(heard) == 2)
        assert heard[1] == Hosts(2, {ME: make_host(1), "h2": make_host(2)}, {})
        await store.hosts.register(make_host(2))
        production = await change(store, production)
        await until(lambda: recorder.holds(production))
        assert len(heard) == 2, "nothing has changed"
        await store.hosts.forget("h2")
        await until(lambda: len(heard) == 3)
        assert heard[2] == Hosts(3, {ME: make_host(1)}, {})
        assert watcher.counts.repaired == watcher.counts.gaps == 0


async def test_there_being_no_hosts_is_told_too(store: Store) -> None:
    async with following(store, interest=ME, with_hosts=True) as (_, recorder):
        assert recorder.heard == [Hosts(0, {}, {})]


async def test_hosts_that_are_as_they_were_are_not_told_again(store: Store, quick: None) -> None:
    await store.hosts.register(make_host(1))
    async with following(store, interest=ME, with_hosts=True) as (watcher, recorder):
        await compared(watcher)
        assert recorder.heard == [Hosts(1, {ME: make_host(1)}, {})]
        assert watcher.counts.repaired == 0


class GatedStore(Store):
    """A store whose changes come when the ``gate`` is open."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url, prefix)
        self.gate = asyncio.Event()
        self.changes = GatedChanges(self.connection, self._blocking, self.gate)


class GatedChanges(ChangeStream):
    def __init__(self, connection: Connection, blocking: Connection, gate: asyncio.Event) -> None:
        super().__init__(connection, blocking)
        self._gate = gate

    async def read_after(self, position: str) -> list[Change]:
        await self._gate.wait()
        return await super().read_after(position)


async def test_of_one_batch_hosts_are_told_first(store: Store, store_url: str) -> None:
    production, _ = await fill(store)
    gated = GatedStore(store_url, store.connection.keys.prefix)
    async with following(gated, interest=ME, with_hosts=True) as (_, recorder):
        production = await change(store, production)
        await store.hosts.register(make_host(2))
        gated.gate.set()
        await until(lambda: recorder.holds(production))
        assert recorder.events[3:] == [("hosts", "1"), ("publish", PRODUCTION)]
    await gated.close()


async def test_hosts_that_are_lost_or_come_unannounced_are_noticed(start_server: StartServer, quick: None) -> None:
    server = await start_server()
    async with (
        opened(server.url) as store,
        following(store, interest=ME, with_hosts=True) as (watcher, recorder),
        inside(store, server.url) as (redis, keys),
    ):
        await store.hosts.register(make_host(1))
        await until(lambda: recorder.heard[-1].revision == 1)
        await redis.hset(keys.hosts, "h9", b"{}")
        await until(lambda: watcher.counts.repaired == 1)
        assert list(recorder.heard[-1].unreadable) == ["h9"]
        await redis.flushall()
        await until(lambda: watcher.counts.repaired == 2)
        assert recorder.heard[-1] == Hosts(0, {}, {})


async def test_who_does_not_ask_for_hosts_is_not_troubled_by_them(store: Store) -> None:
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder):
        await store.hosts.register(make_host(1))
        await until(lambda: watcher.counts.changes == 1)
        production = await change(store, production)
        await until(lambda: recorder.holds(production, staging))
        assert watcher.counts.gaps == 0
