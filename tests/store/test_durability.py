"""What a store may lose, read from real servers of each configuration."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from store.durability import EVICTS, NOTHING_ON_DISK, SNAPSHOTS_ONLY, UNKNOWN, read_risks
from store.errors import Unavailable
from store.store import Store
from tests.store.servers import StartServer, opened, redis_of
from tests.waiting import DEADLINE
from tests.worlds import build

LOG = ("--appendonly", "yes")
LIMITED = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
CONFIGURATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a log": (LOG, ()),
    "nothing": ((), (NOTHING_ON_DISK,)),
    "Debian's default": (("--save", "3600 1 300 100 60 10000"), (SNAPSHOTS_ONLY,)),
    "a log, and eviction": ((*LOG, *LIMITED), (EVICTS.format(policy="allkeys-lru"),)),
    "a log, and a limit": ((*LOG, "--maxmemory", "100mb"), ()),
    "nothing, and eviction": (LIMITED, (NOTHING_ON_DISK, EVICTS.format(policy="allkeys-lru"))),
}


@pytest.mark.parametrize("what", CONFIGURATIONS)
async def test_what_a_configuration_may_lose(start_server: StartServer, what: str) -> None:
    options, risks = CONFIGURATIONS[what]
    server = await start_server(*options)
    async with opened(server.url) as store:
        assert await read_risks(store.connection) == risks


@pytest.mark.parametrize(
    ("rights", "risks"),
    [
        ("-config", (SNAPSHOTS_ONLY, EVICTS.format(policy="allkeys-lru"))),
        ("-config -info", (UNKNOWN,)),
    ],
)
async def test_a_client_that_may_not_see_the_configuration(
    start_server: StartServer, rights: str, risks: tuple[str, ...]
) -> None:
    server = await start_server(*LIMITED, tcp=True)
    async with redis_of(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "reader", "on", ">s3cr3t", "~*", "&*", "+@all", *rights.split())
        async with opened(server.url.replace("//", "//reader:s3cr3t@")) as store:
            assert await read_risks(store.connection) == risks


@pytest.mark.parametrize(("what", "kept"), [("a log", 80), ("Debian's default", 0)])
async def test_what_is_left_of_80_commits_after_a_crash(start_server: StartServer, what: str, kept: int) -> None:
    server = await start_server(*CONFIGURATIONS[what][0])
    async with opened(server.url) as store:
        for number in range(80):
            await store.environments.commit(build(f"e{number}", number + 1), 0)
        server.kill()
        await server.start()
        await until_loaded(store)
        assert len(await store.environments.index()) == kept


async def until_loaded(store: Store) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(Unavailable):
                return await store.ping()
            await asyncio.sleep(0.01)


async def test_a_server_that_is_gone(start_server: StartServer) -> None:
    server = await start_server()
    async with opened(server.url) as store:
        server.kill()
        with pytest.raises(Unavailable):
            await read_risks(store.connection)
