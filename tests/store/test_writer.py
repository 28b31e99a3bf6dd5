"""The writer: read, decide, commit; and again if another writer was first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from store import writer as writing
from store.environments import EnvironmentStore
from store.errors import NetworkTaken, RevisionConflict, TooManyWaiting, Unavailable
from store.leases import Lease
from store.newest import Newest
from store.store import Store
from store.tokens import Token
from store.writer import Writer, WriterCounts, Written
from tests.store.servers import StartServer, opened
from tests.worlds import NOW, PRODUCTION, STAGING, build
from zones.edits import DeleteInstance, Edit, PutInstance, PutService, SetEnabled, apply
from zones.errors import Invalid, Missing
from zones.model import Environment

WRITERS = 20


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers that try again without a pause."""
    monkeypatch.setattr(writing, "PAUSE", 0)


async def test_edits_are_one_commit(store: Store) -> None:
    before = build(PRODUCTION, 1)
    await store.environments.commit(before, 0)
    writer = Writer(store)
    written = await writer.edit(PRODUCTION, [PutService("api"), PutInstance("api", "a1")], NOW)
    assert written.before == before
    assert written.after == apply(before, [PutService("api"), PutInstance("api", "a1")], NOW)
    assert await store.environments.read(PRODUCTION) == (2, written.after)
    assert writer.counts == WriterCounts(commits=1)


