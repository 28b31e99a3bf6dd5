"""Environments of which commits write the differences: what is read is what was written, whoever reads it, and how."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from store import check as checking
from store import environments, folding, mending
from store.backup import back_up, read_backup
from store.environments import EnvironmentStore
from store.errors import Corrupt, RevisionConflict
from store.folding import Folded, fold
from store.options import StoreOptions
from store.store import Store
from store.stored import find_damage
from store.writer import Writer
from tests.store.servers import inside, opened
from tests.worlds import NOW, PRODUCTION, STAGING, build
from tests.zones.strategies import edits as any_edits
from zones import document
from zones.edits import DeleteInstance, Edit, PutInstance, PutRecord, PutService
from zones.errors import ZonesError
from zones.hosts import hosts_of
from zones.model import Environment, RecordSet, State
from zones.names import EnvironmentId
from zones.quota import QuotaExceeded

SMALL = EnvironmentId("small")
MANY = 300  # instances, some 24 KiB of document
CROWD = [PutInstance("api", f"more{number}") for number in range(MANY)]  # with MANY others, what is large


@pytest.fixture
def by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences are written to documents of any size."""
    monkeypatch.setattr(environments, "WHOLE_UP_TO", 0)
    monkeypatch.setattr(environments, "SMALLER", 1)


async def large(store: Store, *more: Edit, id_: EnvironmentId = PRODUCTION, network: int = 1) -> Environment:
    crowd = [PutInstance("api", f"i{number}", host=f"h{number % 3}") for number in range(MANY)]
    environment = build(id_, network, PutService("api"), *crowd, *more)
    await store.environments.commit(environment, 0)
    return environment


@pytest.fixture(params=[0, 3, -1], ids=["the first", "one between", "the last"])
def gone(request: pytest.FixtureRequest) -> int:
    """Which of six differences somebody has removed by hand."""
    return int(request.param)


async def six_revisions(store: Store) -> tuple[Writer, list[int]]:
    """A writer that has just added six differences, and the revisions that they are the differences to."""
    writer, first = Writer(store), (await large(store)).revision
    for number in range(6):
        await writer.edit(PRODUCTION, [PutInstance("api", f"new{number}")], NOW)
    return writer, list(range(first, first + 6))


async def without_one_of_six(store: Store, url: str, gone: int) -> tuple[Writer, list[int]]:
    """The same, and somebody has removed one of the differences by hand."""
    writer, revisions = await six_revisions(store)
    async with inside(store, url) as (redis, keys):
        await redis.hdel(keys.differences(PRODUCTION), revisions[gone])
    return writer, revisions


async def differences(store: Store, url: str) -> int:
    async with inside(store, url) as (redis, keys):
        return int(await redis.hlen(keys.differences(PRODUCTION)))


async def test_a_change_of_a_large_environment_writes_what_it_changes(store: Store, store_url: str) -> None:
    await large(store)
    writer = Writer(store)
    async with inside(store, store_url) as (redis, keys):
        before = await redis.get(keys.environment(PRODUCTION))
        for number in range(5):
            written = await writer.edit(PRODUCTION, [PutInstance("api", f"new{number}", host="h7")], NOW)
        assert await redis.get(keys.environment(PRODUCTION)) == before
        added = await redis.hgetall(keys.differences(PRODUCTION))
        assert len(added) == 5
        assert all(len(each) < 250 for each in added.values())
    async with opened(store_url, store.connection.keys.prefix) as other:
        assert await other.environments.read(PRODUCTION) == (written.after.revision, written.after)
        entry = (await other.environments.index())[PRODUCTION]
    assert (entry.revision, entry.hosts) == (written.after.revision, hosts_of(written.after))
    assert entry.digest == document.digest_of(written.after)


async def test_a_small_environment_is_written_whole(store: Store, store_url: str) -> None:
    """So releases that know no differences read it."""
    await store.environments.commit(build(PRODUCTION, 1, PutService("api")), 0)
    written = await Writer(store).edit(PRODUCTION, [PutInstance("api", "a1")], NOW)
    assert await differences(store, store_url) == 0
    async with inside(store, store_url) as (redis, keys):
        assert await redis.get(keys.environment(PRODUCTION)) == document.encode(written.after)


