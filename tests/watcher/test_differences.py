"""A watcher takes what a commit changes, and not the environment: and serves what the store holds all the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from store import environments
from store.environments import EnvironmentStore
from store.folding import fold
from store.options import StoreOptions
from store.store import Store
from store.stored import Known, Stored
from store.writer import Writer
from tests.store.older import opened_by_older
from tests.store.servers import inside, opened
from tests.store.test_differences import large
from tests.waiting import until
from tests.watcher.harness import Recorder, following
from tests.worlds import NOW, PLATFORM, PRODUCTION, STAGING, build
from watcher.publisher import WatcherCounts
from watcher.watcher import Watcher
from zones import document
from zones.edits import DeleteInstance, DeleteRecord, DeleteService, Edit, PutInstance, PutRecord, PutService
from zones.model import Environment, RecordSet, State
from zones.names import EnvironmentId, Name
from zones.zone import compile_zone

EDITS: list[list[Edit]] = [
    [PutInstance("api", "new", State.READY, "h1", "eu")],
    [PutInstance("api", "new", State.STARTING)],
    [DeleteInstance("api", "i7"), PutInstance("api", "i8", State.DRAINING)],
    [
        PutService("web"),
        PutInstance("web", "w1", State.STARTING),
        PutRecord("a.b.x", "A", RecordSet(5, ("192.0.2.1",))),
    ],
    [PutService("web", rename="shop", overlap=3600)],
    [PutInstance("shop", "w1", State.READY), DeleteRecord("a.b.x", "A")],
    [DeleteService("shop"), PutService("shop"), PutInstance("shop", "w1")],
    [DeleteService("shop")],
]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Stored]:
    """All that is read of `PRODUCTION` because a change said so."""
    found: list[Stored] = []
    original = EnvironmentStore.stored

    async def note(
        self: EnvironmentStore, ids: Iterable[EnvironmentId], most: int = 1 << 24, known: Mapping[Any, Known] = {}
    ) -> dict[EnvironmentId, Stored]:
        read = await original(self, ids, most, known)
        found.extend(stored for id_, stored in read.items() if id_ in known)
        return read

    monkeypatch.setattr(EnvironmentStore, "stored", note)
    return found


def check_served(watcher: Watcher, recorder: Recorder, environment: Environment) -> None:
    """All that is served and shown is what it would be, had the environment been read whole."""
    zone = recorder.zones[environment.id]
    whole = compile_zone(PLATFORM, environment, NOW)
    assert zone.environment == environment
    for name in (
        "api",
        "new.api",
        "web",
        "shop",
        "w1.shop",
        "x",
        "b.x",
        "a.b.x",
        "_services",
        "all.api",
        "eu.region.api",
    ):
        qname = Name.parse(f"{name}.{PLATFORM.apex}")
        assert zone.find(qname) == whole.find(qname), name
    instances = [one for service in environment.services.values() for one in service.instances.values()]
    shown = {kind: number for kind, number in watcher.instances.items() if number}
    assert sum(shown.values()) == len(instances)
    for state in State:
        number = sum(count for (name, _), count in shown.items() if name == state.value)
        assert number == sum(one.state is state for one in instances)
    starting = {
        (name, id_)
        for name, service in environment.services.items()
        for id_, one in service.instances.items()
        if one.state is State.STARTING
    }
    assert watcher._served.starting._since.get(environment.id, {}).keys() == starting


@pytest.mark.parametrize("interest", [None, "h1"])
async def test_differences_are_followed_without_the_document(
    store: Store, store_url: str, reads: list[Stored], interest: str | None
) -> None:
    await large(store)
    prefix = store.connection.keys.prefix
    async with opened(store_url, prefix) as reader, following(reader, interest=interest) as (watcher, recorder):
        writer = Writer(store)
        reads.clear()
        for wanted in EDITS:
            written = await writer.edit(PRODUCTION, wanted, NOW)
            await until(lambda: recorder.zones[PRODUCTION].revision == written.after.revision)  # noqa: B023
            check_served(watcher, recorder, written.after)
        followed = [one for one in reads if one.since and one.written is None and one.differences]
        assert len(followed) >= len(EDITS)
        assert watcher.counts.repaired == 0
        assert not watcher.quarantined
        assert recorder.zones[PRODUCTION].environment.services["api"].instances["i9"] is not None


async def test_a_reader_that_was_away_takes_what_it_lacks(store: Store, store_url: str, reads: list[Stored]) -> None:
    environment = await large(store)
    writer = Writer(store)
    async with opened(store_url, store.connection.keys.prefix) as reader:
        async with following(reader) as (watcher, _):
            served = watcher._served
        for wanted in EDITS:
            written = await writer.edit(PRODUCTION, wanted, NOW)
        before = served.zone(PRODUCTION)
        assert before
        known = Known(environment.revision, document.digest_of(environment))
        stored = (await reader.environments.stored([PRODUCTION], known={PRODUCTION: known}))[PRODUCTION]
        assert len(stored.differences) == len(EDITS)
        found = await served.follow(before, stored.differences)
        assert found
        served.publish(found[0], stored.digest, found[1])
        assert found[0].environment == written.after
        census = {kind: number for kind, number in served.census.totals.items() if number}
        served.census.note(found[0])
        assert census == {kind: number for kind, number in served.census.totals.items() if number}


async def test_a_bad_difference_is_quarantined_and_mended(store: Store, store_url: str, quick: None) -> None:
    """A newer release has written a part that this one does not know."""
    environment = await large(store)
    prefix = store.connection.keys.prefix
    async with (
        opened(store_url, prefix) as reader,
        following(reader) as (watcher, recorder),
        inside(store, store_url) as (redis, keys),
    ):
        written = await Writer(store).edit(PRODUCTION, [PutInstance("api", "mine")], NOW)
        await until(lambda: recorder.holds(written.after))
        of = written.after.revision
        bad = b'{"id":"production","before":%d,"revision":%d,"shiny":{}}' % (of, of + 1)
        digest = document.digest(document.digest_of(written.after).encode() + b" " + bad)
        await redis.hset(keys.differences(PRODUCTION), str(of), bad)
        await redis.hset(keys.environments, PRODUCTION, f"{of + 1} {digest} h0,h1,h2")
        await until(lambda: PRODUCTION in watcher.quarantined)
        assert "difference" in watcher.quarantined[PRODUCTION]
        assert recorder.holds(written.after)
        other = build(STAGING, 2)
        await store.environments.commit(other, 0)
        await until(lambda: recorder.holds(written.after, other))
        await redis.hdel(keys.differences(PRODUCTION), str(of))
        await redis.hset(keys.environments, PRODUCTION, f"{of} {document.digest_of(written.after)} h0,h1,h2")
        await until(lambda: not watcher.quarantined)
        assert recorder.holds(written.after, other)
    assert environment.id == PRODUCTION


async def test_resolvers_of_an_older_release_go_on_through_an_upgrade_and_back(
    store: Store, store_url: str, quick: None
) -> None:
    """First control planes write whole, so that all follow; then they write differences, and the older ones keep what
    they serve; and after a fold they follow again."""
    environment = await large(store)
    prefix = store.connection.keys.prefix
    async with (
        opened_by_older(store_url, prefix) as old,
        opened(store_url, prefix) as new,
        opened(store_url, prefix, StoreOptions(whole=True)) as whole,
        following(old) as (behind, older),
        following(new) as (watcher, recorder),
    ):
        assert older.holds(environment)
        beside = Writer(whole)
        for number in range(3):
            written = await beside.edit(PRODUCTION, [PutInstance("api", f"whole{number}")], NOW)
            await until(lambda: older.holds(written.after) and recorder.holds(written.after))  # noqa: B023
        kept = written.after
        writer = Writer(store)
        written = await writer.edit(PRODUCTION, [PutInstance("api", "part")], NOW)
        small = build(STAGING, 2, PutService("web"))
        await store.environments.commit(small, 0)
        await until(lambda: recorder.holds(written.after, small))
        await until(lambda: older.holds(kept, small))
        await until(lambda: PRODUCTION in behind.quarantined)
        assert "not the one that the index names" in behind.quarantined[PRODUCTION]
        small = (await writer.edit(STAGING, [PutInstance("web", "w1")], NOW)).after
        await until(lambda: older.holds(kept, small))
        assert [one.environment for one in await fold(whole)] == [PRODUCTION]
        folded = (await beside.edit(PRODUCTION, [PutInstance("api", "back")], NOW)).after
        await until(lambda: older.holds(folded, small) and recorder.holds(folded, small))
        assert not behind.quarantined
        assert not watcher.quarantined
        for counts in (behind.counts, watcher.counts):
            assert withdrawn(counts) == 0


def withdrawn(counts: WatcherCounts) -> int:
    return counts.withdrawn


async def test_a_very_large_environment_is_followed_aside(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watcher.publisher.VERY_LARGE", 10)
    await large(store)
    prefix = store.connection.keys.prefix
    async with opened(store_url, prefix) as reader, following(reader) as (watcher, recorder):
        for wanted in EDITS:
            written = await Writer(store).edit(PRODUCTION, wanted, NOW)
        await until(lambda: recorder.holds(written.after))
        check_served(watcher, recorder, written.after)
    assert environments.WHOLE_UP_TO > 0