async def test_an_edit_that_changes_nothing_writes_nothing(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    position = await store.changes.position()
    writer = Writer(store)
    written = await writer.edit(PRODUCTION, [SetEnabled(True)], NOW)
    assert written.after is written.before
    assert await store.changes.position() == position
    assert writer.counts == WriterCounts()


async def test_an_environment_that_does_not_exist_is_not_edited(store: Store) -> None:
    writer = Writer(store)
    with pytest.raises(Missing, match="no environment 'production': create it first"):
        await writer.edit(PRODUCTION, [SetEnabled(True)], NOW)
    with pytest.raises(Missing, match="no environment 'production'"):
        await writer.delete(PRODUCTION, lambda environment: environment)
    assert writer.counts == WriterCounts()


async def test_a_change_is_given_the_newest_environment(store: Store) -> None:
    given: list[tuple[int, Environment | None]] = []

    def change(revision: int, before: Environment | None) -> Environment:
        given.append((revision, before))
        return build(PRODUCTION, 1) if before is None else apply(before, [SetEnabled(False)], NOW)

    writer = Writer(store)
    assert (await writer.change(PRODUCTION, change)).before is None
    assert (await writer.change(PRODUCTION, change)).before == build(PRODUCTION, 1)
    assert given == [(0, None), (1, build(PRODUCTION, 1))]


async def test_an_edit_that_is_refused_ends_the_write(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    position = await store.changes.position()
    writer = Writer(store)
    with pytest.raises(Missing, match="no service"):
        await writer.edit(PRODUCTION, [PutService("api"), DeleteInstance("db", "d1")], NOW)
    assert await store.changes.position() == position
    assert writer.counts == WriterCounts()


async def test_many_writers_in_two_processes_lose_no_update(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MOST_TOGETHER", 1)  # else each would need one commit, and seldom meet the other
    await store.environments.commit(build(PRODUCTION, 1), 0)
    async with opened(store_url, store.connection.keys.prefix) as other:
        writers = (Writer(store), Writer(other))
        written = await asyncio.gather(
            *(writers[n % 2].edit(PRODUCTION, [PutService(f"s{n}")], NOW) for n in range(WRITERS))
        )
    revision, environment = await store.environments.read(PRODUCTION)
    assert environment
    assert (revision, set(environment.services)) == (WRITERS + 1, {f"s{n}" for n in range(WRITERS)})
    assert sorted(one.after.revision for one in written) == list(range(2, WRITERS + 2))
    assert sum(writer.counts.commits for writer in writers) == WRITERS
    assert sum(writer.counts.conflicts for writer in writers), "there was no conflict, so this proved nothing"


async def test_writers_in_one_process_commit_together(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    writer = Writer(store)
    written = await asyncio.gather(*(writer.edit(PRODUCTION, [PutService(f"s{n}")], NOW) for n in range(WRITERS)))
    assert [one.after.revision for one in written] == list(range(2, WRITERS + 2))
    assert [len(one.after.services) for one in written] == list(range(1, WRITERS + 1))
    assert await store.environments.read(PRODUCTION) == (WRITERS + 1, written[-1].after)
    assert writer.counts.conflicts == 0
    assert 1 <= writer.counts.commits < WRITERS
    assert len(await store.changes.read_after("0-0")) == 1 + writer.counts.commits
    assert not writer._waiting, "queues are forgotten when nobody waits"


async def test_of_those_that_are_committed_together_each_has_its_own_outcome(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    writer = Writer(store)
    outcomes = await asyncio.gather(
        writer.edit(PRODUCTION, [PutService("api")], NOW),
        writer.edit(PRODUCTION, [DeleteInstance("db", "d1")], NOW),
        writer.edit(PRODUCTION, [PutInstance("api", "a1")], NOW),
        writer.edit(PRODUCTION, [PutService("api")], NOW),
        writer.delete(PRODUCTION, lambda environment: environment),
        writer.edit(PRODUCTION, [PutService("late")], NOW),
        return_exceptions=True,
    )
    api, missing, instance, again, deleted, late = outcomes
    assert isinstance(api, Written)
    assert isinstance(missing, Missing)
    assert isinstance(instance, Written)
    assert isinstance(again, Written)
    assert (api.after.revision, instance.after.revision, again.after.revision) == (2, 3, 3)
    assert instance.before == api.after
    assert again.before is again.after
    assert deleted == 4
    assert isinstance(late, Missing)
    assert writer.counts.commits == 2


async def test_one_that_gives_up_is_left_out(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    writer = Writer(store)
    writes = [asyncio.create_task(writer.edit(PRODUCTION, [PutService(f"s{n}")], NOW)) for n in range(3)]
    await asyncio.sleep(0)
    writes[1].cancel()
    await asyncio.wait(writes)
    assert writes[1].cancelled()
    _, environment = await store.environments.read(PRODUCTION)
    assert environment
    assert set(environment.services) == {"s0", "s2"}


async def test_when_the_store_fails_all_that_wait_are_told(start_server: StartServer) -> None:
    server = await start_server()
    async with opened(server.url) as store:
        await store.environments.commit(build(PRODUCTION, 1), 0)
        server.kill()
        edits: list[Edit] = [PutService("api"), DeleteInstance("db", "d1")]
        writes = (Writer(store).edit(PRODUCTION, [edit], NOW) for edit in edits)
        assert all(isinstance(one, Unavailable) for one in await asyncio.gather(*writes, return_exceptions=True))


async def test_up_to_a_bound_all_may_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MOST_WAITING", WRITERS)
    await store.environments.commit(build(PRODUCTION, 1), 0)
    writer = Writer(store)
    writes = (writer.edit(PRODUCTION, [PutService(f"s{n}")], NOW) for n in range(WRITERS + 5))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(one, Written) for one in outcomes) == WRITERS
    assert sum(isinstance(one, TooManyWaiting) for one in outcomes) == 5


async def test_a_change_is_made_again_when_another_writer_was_first(store: Store, hasty: None) -> None:
    before = build(PRODUCTION, 1)
    await store.environments.commit(before, 0)
    writer, calls = Writer(store), 0
    changed_by_another = apply(before, [PutService("theirs")], NOW)
    original = store.environments.commit

    async def change_first(
        environment: Environment,
        expected: int,
        leases: Sequence[Lease] = (),
        most: int | None = None,
        newest: Newest | None = None,
    ) -> None:
        store.environments.commit = original  # type: ignore[method-assign]
        await store.environments.commit(changed_by_another, 1)
        await store.environments.commit(environment, expected, leases, most, newest)

    def change(_revision: int, found: Environment | None) -> Environment:
        nonlocal calls
        calls += 1
        assert found
        return apply(found, [PutService("ours")], NOW)

    store.environments.commit = change_first  # type: ignore[method-assign, assignment]
    written = await writer.change(PRODUCTION, change)
    assert (calls, written.before) == (2, changed_by_another)
    assert written.after.services.keys() == {"theirs", "ours"}
    assert writer.counts == WriterCounts(commits=1, conflicts=1)


async def test_a_conflict_at_every_attempt_is_raised(
    store: Store, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def conflict(_self: EnvironmentStore, environment: Environment, expected: int = 0, *_: object) -> None:
        raise RevisionConflict(environment.id, expected, 7)

    await store.environments.commit(build(PRODUCTION, 1), 0)
    monkeypatch.setattr(EnvironmentStore, "commit", conflict)
    monkeypatch.setattr(EnvironmentStore, "delete", conflict)
    writer = Writer(store)
    with pytest.raises(RevisionConflict):
        await writer.edit(PRODUCTION, [SetEnabled(False)], NOW)
    assert writer.counts == WriterCounts(conflicts=writing.MAX_ATTEMPTS)
    with pytest.raises(RevisionConflict):
        await writer.delete(PRODUCTION, lambda environment: environment)
    assert writer.counts == WriterCounts(conflicts=2 * writing.MAX_ATTEMPTS)


async def test_a_network_that_is_taken_is_drawn_again(store: Store, hasty: None) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    draws = iter([1, 1, 2])
    writer = Writer(store)
    written = await writer.change(STAGING, lambda _revision, _before: build(STAGING, next(draws)))
    assert str(written.after.network) == "fd12:0:2::/48"
    assert writer.counts == WriterCounts(commits=1, conflicts=2)
    with pytest.raises(NetworkTaken):
        await writer.change(STAGING, lambda revision, _: apply(build(STAGING, 1), [SetEnabled(False)] * revision, NOW))


async def test_a_deletion_removes_the_tokens_of_the_environment(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    own, others = Token("t1", PRODUCTION, "own", 1), Token("t2", STAGING, "other", 1)
    await store.tokens.add("d1", own)
    await store.tokens.add("d2", others)

    def refuse(environment: Environment | None) -> None:
        raise Invalid(f"{environment.id if environment else 'nothing'} stays")

    writer = Writer(store)
    with pytest.raises(Invalid, match="production stays"):
        await writer.delete(PRODUCTION, refuse)
    assert len(await store.tokens.read()) == 2
    assert await writer.delete(PRODUCTION, lambda environment: environment) == 2
    assert await store.environments.read(PRODUCTION) == (2, None)
    assert await store.tokens.read() == {"d2": others}
    assert writer.counts == WriterCounts(commits=1)


async def test_tokens_that_were_left_give_no_access_to_a_new_environment(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    await store.environments.delete(build(PRODUCTION, 1))
    await store.tokens.add("d1", Token("t1", PRODUCTION, "left", 1))
    writer = Writer(store)
    await writer.change(
        PRODUCTION,
        lambda _revision, _before: apply(apply(build(PRODUCTION, 2), [PutService("a")], NOW), [SetEnabled(False)], NOW),
    )
    assert (await store.environments.read(PRODUCTION))[0] == 3
    assert await store.tokens.read() == {}


async def test_writes_are_counted_in_the_counts_that_were_given(store: Store) -> None:
    counts = WriterCounts(commits=5, conflicts=7)
    await Writer(store, counts).change(PRODUCTION, lambda _revision, _before: build(PRODUCTION, 1))
    assert counts == WriterCounts(commits=6, conflicts=7)
