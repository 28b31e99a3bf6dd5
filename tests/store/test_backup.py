"""Backups: of one moment while others write, restored into an empty store, whole or not at all."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from admin.auth.tokens import digest
from store import restoring
from store.backup import Backup, back_up, read_backup
from store.check import check
from store.connection import Connection
from store.credentials import Enrolment
from store.errors import BadBackup, NotEmpty
from store.restoring import damaged, restore
from store.store import Store
from store.tokens import Token
from store.writer import Writer
from tests.waiting import until
from tests.watcher.harness import following
from tests.worlds import PRODUCTION, STAGING, build, production, staging
from zones.edits import PutRecord
from zones.hosts import Host
from zones.keys import PublicKey
from zones.model import RecordSet

NOW = 1_700_000_000_000
KEY = PublicKey("mK7kaWTRG5Wm6uM0Sg3m9zM6rKJxGKiIN0Ou5m3eq3k=")


@pytest_asyncio.fixture
async def full(store: Store) -> Store:
    """A store with something of everything."""
    writer = Writer(store, keep=3600)
    for environment in (production(), staging(), build("gone", 7)):
        await store.environments.commit(environment, 0)
    await writer.delete(build("gone", 7).id, lambda _: None)
    await store.hosts.register(Host("h1", "192.0.2.1:51820", KEY))
    await store.credentials.add_authority(b"the authority")
    await store.credentials.invite("h2", Enrolment("d", 1 << 50, None))
    await store.tokens.add(digest("t"), Token("a" * 12, PRODUCTION, "deploys", NOW))
    await store.quotas.set(PRODUCTION, {"services": 7})
    return store


@pytest_asyncio.fixture
async def empty(store_url: str) -> AsyncIterator[Store]:
    """Another store that is empty."""
    other = Store(store_url, prefix=f"test-{secrets.token_hex(6)}:")
    yield other
    await other.close()


async def backup_of(store: Store) -> list[bytes]:
    return [line async for line in back_up(store, "1.2")]


async def test_all_of_it_comes_back(full: Store, empty: Store) -> None:
    backup = read_backup(iter(await backup_of(full)))
    assert (backup.quiet, backup.release, damaged(backup)) == (True, "1.2", [])
    assert await restore(empty, backup) == 2
    assert await empty.environments.index() == await full.environments.index()
    for id_ in (PRODUCTION, STAGING):
        assert await empty.environments.read(id_) == await full.environments.read(id_)
    assert await empty.environments.networks() == await full.environments.networks()
    assert await empty.hosts.read() == await full.hosts.read()
    assert await empty.credentials.authority() == b"the authority"
    assert await empty.credentials.enrolments() == await full.credentials.enrolments()
    assert await empty.tokens.read() == await full.tokens.read()
    assert await empty.quotas.find(PRODUCTION) == {"services": 7}
    assert await empty.deleted.read() == await full.deleted.read()
    assert await check(empty) == []
    assert (await empty.changes.position()).epoch not in (None, (await full.changes.position()).epoch)
    # And it is a store like any other.
    assert (await Writer(empty).undelete(build("gone", 7).id, None)).network == build("gone", 7).network
    written = await Writer(empty).edit(PRODUCTION, [PutRecord("new", "TXT", RecordSet(5, ("x",)))], NOW)
    assert written.after.revision == production().revision + 1
    async with empty.connection.client() as redis:
        assert [key async for key in redis.scan_iter(match=f"{empty.connection.keys.prefix}restoring*")] == []


async def test_it_is_of_one_moment_while_others_write(store: Store, empty: Store) -> None:
    writer, written = Writer(store), 0
    await store.environments.commit(production(), 0)
    over = asyncio.Event()

    async def write() -> None:
        nonlocal written
        while not over.is_set():
            written += 1
            await writer.edit(PRODUCTION, [PutRecord("n", "TXT", RecordSet(5, (str(written),)))], NOW)
            await store.environments.commit(build(f"e{written}", 1000 + written), 0)

    task = asyncio.create_task(write())
    await until(lambda: written > 5)
    lines = [line async for line in back_up(store, "1")]
    over.set()
    await task
    backup = read_backup(iter(lines))
    assert (damaged(backup), len(backup.documents) > 5) == ([], True)
    await restore(empty, backup)
    assert await check(empty) == []
    owners = set((await empty.environments.networks()).values())
    assert owners >= set(backup.documents)


async def test_a_watcher_of_the_empty_store_follows_at_once(full: Store, empty: Store) -> None:
    backup = read_backup(iter(await backup_of(full)))
    async with following(empty) as (_, recorder):
        await restore(empty, backup)
        await until(lambda: recorder.holds(production(), staging()), "both environments are published")


async def test_what_is_not_empty_is_left_alone(full: Store, empty: Store) -> None:
    backup = read_backup(iter(await backup_of(full)))
    await empty.environments.commit(build("other", 9), 0)
    with pytest.raises(NotEmpty, match="the store holds 1 environment, 1 network"):
        await restore(empty, backup)
    assert list(await empty.environments.index()) == ["other"]


async def test_somebody_writes_while_it_is_restored(full: Store, empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    backup, really = read_backup(iter(await backup_of(full))), restoring._put_in_place

    async def late(connection: Connection, wanted: Backup, hash_keys: list[str]) -> None:
        await empty.environments.commit(build("other", 9), 0)
        await really(connection, wanted, hash_keys)

    monkeypatch.setattr(restoring, "_put_in_place", late)
    with pytest.raises(NotEmpty, match="somebody has written"):
        await restore(empty, backup)
    assert list(await empty.environments.index()) == ["other"]
    assert list(await empty.environments.networks()) == [str(build("other", 9).network)]


async def test_an_attempt_that_was_broken_off_is_in_nobodys_way(
    full: Store, empty: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = read_backup(iter(await backup_of(full)))

    async def fail(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "_put_in_place", fail)
        with pytest.raises(ConnectionError):
            await restore(empty, backup)
    assert await empty.environments.index() == {}
    smaller = Backup(1, "1", quiet=True, lines={STAGING: backup.lines[STAGING]},
                     documents={STAGING: backup.documents[STAGING]})  # fmt: skip
    assert await restore(empty, smaller) == 1
    assert {one.what for one in await check(empty)} <= {f"network {staging().network}"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: lines[:-1], "its end is missing"),
        (lambda lines: lines[1:], "no backup"),
        (lambda lines: [*lines[:2], *lines[3:]], "damaged"),
        (lambda lines: [line.replace(b"isolated", b"isolatee") for line in lines], "damaged"),
        (lambda lines: [line.replace(b'"backup":1', b'"backup":2') for line in lines], "another release"),
        (lambda lines: [b"hello\n"], "no backup"),
        (lambda lines: [b"[]\n"], "no backup"),
        (lambda lines: [], "its end is missing"),
    ],
)
async def test_a_spoilt_backup_is_known(full: Store, spoil: Callable[[list[bytes]], list[bytes]], said: str) -> None:
    await Writer(full).edit(PRODUCTION, [PutRecord("isolated", "TXT", RecordSet(5, ("x",)))], NOW)
    lines = await backup_of(full)
    with pytest.raises(BadBackup, match=said):
        read_backup(iter(spoil(lines)))
