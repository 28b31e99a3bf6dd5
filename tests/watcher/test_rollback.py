"""A store that goes back behind what was served is recognised and reported, and one that goes on is not."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from store.changes import BEGINNING, Change, Position
from store.environments import EnvironmentStore
from store.index import IndexEntry
from store.store import Store
from store.stored import MAX_DOCUMENT
from tests.store.servers import StartServer, opened, redis_of
from tests.waiting import until
from tests.watcher.harness import following
from tests.worlds import PRODUCTION, STAGING, build, toggled
from watcher import environments as reading
from watcher import watcher as watcher_module
from watcher.rollback import describe_rollback
from zones.model import Environment

APPLIED = Position("e", "5-0")
SERVED = {PRODUCTION: (3, "digest-3")}
SAME = {PRODUCTION: IndexEntry(3, "digest-3")}

CASES = {
    # what the store holds: (position, newest of our changes that it has, index, what is said)
    "the same": (APPLIED, "5-0", SAME, ""),
    "more": (Position("e", "9-0"), "5-0", {PRODUCTION: IndexEntry(4, "digest-4")}, ""),
    "a trimmed stream": (Position("e", "9-0"), BEGINNING, SAME, ""),
    "another data set": (Position("f", "9-0"), BEGINNING, SAME, "another data set"),
    "nothing": (Position(None, BEGINNING), BEGINNING, {}, "it is empty"),
    "an older revision": (Position("e", "4-0"), "4-0", {PRODUCTION: IndexEntry(2, "digest-2")}, "of production"),
    "our revision, made anew": (Position("e", "9-0"), "4-0", {PRODUCTION: IndexEntry(3, "other")}, "of production"),
    "a document that was altered by hand": (APPLIED, "5-0", {PRODUCTION: IndexEntry(3, "other")}, ""),
    "a change of something else": (Position("e", "9-0"), "4-0", SAME, "those after 4-0"),
    "a line that cannot be read": (APPLIED, "5-0", {PRODUCTION: IndexEntry(0, "garbage", None)}, ""),
    "no epoch": (Position(None, "5-0"), "5-0", SAME, "its epoch is gone"),
    "a deletion": (Position("e", "6-0"), "5-0", {PRODUCTION: IndexEntry(4, None)}, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_a_rollback(name: str) -> None:
    after, common, index, said = CASES[name]
    told = describe_rollback(APPLIED, after, common, SERVED, index)
    assert said in told
    assert bool(told) == bool(said)


def test_nothing_was_applied_before() -> None:
    assert describe_rollback(Position(None, BEGINNING), APPLIED, BEGINNING, {}, SAME) == ""


async def fill(store: Store) -> tuple[Environment, Environment]:
    production, staging = build(PRODUCTION, 1), build(STAGING, 2)
    for environment in (production, staging):
        await store.environments.commit(environment, 0)
    return production, staging


async def change(store: Store, environment: Environment) -> Environment:
    await store.environments.commit(toggled(environment), environment.revision)
    return toggled(environment)


async def test_a_failover_that_loses_a_commit_is_reported_once(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watcher_module, "COMPARE_EVERY", 0.1)
    server = await start_server("--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "yes")
    async with opened(server.url) as store, redis_of(server.url) as redis:
        production, staging = await fill(store)
        async with following(store) as (watcher, recorder):
            saved = {key: await redis.dump(key) for key in await redis.keys("*")}
            lost = await change(store, production)
            await until(lambda: recorder.holds(lost, staging))
            assert watcher.rolled_back == ""
            async with redis.pipeline(transaction=True) as pipe:
                for key, value in saved.items():
                    pipe.restore(key, 0, value, replace=True)
                await pipe.execute()
            await until(lambda: watcher.counts.rollbacks)
            compared = watcher.counts.compared
            await until(lambda: watcher.counts.compared > compared + 2)
            assert watcher.counts.rollbacks == 1
            assert "revisions that were served are gone: of production" in watcher.rolled_back
            reported = [record for record in caplog.records if record.getMessage() == "store_rolled_back"]
            assert [record.levelno for record in reported] == [logging.ERROR]


async def test_a_document_older_than_its_change_is_read_again(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server()
    original, older = EnvironmentStore.stored, 2
    async with opened(server.url) as store, opened(server.url) as other:
        production, staging = await fill(store)
        before = await store.environments.stored([PRODUCTION])
        async with following(store) as (watcher, recorder):

            async def lag(self: EnvironmentStore, ids: list[Any], most: int = MAX_DOCUMENT, known: Any = None) -> Any:
                nonlocal older
                older -= 1
                return before if older >= 0 else await original(self, ids, most)

            monkeypatch.setattr(EnvironmentStore, "stored", lag)
            production = await change(other, production)  # what its own process commits, a watcher does not read
            await until(lambda: recorder.holds(production, staging))
            assert watcher.counts.stale_reads == 2
            assert watcher.counts.lost_connections == 0


async def test_a_server_that_stays_behind_its_changes_is_given_up(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "STALE_PAUSE", 0)
    server = await start_server()
    original = EnvironmentStore.stored
    async with opened(server.url) as store:
        production, staging = await fill(store)
        before = await store.environments.stored([PRODUCTION])
        async with following(store) as (watcher, recorder):
            generation = store.connection.generation

            async def lag(self: EnvironmentStore, ids: list[Any], most: int = MAX_DOCUMENT, known: Any = None) -> Any:
                return (
                    before
                    if self is store.environments and store.connection.generation == generation
                    else (await original(self, ids, most))
                )

            monkeypatch.setattr(EnvironmentStore, "stored", lag)
            async with opened(server.url) as writer:
                production = await change(writer, production)
            await until(lambda: recorder.holds(production, staging))
            assert watcher.counts.stale_reads == reading.STALE_ATTEMPTS
            assert watcher.counts.lost_connections == 1


def test_what_is_stale() -> None:
    announced = Change("2-0", "1-0", STAGING, 3, digest="digest-3")
    assert reading._is_stale(None, announced)
    assert reading._is_stale(IndexEntry(2, "digest-2"), announced)
    assert reading._is_stale(IndexEntry(3, "other"), announced)
    assert not reading._is_stale(IndexEntry(3, "digest-3"), announced)
    assert not reading._is_stale(IndexEntry(4, "digest-4"), announced)
    assert not reading._is_stale(None, None)
