"""The stream of changes: its order, its chain, and waiting for the next one."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from store import changes as changes_module
from store import environments as environments_module
from store.changes import ChangeBatch, _decode_change, _decode_texts
from store.keys import Keys
from store.store import Store
from tests.store.servers import inside
from tests.worlds import NOW, PRODUCTION, build, build_on, make_host, toggled
from zones.edits import PutInstance, apply
from zones.names import EnvironmentId


async def test_each_change_names_the_one_before_it(store: Store) -> None:
    environment = build("production", 1)
    await store.environments.commit(environment, 0)
    for _ in range(3):
        await store.environments.commit(toggled(environment), environment.revision)
        environment = toggled(environment)
    await store.environments.delete(environment)
    changes = await store.changes.read_after("0-0")
    assert [change.revision for change in changes] == [1, 2, 3, 4, 5]
    assert [change.previous for change in changes] == ["0-0", *(change.position for change in changes[:-1])]
    assert await store.changes.read_after(changes[2].position) == changes[3:]


async def test_changes_of_hosts_and_environments_are_one_chain(store: Store) -> None:
    await store.hosts.register(make_host(1))
    await store.environments.commit(build("production", 1), 0)
    await store.hosts.forget("h1")
    await store.environments.delete(build("production", 1))
    changes = await store.changes.read_after("0-0")
    assert [change.previous for change in changes] == ["0-0", *(change.position for change in changes[:-1])]
    assert [(change.environment, change.host) for change in changes] == [
        ("", "h1"),
        (PRODUCTION, None),
        ("", "h1"),
        (PRODUCTION, None),
    ]


async def test_a_read_returns_with_the_first_change(store: Store) -> None:
    waiting = asyncio.create_task(store.changes.read_after("0-0"))
    await store.environments.commit(build("production", 1), 0)
    assert [change.environment for change in await waiting] == ["production"]


async def test_a_read_without_a_change_returns_empty(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.05)
    assert await store.changes.read_after("0-0") == []


async def many_changes(store: Store, redis: Any, keys: Keys) -> None:
    """Changes of every kind, by our writers and by a release that named no hosts."""
    chosen = random.Random(1)
    environments = [build_on(EnvironmentId(f"e{number}"), 1 + number, "h1") for number in range(4)]
    for environment in environments:
        await store.environments.commit(environment, 0)
    for _ in range(60):
        at = chosen.randrange(len(environments))
        moved = PutInstance("api", f"on-{chosen.choice('12345')}", host=f"h{chosen.choice('12345')}")
        before = environments[at]
        environments[at] = replace(apply(before, [moved], NOW), revision=before.revision + 1)
        await store.environments.commit(environments[at], before.revision)
        if chosen.random() < 0.2:
            await store.hosts.register(make_host(chosen.randrange(1, 4)))
            await store.hosts.forget(f"h{chosen.randrange(1, 4)}")
        if chosen.random() < 0.1:
            await store.guard.confirm()
    await store.environments.delete(environments[0])
    last = (await store.changes.position()).change
    await redis.xadd(keys.changes, {"environment": "e3", "revision": 99, "digest": "d", "previous": last})


async def test_the_server_gives_the_newest_changes_as_they_would_be_read(store: Store, store_url: str) -> None:
    async with inside(store, store_url) as (redis, keys):
        await many_changes(store, redis, keys)
        found = await redis.xread({keys.changes: "0-0"})
        read = [_decode_change(position, _decode_texts(fields)) for position, fields in found[0][1]]
        expected = ChangeBatch.of("0-0", read)
        assert expected.is_gapless
        assert len({change.environment for change in expected.newest}) == 5  # four, and none
        assert expected.count == len(read) > len(expected.newest)
        assert expected.newest[-1].hosts is None, "one of the changes of that environment does not say which"
        assert await store.changes._read_newest("0-0") == expected
        assert await store.changes.read_batch("0-0") == expected
        assert await store.changes.read_batch("0-0", are_many=True) == expected
        half = read[len(read) // 2].position
        first, second = (ChangeBatch.of("0-0", read[: len(read) // 2 + 1]), await store.changes._read_newest(half))
        assert first.followed_by(second) == expected
        for read_on in (store.changes._read_newest, partial(store.changes.read_batch, are_many=True)):
            assert await read_on(expected.position) == ChangeBatch((), 0, expected.position, True)


@pytest.mark.parametrize("at", [0, 30, -1])
async def test_a_gap_among_many_changes_is_noticed(store: Store, store_url: str, at: int) -> None:
    async with inside(store, store_url) as (redis, keys):
        await many_changes(store, redis, keys)
        assert (await store.changes.read_batch("0-0")).is_gapless
        found = await redis.xread({keys.changes: "0-0"})
        await redis.xdel(keys.changes, found[0][1][at][0])
        later = {"environment": "e3", "revision": 100, "digest": "d", "previous": found[0][1][-1][0]}
        await redis.xadd(keys.changes, later)
        assert not (await store.changes.read_batch("0-0")).is_gapless


@pytest.mark.parametrize(
    "fields",
    [{"revision": "x"}, {"revision": 1, "environment": b"\xff"}, {"revision": 1, "environment": "e1", b"\xfe": "x"}],
)
async def test_a_change_that_none_of_our_writers_made_is_a_gap_among_many_too(
    store: Store, store_url: str, fields: dict[Any, Any]
) -> None:
    async with inside(store, store_url) as (redis, keys):
        await many_changes(store, redis, keys)
        await redis.xadd(keys.changes, {"previous": (await store.changes.position()).change, **fields})
        assert not (await store.changes.read_batch("0-0")).is_gapless


async def test_the_stream_is_trimmed(store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments_module, "CHANGES_KEPT", 100)
    environment = build("production", 1)
    await store.environments.commit(environment, 0)
    for _ in range(300):
        environment = toggled(environment)
        await store.environments.commit(environment, environment.revision - 1)
    async with inside(store, store_url) as (redis, keys):
        assert 100 <= await redis.xlen(keys.changes) <= 200
