"""A watcher with an interest: the environments that have a member on one host, no others, and all hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import pytest
from msgspec.structs import replace

from store.changes import ChangeBatch, ChangeStream
from store.connection import Connection
from store.environments import EnvironmentStore
from store.store import Store
from store.stored import MAX_DOCUMENT, Known, Stored
from tests import worlds
from tests.store.servers import StartServer, inside, opened
from tests.waiting import until
from tests.watcher.harness import commit_raw, following
from tests.worlds import NOW, PRODUCTION, STAGING, build_on, make_host
from watcher.damage import Sample
from watcher.watcher import Watcher
from zones import document
from zones.edits import DeleteInstance, DeletePeer, Edit, PutInstance, PutPeer, SetEnabled, apply
from zones.hosts import Hosts
from zones.model import Environment
from zones.names import EnvironmentId

ME = "h1"


class CountingStore(Store):
    """A store that remembers which documents were read."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url, prefix)
        self.read: list[EnvironmentId] = []
        self.environments = CountingEnvironments(self.connection, self.read)


@pytest.fixture(autouse=True)
def unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sample of what is served is read, so that what else is read can be counted."""
    monkeypatch.setattr(Sample, "steps", lambda *_: iter(()))


class CountingEnvironments(EnvironmentStore):
    def __init__(self, connection: Connection, read: list[EnvironmentId]) -> None:
        super().__init__(connection)
        self._asked = read

    async def stored(
        self, ids: Iterable[EnvironmentId], most: int = MAX_DOCUMENT, known: Mapping[EnvironmentId, Known] = {}
    ) -> dict[EnvironmentId, Stored]:
        wanted = list(ids)
        self._asked += wanted
        return await super().stored(wanted, most, known)


async def change(store: Store, environment: Environment, *edits: Edit) -> Environment:
    """Commits ``environment`` after ``edits`` (without any, after switching ``enabled``), and returns it."""
    after = apply(environment, edits or [SetEnabled(not environment.enabled)], NOW)
    await store.environments.commit(after, environment.revision)
    return after


async def compared(watcher: Watcher) -> None:
    """Returns when ``watcher`` has begun and ended a comparison."""
    before = watcher.counts.compared
    await until(lambda: watcher.counts.compared > before + 1)


async def fill(store: Store) -> tuple[Environment, Environment]:
    """Production, which has a member here, and staging, which has none."""
    production, staging = build_on(PRODUCTION, 1, ME, "h2"), build_on(STAGING, 2, "h2")
    await store.environments.commit(production, 0)
    await store.environments.commit(staging, 0)
    return production, staging


# Environments


async def test_only_environments_with_a_member_here_are_loaded_and_followed(store: Store, store_url: str) -> None:
    production, staging = await fill(store)
    counting = CountingStore(store_url, store.connection.keys.prefix)
    async with following(counting, interest=ME) as (watcher, recorder):
        assert recorder.holds(production)
        assert recorder.events == [("publish", PRODUCTION), ("loaded", "")]
        staging = await change(store, staging)
        await store.environments.delete(staging)
        production = await change(store, production)
        await until(lambda: recorder.holds(production))
        assert counting.read == [PRODUCTION, PRODUCTION], "other environments are not read"
        assert watcher.revisions == {PRODUCTION: production.revision}
        assert (watcher.counts.changes, watcher.counts.gaps) == (3, 0), "but the position of each change is checked"
    await counting.close()


async def test_without_an_interest_all_environments_are_followed(store: Store) -> None:
    production, staging = await fill(store)
    async with following(store) as (_, recorder):
        assert recorder.holds(production, staging)


FIRST_AND_LAST: dict[str, tuple[Edit, Edit]] = {
    "an instance moves here, and away": (
        PutInstance("api", "on-h2", host=ME),
        PutInstance("api", "on-h2", host="h3"),
    ),
    "an instance is created, and deleted": (PutInstance("api", "new", host=ME), DeleteInstance("api", "new")),
    "a peer is created, and deleted": (PutPeer("laptop", worlds.public_key(1), ME), DeletePeer("laptop")),
}


@pytest.mark.parametrize("what", FIRST_AND_LAST)
async def test_an_environment_is_published_with_its_first_member_and_withdrawn_with_its_last(
    store: Store, what: str
) -> None:
    first, last = FIRST_AND_LAST[what]
    production, staging = await fill(store)
    async with following(store, interest=ME) as (watcher, recorder):
        staging = await change(store, staging, first)
        await until(lambda: recorder.holds(production, staging))
        staging = await change(store, staging, last)
        await until(lambda: recorder.holds(production))
        assert recorder.events[-2:] == [("publish", STAGING), ("withdraw", STAGING)]
        staging = await change(store, staging, first)
        await until(lambda: recorder.holds(production, staging))
        await store.environments.delete(staging)
        await until(lambda: recorder.holds(production))
        assert (watcher.counts.withdrawn, watcher.counts.gaps, watcher.counts.repaired) == (2, 0, 0)


async def test_an_environment_without_a_member_here_is_not_read_again(
    store: Store, store_url: str, quick: None
) -> None:
    production, _ = await fill(store)
    counting = CountingStore(store_url, store.connection.keys.prefix)
    async with following(counting, interest=ME) as (watcher, recorder):
        await change(store, production, DeleteInstance("api", "on-h1"))
        await until(lambda: not recorder.zones)
        await compared(watcher)
        read = list(counting.read)
        await compared(watcher)
        assert counting.read == read
    await counting.close()


@pytest.mark.parametrize("loss", ["XTRIM", "DEL"])
async def test_a_gap_is_noticed_by_a_change_of_another_environment(store: Store, store_url: str, loss: str) -> None:
    production, staging = await fill(store)
    async with following(store, interest=ME) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await (redis.xtrim(keys.changes, 0, approximate=False) if loss == "XTRIM" else redis.delete(keys.changes))
        await change(store, staging)
        await until(lambda: watcher.counts.gaps == 1)
        assert recorder.holds(production)


async def test_an_environment_that_lost_its_last_member_without_a_change_is_withdrawn(
    store: Store, store_url: str, quick: None
) -> None:
    production, _ = await fill(store)
    async with following(store, interest=ME) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        after_last = apply(production, [DeleteInstance("api", "on-h1")], NOW)
        written = document.encode(after_last)
        async with redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.environment(PRODUCTION), written)
            pipe.hset(keys.environments, PRODUCTION, f"{after_last.revision} {document.digest(written)} h2")
            await pipe.execute()
        await until(lambda: not recorder.zones and watcher.counts.repaired)
        assert (watcher.counts.repaired, watcher.counts.gaps) == (1, 0)


async def test_a_bad_document_is_quarantined_until_it_has_no_member_here(store: Store, store_url: str) -> None:
    production, _ = await fill(store)
    async with following(store, interest=ME) as (watcher, recorder), inside(store, store_url) as (redis, _keys):
        await commit_raw(store, redis, PRODUCTION, 3, b"{}", str(production.network), f"{ME},h2")
        await until(lambda: watcher.quarantined)
        assert recorder.holds(production), "the last good one stays"
        after_last = apply(production, [DeleteInstance("api", "on-h1")], NOW)
        await store.environments.commit(replace(after_last, revision=4), 3)
        await until(lambda: not recorder.zones)
        assert not watcher.quarantined


# Index entries of a release without hosts


async def make_old(store: Store, store_url: str, *ids: str) -> None:
    """Makes the index entries of ``ids`` those that a release without hosts would have written."""
    async with inside(store, store_url) as (redis, keys):
        for id_ in ids:
            entry = await redis.hget(keys.environments, id_)
            await redis.hset(keys.environments, id_, b" ".join(entry.split()[:2]))


async def test_an_entry_without_hosts_has_its_document_read_once(store: Store, store_url: str, quick: None) -> None:
    production, staging = await fill(store)
    await make_old(store, store_url, PRODUCTION, STAGING)
    counting = CountingStore(store_url, store.connection.keys.prefix)
    async with following(counting, interest=ME) as (watcher, recorder):
        assert recorder.holds(production)
        await compared(watcher)
        assert sorted(counting.read) == [PRODUCTION, STAGING], "once, and not with every comparison"
        assert watcher.counts.repaired == 0
        staging = await change(store, staging)
        await store.environments.delete(staging)
        last = (await store.changes.position()).change
        await until(lambda: watcher.guard.applied == last)  # of changes, or of a comparison that came before them
        assert recorder.holds(production)
        assert ("withdraw", STAGING) not in recorder.events
    await counting.close()


async def test_a_commit_without_hosts_is_followed(store: Store, store_url: str) -> None:
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
        after_last = await change(store, after, DeleteInstance("api", "on-h1"))
        await until(lambda: not recorder.zones, "the change names us, though the index entry before it named no hosts")
        assert after_last.revision == 4
        assert (watcher.counts.gaps, watcher.counts.repaired) == (0, 0)


# Hosts


async def test_hosts_are_received_before_the_environments_on_them(store: Store) -> None:
    production, _ = await fill(store)
    await store.hosts.register(make_host(1))
    async with following(store, interest=ME, with_hosts=True) as (watcher, recorder):
        received = recorder.hosts
        assert recorder.events == [("hosts", "1"), ("publish", PRODUCTION), ("loaded", "")]
        assert received == [Hosts(1, {ME: make_host(1)}, {})]
        await store.hosts.register(make_host(2))
        await until(lambda: len(received) == 2)
        assert received[1] == Hosts(2, {ME: make_host(1), "h2": make_host(2)}, {})
        await store.hosts.register(make_host(2))
        production = await change(store, production)
        await until(lambda: recorder.holds(production))
        assert len(received) == 2, "nothing has changed"
        await store.hosts.forget("h2")
        await until(lambda: len(received) == 3)
        assert received[2] == Hosts(3, {ME: make_host(1)}, {})
        assert watcher.counts.repaired == watcher.counts.gaps == 0


async def test_an_empty_set_of_hosts_is_received_too(store: Store) -> None:
    async with following(store, interest=ME, with_hosts=True) as (_, recorder):
        assert recorder.hosts == [Hosts(0, {}, {})]


async def test_hosts_that_have_not_changed_are_not_received_again(store: Store, quick: None) -> None:
    await store.hosts.register(make_host(1))
    async with following(store, interest=ME, with_hosts=True) as (watcher, recorder):
        await compared(watcher)
        assert recorder.hosts == [Hosts(1, {ME: make_host(1)}, {})]
        assert watcher.counts.repaired == 0


class GatedStore(Store):
    """A store whose changes come when the ``gate`` is open."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url, prefix)
        self.gate = asyncio.Event()
        self.changes = GatedChanges(self.connection, self.gate)


