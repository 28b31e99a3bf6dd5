"""The stream of changes: its order, its chain, and waiting for the next one."""

from __future__ import annotations

import asyncio

import pytest

from store import changes as changes_module
from store import environments as environments_module
from store.store import Store
from tests.store.servers import inside
from tests.worlds import PRODUCTION, build, make_host, toggled


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


async def test_the_stream_is_trimmed(store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments_module, "CHANGES_KEPT", 100)
    environment = build("production", 1)
    await store.environments.commit(environment, 0)
    for _ in range(300):
        environment = toggled(environment)
        await store.environments.commit(environment, environment.revision - 1)
    async with inside(store, store_url) as (redis, keys):
        assert 100 <= await redis.xlen(keys.changes) <= 200
