"""Looking through the whole store: what is damaged is named, and what can be mended without a decision is mended."""

from __future__ import annotations

import pytest

from store import check as checking
from store.store import Store
from store.writer import Writer
from tests.store.servers import inside
from tests.store.test_damage import BEFORE, DAMAGES
from tests.store.test_wrong_keys import LARGEST
from tests.worlds import NOW, PRODUCTION, STAGING, build, make_host
from zones.edits import SetEnabled


async def fill(store: Store) -> None:
    await store.environments.commit(BEFORE, 0)
    await store.environments.commit(build(STAGING, 2), 0)


async def test_nothing_is_wrong_with_what_the_writers_made(store: Store) -> None:
    assert await checking.check(store) == []
    await fill(store)
    await store.environments.delete(BEFORE)
    assert await checking.check(store) == []


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_named_and_mended_or_left_to_a_person(store: Store, store_url: str, damage: str) -> None:
    make, _, adoptable = DAMAGES[damage]
    await store.environments.commit(BEFORE, 0)
    async with inside(store, store_url) as (redis, keys):
        await make(redis, keys)
    [finding] = await checking.check(store)
    assert finding.what == f"environment {PRODUCTION}"
    assert "--repair" in finding.outcome
    [mended] = await checking.check(store, repair=True)
    if adoptable:
        assert "is now revision" in mended.outcome
        assert await checking.check(store) == []
        await Writer(store).edit(PRODUCTION, [SetEnabled(enabled=False)], NOW)
    else:
        assert "replace it" in mended.outcome
        assert [one.what for one in await checking.check(store)] == [f"environment {PRODUCTION}"]


async def test_a_line_that_names_other_hosts_is_named_and_mended(store: Store, store_url: str) -> None:
    await fill(store)
    async with inside(store, store_url) as (redis, keys):
        line = await redis.hget(keys.environments, STAGING)
        await redis.hset(keys.environments, STAGING, b" ".join([*line.split()[:2], b"h1"]))
    [finding] = await checking.check(store)
    assert finding.what == f"environment {STAGING}"
    assert "names other hosts (h1)" in finding.problem
    assert "is now revision" in (await checking.check(store, repair=True))[0].outcome
    assert await checking.check(store) == []


async def test_a_stream_that_takes_no_more_and_a_number_that_is_none_are_moved_aside(
    store: Store, store_url: str
) -> None:
    await fill(store)
    async with inside(store, store_url) as (redis, keys):
        await redis.xadd(keys.changes, {"hello": "world"}, id=LARGEST)
        await redis.xdel(keys.changes, LARGEST)  # its position stays used up
        await redis.set(keys.hosts_revision, "many")
    found = {one.what: one.problem for one in await checking.check(store)}
    assert found.keys() == {keys.changes, keys.hosts_revision}
    assert "takes no more changes" in found[keys.changes]
    assert "no number" in found[keys.hosts_revision]
    mended = await checking.check(store, repair=True)
    assert all(one.outcome.startswith(f"moved to {keys.prefix}damaged:") for one in mended)
    assert await checking.check(store) == []
    written = await Writer(store).edit(PRODUCTION, [SetEnabled(enabled=False)], NOW)
    assert not written.after.enabled
    assert await store.hosts.register(make_host(1)) == 1


@pytest.mark.parametrize("key", ["changes", "environments", "hosts", "hosts:revision"])
async def test_a_key_of_a_wrong_type_is_named_and_moved_aside(store: Store, store_url: str, key: str) -> None:
    await fill(store)
    name = store.connection.keys.prefix + key
    async with inside(store, store_url) as (redis, keys):
        await redis.delete(name)
        await redis.rpush(name, "something else")
    found = await checking.check(store)
    assert found[0].what == name
    assert found[0].problem.startswith("it is of the type list, and must be a ")
    mended = await checking.check(store, repair=True)
    assert mended[0].outcome.startswith(f"moved to {keys.prefix}damaged:{key}:")
    assert await checking.check(store) == []
    written = await Writer(store).edit(PRODUCTION, [SetEnabled(enabled=False)], NOW)
    assert not written.after.enabled