async def test_after_many_differences_the_document_is_written_once_more(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "MOST_DIFFERENCES", 3)
    await large(store)
    writer, found = Writer(store), []
    for number in range(6):
        written = await writer.edit(PRODUCTION, [PutInstance("api", f"new{number}")], NOW)
        found.append(await differences(store, store_url))
    assert found == [1, 2, 3, 0, 1, 2]
    async with opened(store_url, store.connection.keys.prefix) as other:
        assert await other.environments.read(PRODUCTION) == (written.after.revision, written.after)


async def test_a_large_difference_is_no_gain(store: Store, store_url: str) -> None:
    await large(store)
    await Writer(store).edit(PRODUCTION, [PutInstance("api", f"i{number}", region="eu") for number in range(MANY)], NOW)
    assert await differences(store, store_url) == 0


@given(commits=st.lists(st.tuples(st.booleans(), st.lists(any_edits, min_size=1, max_size=4)), max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_reading_by_part_gives_what_reading_whole_gives(
    store: Store, store_url: str, by_part: None, commits: list[tuple[bool, list[Edit]]]
) -> None:
    """Two writers by turns, each of which has what it read or wrote last; and somebody who has read nothing."""
    async with inside(store, store_url) as (redis, keys):
        for key in await redis.keys(keys.prefix + "*"):
            await redis.delete(key)
    await store.environments.commit(build(PRODUCTION, 1), 0)
    async with opened(store_url, store.connection.keys.prefix) as other:
        writers = [Writer(store), Writer(other)]
        for step, (is_other, wanted) in enumerate(commits):
            try:
                written = await writers[is_other].edit(PRODUCTION, wanted, NOW + step * 1000)
            except ZonesError:
                continue
            entry = (await store.environments.index())[PRODUCTION]
            assert entry.hosts == hosts_of(written.after)
            assert await writers[not is_other]._store.environments.read(PRODUCTION) == (entry.revision, written.after)
        async with opened(store_url, store.connection.keys.prefix) as fresh:
            stored = (await fresh.environments.stored([PRODUCTION]))[PRODUCTION]
            assert find_damage(stored) == ""
            assert stored.decode() == (await store.environments.read(PRODUCTION))[1]


async def test_a_writer_that_is_behind_takes_what_others_have_written(store: Store, store_url: str) -> None:
    await large(store)
    writer = Writer(store)
    await writer.edit(PRODUCTION, [PutInstance("api", "mine")], NOW)
    async with opened(store_url, store.connection.keys.prefix) as other:
        for number in range(3):
            theirs = await Writer(other).edit(PRODUCTION, [PutInstance("api", f"theirs{number}", host="h9")], NOW)
    mine = await writer.edit(PRODUCTION, [DeleteInstance("api", "theirs0")], NOW)
    assert mine.before == theirs.after
    assert await differences(store, store_url) == 5


async def test_the_same_revision_of_another_history_is_not_built_upon(store: Store, store_url: str) -> None:
    """A failover has lost a commit, and another one was made instead of it."""
    before = await large(store)
    writer = Writer(store)
    lost = await writer.edit(PRODUCTION, [PutInstance("api", "lost")], NOW)
    async with inside(store, store_url) as (redis, keys):
        await redis.delete(keys.differences(PRODUCTION))
        digest = document.digest(document.encode(before))
        await redis.hset(keys.environments, PRODUCTION, f"{before.revision} {digest} h0,h1,h2")
    async with opened(store_url, store.connection.keys.prefix) as other:
        made = await Writer(other).edit(PRODUCTION, [PutInstance("api", "made")], NOW)
    assert made.after.revision == lost.after.revision
    assert (await store.environments.read(PRODUCTION))[1] == made.after
    after = await writer.edit(PRODUCTION, [PutInstance("api", "next")], NOW)
    assert {"made", "next"} < after.after.services["api"].instances.keys()
    assert "lost" not in after.after.services["api"].instances


async def test_what_an_older_release_leaves_behind_is_passed_over(store: Store, store_url: str) -> None:
    """It writes the document, and knows nothing of the differences beside it."""
    await large(store)
    writer = Writer(store)
    await writer.edit(PRODUCTION, [PutInstance("api", "mine")], NOW)
    theirs = replace((await store.environments.read(PRODUCTION))[1] or build(PRODUCTION, 1), revision=50)
    async with inside(store, store_url) as (redis, keys):
        await redis.set(keys.environment(PRODUCTION), document.encode(theirs))
        line = f"50 {document.digest(document.encode(theirs))} h0,h1,h2"
        await redis.hset(keys.environments, PRODUCTION, line)
    assert await store.environments.read(PRODUCTION) == (50, theirs)
    after = await writer.edit(PRODUCTION, [PutInstance("api", "next")], NOW)
    assert await differences(store, store_url) == 1
    async with opened(store_url, store.connection.keys.prefix) as other:
        assert await other.environments.read(PRODUCTION) == (51, after.after)


SPOILT = {
    "a document that is gone": ("delete", ""),
    "another document": ("set", ""),
    "no differences": ("delete", ":differences"),
    "differences of a wrong type": ("set", ":differences"),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_nobody_builds_on_what_was_changed_by_hand(store: Store, store_url: str, name: str) -> None:
    await large(store)
    written = await Writer(store).edit(PRODUCTION, [PutInstance("api", "mine")], NOW)
    how, suffix = SPOILT[name]
    async with inside(store, store_url) as (redis, keys):
        key = keys.environment(PRODUCTION) + suffix
        await redis.delete(key)
        if how == "set":
            await redis.set(key, "{}")
    async with opened(store_url, store.connection.keys.prefix) as other:
        for writer in (Writer(store), Writer(other)):
            with pytest.raises(Corrupt, match="damaged in the store"):
                await writer.edit(PRODUCTION, [PutInstance("api", "more")], NOW)
        assert await mending.replace(other, PRODUCTION, lambda revision, network: build(PRODUCTION, 1))
    assert written.after != (await store.environments.read(PRODUCTION))[1]
    assert await differences(store, store_url) == 0


async def test_a_spoilt_difference_is_damage(store: Store, store_url: str) -> None:
    await large(store)
    written = await Writer(store).edit(PRODUCTION, [PutInstance("api", "mine")], NOW)
    async with inside(store, store_url) as (redis, keys):
        key, of = keys.differences(PRODUCTION), str(written.after.revision - 1)
        await redis.hset(key, of, (await redis.hget(key, of)).replace(b"mine", b"ours"))
    async with opened(store_url, store.connection.keys.prefix) as other:
        with pytest.raises(Corrupt, match="not the one that the index names"):
            await other.environments.read(PRODUCTION)
        adopted = await mending.adopt(other, PRODUCTION)
    assert adopted
    assert "ours" in adopted.services["api"].instances


async def test_what_is_deleted_comes_back_with_its_differences(store: Store, store_url: str) -> None:
    await large(store)
    writer = Writer(store, keep=60)
    written = await writer.edit(PRODUCTION, [PutInstance("api", "mine")], NOW)
    await writer.delete(PRODUCTION, lambda _: None)
    assert await differences(store, store_url) == 0
    back = await writer.undelete(PRODUCTION, None)
    assert replace(back, revision=1) == replace(written.after, revision=1)


async def test_a_backup_is_read_by_releases_that_know_no_differences(store: Store, store_url: str) -> None:
    await large(store)
    written = await Writer(store).edit(PRODUCTION, [PutInstance("api", "mine")], NOW)
    backup = read_backup(iter([line async for line in back_up(store, "a release")]))
    assert backup.documents[PRODUCTION] == document.encode(written.after)
    revision, digest, hosts = backup.lines[PRODUCTION].decode().split(" ")
    assert (int(revision), digest) == (written.after.revision, document.digest(backup.documents[PRODUCTION]))
    assert hosts == "h0,h1,h2"


async def test_the_document_that_would_be_counts_for_the_quota(store: Store) -> None:
    await large(store)
    newest = (await store.environments.newest(PRODUCTION))[1]
    assert newest
    writer = Writer(store)
    for number in range(20):
        await writer.edit(PRODUCTION, [PutInstance("api", f"new{number}", state=State.STARTING)], NOW)
    grown = (await store.environments.newest(PRODUCTION))[1]
    assert grown
    assert abs(grown.octets - len(document.encode(grown.environment))) < 20 * 30
    await store.quotas.set(PRODUCTION, {"document": grown.octets + 50})
    with pytest.raises(QuotaExceeded, match="octets in its document"):
        await writer.edit(PRODUCTION, [PutRecord("x", "TXT", RecordSet(5, ("x" * 200,)))], NOW)


async def test_all_is_folded_for_a_release_that_knows_no_differences(store: Store, store_url: str) -> None:
    await large(store)
    written = await Writer(store).edit(PRODUCTION, [PutInstance("api", "mine")], NOW)
    prefix = store.connection.keys.prefix
    async with opened(store_url, prefix, StoreOptions(whole=True)) as other:
        assert await fold(other) == [Folded(PRODUCTION, written.after.revision + 1)]
        assert await fold(other) == []
        again = await Writer(other).edit(PRODUCTION, [PutInstance("api", "more")], NOW)
    assert await differences(store, store_url) == 0
    async with inside(store, store_url) as (redis, keys):
        assert await redis.get(keys.environment(PRODUCTION)) == document.encode(again.after)
    assert replace(again.before or again.after, revision=1) == replace(written.after, revision=1)


async def test_only_large_environments_are_kept_in_memory(store: Store) -> None:
    await store.environments.commit(build(SMALL, 2), 0)
    await large(store)
    writer = Writer(store)
    for id_ in (SMALL, PRODUCTION):
        await writer.edit(id_, [PutService("one")], NOW)
    assert kept(store.environments) == [PRODUCTION]
    await writer.delete(PRODUCTION, lambda _: None)
    assert kept(store.environments) == []


async def test_whoever_asks_for_hosts_looks_through_no_large_environment(store: Store) -> None:
    small, before = build(SMALL, 2, PutService("api"), PutInstance("api", "i1", host="h1")), await large(store, *CROWD)
    after = (await Writer(store).edit(PRODUCTION, [PutInstance("api", "i1", host="h9")], NOW)).after
    known = [store.environments.known_hosts(each) for each in (small, before, after)]
    assert known == [hosts_of(small), None, hosts_of(after)]


def kept(store: EnvironmentStore) -> Sequence[str]:
    return [id_ for id_ in (SMALL, PRODUCTION) if store.kept.get(id_)]


async def test_a_writer_that_has_all_in_memory_does_not_add_to_what_is_incomplete(
    store: Store, store_url: str, gone: int
) -> None:
    """Else it would acknowledge commits that nobody who reads the store will ever see."""
    writer, _ = await without_one_of_six(store, store_url, gone)
    with pytest.raises(Corrupt, match="damaged in the store"):
        await writer.edit(PRODUCTION, [PutInstance("api", "more")], NOW)


async def test_acknowledged_revisions_that_are_gone_are_given_up_only_if_somebody_says_so(
    store: Store, store_url: str, gone: int
) -> None:
    writer, revisions = await without_one_of_six(store, store_url, gone)
    [finding] = await checking.check(store, repair=True)
    assert "'--repair --go-back' takes the last revision that can be read" in finding.outcome
    [mended] = await checking.check(store, repair=True, go_back=True)
    assert mended.outcome == f"its document is now revision {revisions[-1] + 2}"
    assert await checking.check(store) == []
    after = (await writer.edit(PRODUCTION, [PutInstance("api", "more")], NOW)).after.services["api"].instances
    kept = [f"new{number}" for number in range(len(revisions)) if number < gone % len(revisions)]
    assert [id_ for id_ in after if id_.startswith("new")] == kept
    # No address is given again.
    highest = max(int(each.address) for id_, each in after.items() if id_ != "more")
    assert int(after["more"].address) - highest > len(revisions)


@pytest.mark.parametrize("field", ["abc", "1"])
async def test_a_field_that_leads_nowhere_stops_nobody(store: Store, store_url: str, field: str) -> None:
    writer, _ = await six_revisions(store)
    async with inside(store, store_url) as (redis, keys):
        await redis.hset(keys.differences(PRODUCTION), field, "{}")
    written = await writer.edit(PRODUCTION, [PutInstance("api", "more")], NOW)
    async with opened(store_url, store.connection.keys.prefix) as other:
        assert await other.environments.read(PRODUCTION) == (written.after.revision, written.after)
        assert await checking.check(other) == []


async def test_one_who_writes_all_the_time_does_not_keep_others_from_being_folded(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "ATTEMPTS", 1)
    writer, _ = await six_revisions(store)
    await large(store, id_=STAGING, network=2)
    await Writer(store).edit(STAGING, [PutInstance("api", "mine")], NOW)
    prefix = store.connection.keys.prefix
    async with opened(store_url, prefix, StoreOptions(whole=True)) as other:
        commit = other.environments.commit

        async def commit_late(environment: Environment, expected: int) -> None:
            if environment.id == PRODUCTION:
                await writer.edit(PRODUCTION, [PutInstance("api", "first")], NOW)
            await commit(environment, expected)

        monkeypatch.setattr(other.environments, "commit", commit_late)
        with pytest.raises(RevisionConflict):
            await fold(other)
    async with inside(store, store_url) as (redis, keys):
        assert not await redis.exists(keys.differences(STAGING))
        assert await redis.exists(keys.differences(PRODUCTION))
