"""What keeps a server that answers from taking writes is known before one is sent, and real writes confirm it."""

from __future__ import annotations

import pytest

from store.errors import Unavailable
from store.options import ALL, StoreOptions
from store.store import Store
from store.writable import find_obstacle
from tests.store.servers import StartServer, opened, redis_of
from tests.waiting import until_true
from tests.worlds import PRODUCTION, build, toggled


async def is_refused(store: Store) -> bool:
    """Whether a write is."""
    revision, before = await store.environments.read(PRODUCTION)
    try:
        await store.environments.commit(toggled(before) if before else build(PRODUCTION, 1), revision)
    except Unavailable:
        return True
    return False


async def test_a_server_with_nothing_in_the_way(start_server: StartServer) -> None:
    server = await start_server()
    async with opened(server.url) as store:
        assert await find_obstacle(store.connection) == ""
        assert not await is_refused(store)


@pytest.mark.parametrize(("policy", "refuses"), [("noeviction", True), ("volatile-lru", True), ("allkeys-lru", False)])
async def test_full_memory(start_server: StartServer, policy: str, refuses: bool) -> None:
    server = await start_server("--maxmemory-policy", policy)
    async with opened(server.url) as store, redis_of(server.url) as redis:
        for number in range(64):
            await redis.set(f"filler:{number}", bytes(1 << 17))
        await redis.config_set("maxmemory", (await redis.info("memory"))["used_memory"] - (4 << 20))
        assert ("memory is full" in await find_obstacle(store.connection)) is refuses
        assert await is_refused(store) is refuses
        await redis.config_set("maxmemory", 0)
        assert await find_obstacle(store.connection) == ""


async def test_too_few_replicas_for_the_server(start_server: StartServer) -> None:
    server = await start_server("--min-replicas-to-write", "1")
    async with opened(server.url) as store:
        assert "min-replicas-to-write" in await find_obstacle(store.connection)
        assert await is_refused(store)


async def test_too_few_replicas_to_confirm(start_server: StartServer) -> None:
    primary = await start_server(tcp=True)
    async with opened(primary.url, options=StoreOptions(wait=1)) as store:
        assert "1 replicas are to confirm each (--redis-wait), and the store has 0" in await find_obstacle(
            store.connection
        )
        assert await is_refused(store)
        await start_server("--replicaof", f"127.0.0.1 {primary.port}")

        async def is_free() -> bool:
            return await find_obstacle(store.connection) == ""

        await until_true(is_free)
        assert not await is_refused(store)


def test_all_are_one_at_least() -> None:
    store = Store("sentinel://127.0.0.1:1/main", options=StoreOptions(wait=ALL))
    assert store.connection.confirmations == 1
