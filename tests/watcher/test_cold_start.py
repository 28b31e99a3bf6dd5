"""A watcher that starts without its store, or with one that has lost data: what was served before is served."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from store import changes as changes_module
from store import store as store_module
from store.store import Store
from tests.store.servers import StartServer, inside
from tests.waiting import cancel, until
from tests.watcher.harness import Recorder, commit_raw
from tests.worlds import PLATFORM, PRODUCTION, STAGING, build_on, make_host, toggled
from watcher import keeper as keeping
from watcher.guard import Kind
from watcher.keeper import SnapshotKeeper
from watcher.watcher import Watcher
from zones import document
from zones.model import Environment

PRODUCTION_BEFORE, STAGING_BEFORE = build_on(PRODUCTION, 1, "h1"), build_on(STAGING, 2, "h1")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT", 0.5)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT_MARGIN", 0.3)
    monkeypatch.setattr(keeping, "EVERY", 0.05)


@dataclass
class Process:
    """A process that follows the store, and what it serves."""

    watcher: Watcher
    recorder: Recorder

    @property
    def held(self) -> set[Kind]:
        return {one.kind for one in self.watcher.guard.held}


@asynccontextmanager
async def process(store: Store, path: Path, *, interest: str | None = None) -> AsyncIterator[Process]:
    """A process that keeps a snapshot at ``path``, and follows ``store`` by a connection of its own."""
    recorder, own = Recorder(), Store(store.url, store.connection.keys.prefix)
    watcher = Watcher(own, PLATFORM, recorder, interest=interest, on_hosts=recorder.take_hosts)
    watcher.snapshots = keeper = SnapshotKeeper(path, "the store", "0.1.0", 1 << 20)
    tasks = [asyncio.create_task(watcher.run()), asyncio.create_task(keeper.run(watcher))]
    try:
        yield Process(watcher, recorder)
        assert not any(task.done() for task in tasks)
    finally:
        await asyncio.gather(*map(cancel, tasks))
        await own.close()


async def run_once(store: Store, path: Path, *environments: Environment) -> None:
    """A process that has served ``environments``, and has ended."""
    for environment in environments:
        await store.environments.commit(environment, 0)
    await store.hosts.register(make_host(1))
    async with process(store, path) as before:
        await until(lambda: before.recorder.holds(*environments))
        await until(path.exists)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "resolver.snapshot"


@pytest.mark.parametrize("is_hung", [False, True], ids=["gone", "hung"])
async def test_a_start_without_the_store(start_server: StartServer, path: Path, *, is_hung: bool) -> None:
    server = await start_server()
    store = Store(server.url)
    await run_once(store, path, PRODUCTION_BEFORE, STAGING_BEFORE)
    await store.close()
    server.signal(signal.SIGSTOP) if is_hung else server.kill()
    store = Store(server.url)
    async with process(store, path) as now:
        await until(lambda: ("source_away", "") in now.recorder.events)
        assert now.recorder.holds(PRODUCTION_BEFORE, STAGING_BEFORE)
        assert now.recorder.hosts[0].hosts == {"h1": make_host(1)}
        assert [event for event, _ in now.recorder.events] == [
            "restored", "hosts", "publish", "publish", "source_away",
        ]  # fmt: skip
        assert now.recorder.restored_at is not None
        if is_hung:
            server.signal(signal.SIGCONT)
            await until(lambda: now.recorder.is_loaded)
            assert now.watcher.rolled_back == ""
            assert now.watcher.counts.published == 2  # what has not changed is not read again
            after = toggled(PRODUCTION_BEFORE)
            await store.environments.commit(after, PRODUCTION_BEFORE.revision)
            await until(lambda: now.recorder.holds(after, STAGING_BEFORE))
    await store.close()


async def test_a_start_without_the_store_and_without_a_snapshot(tmp_path: Path, path: Path) -> None:
    store = Store(f"unix://{tmp_path}/none")
    async with process(store, path) as now:
        await until(lambda: bool(now.recorder.events))
        assert now.recorder.events == [("source_away", "")]
    assert not await asyncio.to_thread(path.exists)
    await store.close()


async def test_with_the_store_there_nothing_of_the_snapshot_is_served(store: Store, path: Path) -> None:
    await run_once(store, path, PRODUCTION_BEFORE, STAGING_BEFORE)
    after = toggled(PRODUCTION_BEFORE)
    await store.environments.commit(after, PRODUCTION_BEFORE.revision)
    await store.environments.delete(STAGING_BEFORE)  # one that somebody has deleted while no process looked
    async with process(store, path) as now:
        await until(lambda: now.recorder.is_loaded)
        assert now.recorder.holds(after)
        assert [event for event, _ in now.recorder.events] == ["hosts", "publish", "loaded"]


async def test_a_store_that_was_emptied_meanwhile_takes_nothing_away(store: Store, store_url: str, path: Path) -> None:
    await run_once(store, path, PRODUCTION_BEFORE, STAGING_BEFORE)
    async with inside(store, store_url) as (redis, keys), process(store, path) as now:
        await until(lambda: now.recorder.is_loaded)
        await redis.delete(keys.epoch, keys.environments, keys.changes, keys.hosts, keys.hosts_revision)
    async with process(store, path) as now:
        await until(lambda: Kind.DATA_SET in now.held)
        assert now.recorder.holds(PRODUCTION_BEFORE, STAGING_BEFORE)
        assert ("source_away", "") in now.recorder.events  # so it is ready, and says that it is stale
        await store.guard.confirm()
        await until(lambda: now.recorder.is_loaded)
        assert now.recorder.holds()
        assert not now.held


async def test_an_older_copy_of_the_data_is_followed_and_said(
    store: Store, store_url: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As with an append-only file that was cut between two commits, of which the server says nothing."""
    await store.environments.commit(PRODUCTION_BEFORE, 0)
    async with inside(store, store_url) as (redis, keys):
        entry = await redis.hget(keys.environments, PRODUCTION)
        written = await redis.get(keys.environment(PRODUCTION))
        after = toggled(PRODUCTION_BEFORE)
        await store.environments.commit(after, PRODUCTION_BEFORE.revision)
        async with process(store, path) as before:
            await until(lambda: before.recorder.holds(after))
            await until(path.exists)
        ((newest, _),) = await redis.xrevrange(keys.changes, count=1)
        await redis.xdel(keys.changes, newest)
        await redis.hset(keys.environments, PRODUCTION, entry)
        await redis.set(keys.environment(PRODUCTION), written)
    async with process(store, path) as now:
        await until(lambda: now.recorder.is_loaded)
        assert now.recorder.holds(PRODUCTION_BEFORE)
        assert "revisions that were served are gone: of production" in now.watcher.rolled_back
        assert now.watcher.counts.rollbacks == 1
    (said,) = (vars(one) for one in caplog.records if one.getMessage() == "store_lacks_what_was_served")
    assert (said["older"], said["missing"], said["of"]) == (1, 0, 1)


