"""Environments that are damaged in the store: each damage is named, nobody builds on it, and each can be mended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from store import mending, stored
from store.errors import Corrupt, RevisionConflict
from store.keys import Keys
from store.store import Store
from store.writer import Writer
from tests.store.servers import inside
from tests.worlds import NOW, PRODUCTION, STAGING, build, build_on, toggled
from zones import document
from zones.edits import PutService, SetEnabled
from zones.errors import Conflict
from zones.model import MAX_REVISION, Environment

BEFORE = replace(build_on(PRODUCTION, 1, "h1"), revision=7)
CHANGED = toggled(BEFORE)
HUGE = 10**30

Damage = Callable[[Any, Keys], Awaitable[Any]]


def write_document(written: bytes) -> Damage:
    return lambda redis, keys: redis.set(keys.environment(PRODUCTION), written)


def write_line(line: str) -> Damage:
    return lambda redis, keys: redis.hset(keys.environments, PRODUCTION, line)


async def write_list(redis: Any, keys: Keys) -> None:
    await redis.delete(keys.environment(PRODUCTION))
    await redis.rpush(keys.environment(PRODUCTION), "something else")


async def commit_another_revision(redis: Any, keys: Keys) -> None:
    """The line names the document that is there, and another revision than it has."""
    written = document.encode(BEFORE)
    await redis.hset(keys.environments, PRODUCTION, f"9 {document.digest(written)} h1")


async def commit_a_huge_revision(redis: Any, keys: Keys) -> None:
    """Document and line agree, and the revision is one that no writer here would make."""
    written = document.encode(BEFORE).replace(b'"revision":7', b'"revision":%d' % HUGE)
    await redis.set(keys.environment(PRODUCTION), written)
    await redis.hset(keys.environments, PRODUCTION, f"{HUGE} {document.digest(written)} h1")


# damage → what is said, and whether the document can be adopted
DAMAGES: dict[str, tuple[Damage, str, bool]] = {
    "changed by hand": (write_document(document.encode(replace(BEFORE, enabled=False))), "not the one", True),
    "garbage": (write_document(b"garbage"), "not the one", False),
    "no text": (write_document(b'{"id":"\xff"}'), "not the one", False),
    "of another": (write_document(document.encode(build(STAGING, 2))), "not the one", False),
    "gone": (lambda redis, keys: redis.delete(keys.environment(PRODUCTION)), "document is gone", False),
    "a list": (write_list, "no string", False),
    "no line": (lambda redis, keys: redis.hdel(keys.environments, PRODUCTION), "no line", True),
    "no index": (lambda redis, keys: redis.delete(keys.environments), "no line", True),
    "a garbage line": (write_line("garbage"), "cannot be read: b'garbage'", True),
    "a huge revision in the line": (write_line(f"{HUGE} digest h1"), "cannot be read", True),
    "a huge revision": (commit_a_huge_revision, "cannot be read", False),
    "a deletion by hand": (write_line("8 deleted"), "says that it was deleted", True),
    "a huge deletion": (write_line(f"{HUGE} deleted"), "cannot be read", True),
    "another digest": (write_line("7 digest h1"), "not the one", True),
    "another revision": (commit_another_revision, "at revision 9, and the document at 7", True),
}
EACH = pytest.mark.parametrize("name", DAMAGES)


async def damaged(store: Store, store_url: str, name: str) -> None:
    await store.environments.commit(BEFORE, 0)
    async with inside(store, store_url) as (redis, keys):
        await DAMAGES[name][0](redis, keys)


async def all_keys(store: Store, store_url: str) -> dict[bytes, bytes]:
    async with inside(store, store_url) as (redis, keys):
        return {key: await redis.dump(key) async for key in redis.scan_iter(f"{keys.prefix}*")}


@EACH
async def test_nobody_builds_on_it(store: Store, store_url: str, name: str) -> None:
    await damaged(store, store_url, name)
    before = await all_keys(store, store_url)
    with pytest.raises(Corrupt, match=f"'production' is damaged in the store: .*{DAMAGES[name][1]}"):
        await store.environments.read(PRODUCTION)
    with pytest.raises(Corrupt):
        await Writer(store).edit(PRODUCTION, [PutService("new")], NOW)
    with pytest.raises(Corrupt):
        await Writer(store).change(PRODUCTION, lambda revision, _: build(PRODUCTION, 5))
    assert await all_keys(store, store_url) == before


@EACH
async def test_it_can_be_replaced(store: Store, store_url: str, name: str) -> None:
    """By an environment in the same network, at a revision that it never had; what was there is kept aside."""
    await damaged(store, store_url, name)
    new = await Writer(store).replace_damaged(
        PRODUCTION, lambda revision, network: Environment(PRODUCTION, network or STAGING_NETWORK, revision)
    )
    assert new
    assert new.network == BEFORE.network
    assert 7 < new.revision < MAX_REVISION
    assert await store.environments.read(PRODUCTION) == (new.revision, new)
    written = await Writer(store).edit(PRODUCTION, [PutService("new")], NOW)
    assert written.after.revision == new.revision + 1
    async with inside(store, store_url) as (redis, keys):
        is_kept = await redis.exists(keys.aside(PRODUCTION))
        assert bool(is_kept) is (name != "gone")
        assert not is_kept or await redis.ttl(keys.aside(PRODUCTION)) > 6 * 86_400


STAGING_NETWORK = build(STAGING, 2).network


@EACH
async def test_it_can_be_deleted_and_made_again(store: Store, store_url: str, name: str) -> None:
    await damaged(store, store_url, name)
    seen: list[Environment | None] = []
    revision = await Writer(store).delete(PRODUCTION, seen.append)
    assert seen == [None]
    assert await store.environments.read(PRODUCTION) == (revision, None)
    again = replace(build(PRODUCTION, 3), revision=revision + 1)
    await store.environments.commit(again, revision)
    assert await store.environments.read(PRODUCTION) == (again.revision, again)


@EACH
async def test_what_can_be_read_can_be_adopted(store: Store, store_url: str, name: str) -> None:
    await damaged(store, store_url, name)
    before = await all_keys(store, store_url)
    if not DAMAGES[name][2]:
        with pytest.raises(Corrupt):
            await mending.adopt(store, PRODUCTION)
        assert await all_keys(store, store_url) == before
        return
    adopted = await mending.adopt(store, PRODUCTION)
    assert adopted
    assert 7 < adopted.revision < MAX_REVISION
    assert await store.environments.read(PRODUCTION) == (adopted.revision, adopted)
    assert replace(adopted, revision=7, enabled=True) == BEFORE
    [*_, change] = await store.changes.read_after("0-0")
    assert (change.environment, change.revision, change.hosts) == (PRODUCTION, adopted.revision, None)


async def test_nothing_is_done_to_one_that_is_not_damaged(store: Store, store_url: str) -> None:
    await store.environments.commit(BEFORE, 0)
    before = await all_keys(store, store_url)
    assert await mending.adopt(store, PRODUCTION) is None
    assert await mending.remove(store, PRODUCTION) is None
    assert await Writer(store).replace_damaged(PRODUCTION, lambda revision, network: BEFORE) is None
    assert await mending.adopt(store, STAGING) is None  # nor to one that does not exist
    assert await all_keys(store, store_url) == before


async def test_two_who_mend_at_once(store: Store, store_url: str) -> None:
    await damaged(store, store_url, "changed by hand")
    found = (await store.environments.stored([PRODUCTION]))[PRODUCTION]
    assert await mending.adopt(store, PRODUCTION)
    with pytest.raises(RevisionConflict):
        await store.environments.overwrite(found, None, 99)


async def test_a_document_that_is_too_large_is_not_read(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.environments.MAX_DOCUMENT", 4096)
    monkeypatch.setattr(stored, "MAX_DOCUMENT", 4096)
    await store.environments.commit(BEFORE, 0)
    async with inside(store, store_url) as (redis, keys):
        await redis.setrange(keys.environment(PRODUCTION), 5000, "x")
        found = (await store.environments.stored([PRODUCTION]))[PRODUCTION]
        assert (found.size, found.written) == (5001, None)
        with pytest.raises(Corrupt, match="5001 octets, and one of more than 4096 is not read"):
            found.decode()
    assert await Writer(store).delete(PRODUCTION, lambda _: None)
    large = build(STAGING, 2, *(PutService(f"service-{number}") for number in range(200)))
    with pytest.raises(Conflict, match="4096 are the most"):
        await store.environments.commit(large, 0)


async def test_a_writer_that_is_asked_for_nothing_new_still_sees_the_damage(store: Store, store_url: str) -> None:
    await damaged(store, store_url, "changed by hand")
    with pytest.raises(Corrupt):
        await Writer(store).edit(PRODUCTION, [SetEnabled(False)], NOW)