class GatedChanges(ChangeStream):
    def __init__(self, connection: Connection, gate: asyncio.Event) -> None:
        super().__init__(connection)
        self._gate = gate

    async def read_batch(self, position: str, *, are_many: bool = False) -> ChangeBatch:
        await self._gate.wait()
        return await super().read_batch(position, are_many=are_many)


async def test_in_one_batch_hosts_are_received_first(store: Store, store_url: str) -> None:
    production, _ = await fill(store)
    gated = GatedStore(store_url, store.connection.keys.prefix)
    async with following(gated, interest=ME, with_hosts=True) as (_, recorder):
        production = await change(store, production)
        await store.hosts.register(make_host(2))
        gated.gate.set()
        await until(lambda: recorder.holds(production))
        assert recorder.events[3:] == [("hosts", "1"), ("publish", PRODUCTION)]
    await gated.close()


async def test_hosts_that_change_without_a_change_are_noticed(start_server: StartServer, quick: None) -> None:
    server = await start_server()
    async with (
        opened(server.url) as store,
        following(store, interest=ME, with_hosts=True) as (watcher, recorder),
        inside(store, server.url) as (redis, keys),
    ):
        await store.hosts.register(make_host(1))
        await until(lambda: recorder.hosts[-1].revision == 1)
        await redis.hset(keys.hosts, "h9", b"{}")
        # A comparison counts when all of it is applied, and may have found the first host before its change came.
        await until(lambda: watcher.counts.repaired and list(recorder.hosts[-1].unreadable) == ["h9"])
        await redis.flushall()
        await until(lambda: watcher.guard.held)
        assert recorder.hosts[-1].hosts, "they stay in the mesh"
        await store.guard.confirm()
        await until(lambda: recorder.hosts[-1] == Hosts(0, {}, {}))


async def test_a_watcher_without_on_hosts_reads_no_hosts(store: Store) -> None:
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder):
        await store.hosts.register(make_host(1))
        await until(lambda: watcher.counts.changes == 1)
        production = await change(store, production)
        await until(lambda: recorder.holds(production, staging))
        assert watcher.counts.gaps == 0
