"""The writer: read, decide, commit; and again if somebody else was first."""

from __future__ import annotations

import asyncio

import pytest

from store import writer as writing
from store.environments import EnvironmentStore
from store.errors import NetworkTaken, RevisionConflict
from store.store import Store
from store.tokens import Token
from store.writer import Counts, Writer
from tests.store.servers import opened
from tests.worlds import NOW, PRODUCTION, STAGING, build
from zones.edits import DeleteInstance, PutInstance, PutService, SetEnabled, apply
from zones.errors import Invalid, Missing
from zones.model import Environment

WRITERS = 20


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers that come back at once."""
    monkeypatch.setattr(writing, "PAUSE", 0)


async def test_edits_are_one_commit(store: Store) -> None:
    before = build(PRODUCTION, 1)
    await store.environments.commit(before, 0)
    writer = Writer(store)
    written = await writer.edit(PRODUCTION, [PutService("api"), PutInstance("api", "a1")], NOW)
    assert written.before == before
    assert written.after == apply(before, [PutService("api"), PutInstance("api", "a1")], NOW)
    assert await store.environments.read(PRODUCTION) == (2, written.after)
    assert writer.counts == Counts(commits=1)


async def test_where_nothing_would_change_nothing_is_written(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    position = await store.changes.position()
    writer = Writer(store)
    written = await writer.edit(PRODUCTION, [SetEnabled(True)], NOW)
    assert written.after is written.before
    assert await store.changes.position() == position
    assert writer.counts == Counts()


async def test_what_is_not_there_is_not_edited(store: Store) -> None:
    writer = Writer(store)
    with pytest.raises(Missing, match="no environment 'production': create it first"):
        await writer.edit(PRODUCTION, [SetEnabled(True)], NOW)
    with pytest.raises(Missing, match="no environment 'production'"):
        await writer.delete(PRODUCTION, lambda environment: environment)
    assert writer.counts == Counts()


async def test_a_step_is_given_what_there_is(store: Store) -> None:
    given: list[tuple[int, Environment | None]] = []

    def step(revision: int, before: Environment | None) -> Environment:
        given.append((revision, before))
        return build(PRODUCTION, 1) if before is None else apply(before, [SetEnabled(False)], NOW)

    writer = Writer(store)
    assert (await writer.settle(PRODUCTION, step)).before is None
    assert (await writer.settle(PRODUCTION, step)).before == build(PRODUCTION, 1)
    assert given == [(0, None), (1, build(PRODUCTION, 1))]


async def test_a_step_that_refuses_ends_the_write(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    position = await store.changes.position()
    writer = Writer(store)
    with pytest.raises(Missing, match="no service"):
        await writer.edit(PRODUCTION, [PutService("api"), DeleteInstance("db", "d1")], NOW)
    assert await store.changes.position() == position
    assert writer.counts == Counts()


async def test_many_on_two_processes_lose_nothing(store: Store, store_url: str) -> None:
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
    assert sum(writer.counts.conflicts for writer in writers), "nobody met anybody: this proved nothing"


async def test_writers_of_one_process_do_not_meet(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    writer = Writer(store)
    await asyncio.gather(*(writer.edit(PRODUCTION, [PutService(f"s{n}")], NOW) for n in range(WRITERS)))
    assert writer.counts == Counts(commits=WRITERS)
    assert not writer._turns, "turns are forgotten when nobody waits"


async def test_a_step_is_asked_anew_when_somebody_was_first(store: Store, hasty: None) -> None:
    before = build(PRODUCTION, 1)
    await store.environments.commit(before, 0)
    writer, asked = Writer(store), 0
    meddled = apply(before, [PutService("theirs")], NOW)
    original = store.environments.commit

    async def meddle(environment: Environment, expected: int) -> None:
        store.environments.commit = original  # type: ignore[method-assign]
        await store.environments.commit(meddled, 1)
        await store.environments.commit(environment, expected)

    def step(_revision: int, found: Environment | None) -> Environment:
        nonlocal asked
        asked += 1
        assert found
        return apply(found, [PutService("ours")], NOW)

    store.environments.commit = meddle  # type: ignore[method-assign]
    written = await writer.settle(PRODUCTION, step)
    assert (asked, written.before) == (2, meddled)
    assert written.after.services.keys() == {"theirs", "ours"}
    assert writer.counts == Counts(commits=1, conflicts=1)


async def test_a_conflict_without_end_is_told(store: Store, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def conflict(_self: EnvironmentStore, environment: Environment, *expected: int) -> None:
        raise RevisionConflict(environment.id, sum(expected), 7)

    await store.environments.commit(build(PRODUCTION, 1), 0)
    monkeypatch.setattr(EnvironmentStore, "commit", conflict)
    monkeypatch.setattr(EnvironmentStore, "delete", conflict)
    writer = Writer(store)
    with pytest.raises(RevisionConflict):
        await writer.edit(PRODUCTION, [SetEnabled(False)], NOW)
    assert writer.counts == Counts(conflicts=writing.MAX_ATTEMPTS)
    with pytest.raises(RevisionConflict):
        await writer.delete(PRODUCTION, lambda environment: environment)
    assert writer.counts == Counts(conflicts=2 * writing.MAX_ATTEMPTS)


async def test_a_network_that_is_taken_is_drawn_again(store: Store, hasty: None) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    draws = iter([1, 1, 2])
    writer = Writer(store)
    written = await writer.settle(STAGING, lambda _revision, _before: build(STAGING, next(draws)))
    assert str(written.after.network) == "fd12:0:2::/48"
    assert writer.counts == Counts(commits=1, conflicts=2)
    with pytest.raises(NetworkTaken):
        await writer.settle(STAGING, lambda revision, _: apply(build(STAGING, 1), [SetEnabled(False)] * revision, NOW))


async def test_what_is_deleted_takes_its_tokens_along(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    own, others = Token("t1", PRODUCTION, "own", 1), Token("t2", STAGING, "other", 1)
    await store.tokens.add("d1", own)
    await store.tokens.add("d2", others)

    def refuse(environment: Environment) -> None:
        raise Invalid(f"{environment.id} stays")

    writer = Writer(store)
    with pytest.raises(Invalid, match="production stays"):
        await writer.delete(PRODUCTION, refuse)
    assert len(await store.tokens.read()) == 2
    assert await writer.delete(PRODUCTION, lambda environment: environment) == 2
    assert await store.environments.read(PRODUCTION) == (2, None)
    assert await store.tokens.read() == {"d2": others}
    assert writer.counts == Counts(commits=1)


async def test_what_is_created_anew_is_not_open_to_tokens_that_were_left(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    await store.environments.delete(build(PRODUCTION, 1))
    await store.tokens.add("d1", Token("t1", PRODUCTION, "left", 1))
    writer = Writer(store)
    await writer.settle(
        PRODUCTION,
        lambda _revision, _before: apply(apply(build(PRODUCTION, 2), [PutService("a")], NOW), [SetEnabled(False)], NOW),
    )
    assert (await store.environments.read(PRODUCTION))[0] == 3
    assert await store.tokens.read() == {}


async def test_writes_are_counted_where_one_wants(store: Store) -> None:
    counts = Counts(commits=5, conflicts=7)
    await Writer(store, counts).settle(PRODUCTION, lambda _revision, _before: build(PRODUCTION, 1))
    assert counts == Counts(commits=6, conflicts=7)