async def test_many_deletions_while_no_process_looked_are_held_as_if_one_had(store: Store, path: Path) -> None:
    many = [build_on(f"e{number}", number + 1, "h1") for number in range(6)]
    await run_once(store, path, *many)
    for environment in many[:4]:
        await store.environments.delete(environment)
    async with process(store, path) as now:
        await until(lambda: Kind.ENVIRONMENTS in now.held)
        assert now.recorder.holds(*many)


# Documents of a newer release


def newer(environment: Environment, old: bytes, new: bytes) -> bytes:
    written = document.encode(toggled(environment))
    assert old in written
    return written.replace(old, new, 1)


NEWER = {
    "field": (b'{"id":', b'{"weight":3,"id":'),
    "field of a part": (b'"instances":{', b'"affinity":"zone","instances":{'),
    "value": (b'"state":"ready"', b'"state":"paused"'),
    "schema": (b'{"id":', b'{"schema":2,"id":'),
    "no document": (b"{", b"]"),
}


@pytest.mark.parametrize("kind", NEWER)
async def test_a_document_that_cannot_be_read_leaves_the_last_good_one_across_a_restart(
    store: Store, store_url: str, path: Path, kind: str
) -> None:
    await run_once(store, path, PRODUCTION_BEFORE, STAGING_BEFORE)
    written, revision = newer(PRODUCTION_BEFORE, *NEWER[kind]), PRODUCTION_BEFORE.revision + 1
    network = str(PRODUCTION_BEFORE.network)
    async with inside(store, store_url) as (redis, _keys):
        await commit_raw(store, redis, PRODUCTION, revision, written, network, "h1")
    latest = STAGING_BEFORE
    for _ in range(2):  # the second start is from a snapshot that was written while it was quarantined
        async with process(store, path) as now:
            await until(lambda: now.recorder.is_loaded)
            assert now.recorder.holds(PRODUCTION_BEFORE, latest)
            assert list(now.watcher.quarantined) == [PRODUCTION]
            before, latest = latest, toggled(latest)
            await store.environments.commit(latest, before.revision)
            await until(partial(now.recorder.holds, PRODUCTION_BEFORE, latest))  # all others follow
    mended = replace(PRODUCTION_BEFORE, revision=revision + 1)
    async with process(store, path) as now:
        await until(lambda: now.recorder.is_loaded)
        await store.environments.commit(mended, revision)
        await until(lambda: now.recorder.holds(mended, latest))
        assert not now.watcher.quarantined


async def test_a_host_whose_document_cannot_be_read_stays_a_peer_across_a_restart(
    store: Store, store_url: str, path: Path
) -> None:
    await run_once(store, path, PRODUCTION_BEFORE)
    async with inside(store, store_url) as (redis, keys):
        written = await redis.hget(keys.hosts, "h1")
        await redis.hset(keys.hosts, "h1", written.replace(b"{", b'{"cores":8,', 1))
        for _ in range(2):
            async with process(store, path) as now:
                await until(lambda: now.recorder.is_loaded)
                assert now.recorder.hosts[-1].hosts == {"h1": make_host(1)}
                assert list(now.recorder.hosts[-1].unreadable) == ["h1"]
                await until(path.exists)
