"""The store on servers that are away, hang, refuse, fail over, or lose a reply."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest

from store import changes as changes_module
from store import store as store_module
from store.errors import Unavailable
from store.store import Store
from store.tokens import Token
from tests import worlds
from tests.store.servers import Proxy, Server, StartServer, free_port, inside, opened, redis_of
from tests.waiting import DEADLINE
from tests.worlds import LONG_LEASE, PRODUCTION, build, lease_of, toggled
from zones.edits import (
    PutInstance,
    PutService,
    apply,
)
from zones.hosts import Host
from zones.names import EnvironmentId

SECRET = "s3cr3t"


async def every_call(store: Store) -> list[BaseException | object]:
    """What each method of ``store`` returns or raises."""
    environment, host = build("production", 1), Host("h1", "192.0.2.1:1", worlds.public_key(1))
    token = Token("t", "*", "n", 1)
    calls = [
        store.ping(),
        store.environments.index(), store.environments.documents([PRODUCTION]), store.environments.read(PRODUCTION),
        store.environments.commit(environment, 0), store.environments.delete(environment),
        store.changes.position(), store.changes.read_after("0-0"),
        store.hosts.read(), store.hosts.register(host), store.hosts.forget("h1"),
        store.leases.renew(lease_of("h1"), 1000), store.leases.live(["h1"]),
        store.acks.acknowledge(lease_of("h1"), {PRODUCTION: 1}), store.acks.read(PRODUCTION),
        store.acks.lagging(PRODUCTION, 1, ["h1"]),
        store.tokens.read(), store.tokens.find("d"), store.tokens.add("d", token), store.tokens.remove(["d"]),
    ]  # fmt: skip
    return list(await asyncio.gather(*calls, return_exceptions=True))


def assert_unavailable(outcomes: list[BaseException | object], fragment: str = "") -> None:
    for outcome in outcomes:
        assert isinstance(outcome, Unavailable), outcome
        assert fragment in str(outcome)
        assert SECRET not in str(outcome)
        assert "\n" not in str(outcome)


# The server is away or hangs


async def test_a_server_that_is_not_there() -> None:
    async with opened(f"redis://:{SECRET}@127.0.0.1:{free_port()}") as store:
        assert_unavailable(await every_call(store), "store redis://:…@127.0.0.1")


async def test_a_socket_that_is_not_there() -> None:
    async with opened("unix:///nowhere/store.sock") as store:
        assert_unavailable(await every_call(store), "/nowhere/store.sock")


async def test_a_server_that_is_killed_and_comes_back(start_server: StartServer) -> None:
    server = await start_server("--appendonly", "yes", "--appendfsync", "always")
    async with opened(server.url) as store:
        await store.environments.commit(build("production", 1), 0)
        server.kill()
        assert_unavailable(await every_call(store))
        await server.start()
        assert await store.environments.read(PRODUCTION) == (1, build("production", 1))


async def test_a_server_that_hangs(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT_MARGIN", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.2)
    server = await start_server()
    async with opened(server.url) as store:
        await store.ping()
        server.signal(signal.SIGSTOP)
        began = time.monotonic()
        assert_unavailable(await every_call(store))
        assert time.monotonic() - began < 3
        server.signal(signal.SIGCONT)
        await answers(store)


async def test_a_connection_that_swallows_requests(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT_MARGIN", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.2)
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await store.ping()
        proxy.swallow = True
        assert_unavailable(await every_call(store))
        proxy.swallow = False
        await answers(store)


async def answers(store: Store) -> None:
    """Returns when ``store`` answers again."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return await store.ping()
        except Unavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_a_call_that_is_cancelled_ends(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is connecting, sending, or waiting for changes."""
    monkeypatch.setattr(
        changes_module, "CHANGES_WAIT", 0.1
    )  # so long may it go on where the library swallows the cancellation
    for steps in range(50):
        async with opened(store_url) as store:
            call = asyncio.create_task(store.changes.read_after("0-0"))
            for _ in range(steps):
                await asyncio.sleep(0)
            assert not call.done()
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled(), f"after {steps} steps"


# The server refuses


@pytest.mark.parametrize("userinfo", ["", f":wrong{SECRET}@", f"nobody:{SECRET}@"])
async def test_a_password_that_is_wrong(start_server: StartServer, userinfo: str) -> None:
    server = await start_server("--requirepass", SECRET, tcp=True)
    async with opened(server.url.replace("//", f"//{userinfo}")) as store:
        assert_unavailable(await every_call(store))
    async with opened(server.url.replace("//", f"//:{SECRET}@")) as store:
        await store.ping()
        assert SECRET not in store.url


async def test_a_replica_can_be_read_and_refuses_writes(start_server: StartServer) -> None:
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}")
    production = build("production", 1, PutService("api"), PutInstance("api", "a1", host="h1"))
    async with opened(primary.url) as writer, opened(replica.url) as reader:
        await writer.leases.renew(lease_of("h1"), LONG_LEASE)
        await writer.environments.commit(production, 0)
        await replicated(reader, PRODUCTION, 2)
        token = Token("t", "*", "n", 1)
        outcomes = await asyncio.gather(
            reader.environments.commit(toggled(production), 2),
            reader.environments.delete(production),
            reader.tokens.add("d", token),
            reader.hosts.register(Host("h1", "192.0.2.1:1", worlds.public_key(1))),
            reader.leases.renew(lease_of("h1"), 1000),
            reader.acks.acknowledge(lease_of("h1"), {PRODUCTION: 1}),
            return_exceptions=True,
        )
        assert_unavailable(list(outcomes), "read only replica")
        assert await reader.environments.read(PRODUCTION) == (2, production)


async def replicated(reader: Store, id_: EnvironmentId, revision: int) -> None:
    """Returns when ``reader`` holds ``revision``."""
    deadline = time.monotonic() + DEADLINE
    while (await reader.environments.read(id_))[0] != revision:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_server_that_is_loading_its_data(start_server: StartServer) -> None:
    server = await start_server("--appendonly", "yes", "--enable-debug-command", "yes")
    async with redis_of(server.url) as redis:
        await redis.execute_command("DEBUG", "POPULATE", "500", "filler")
        await redis.config_set("key-load-delay", "1000")  # microseconds for each key
        await redis.config_set("loading-process-events-interval-bytes", "1024")
        reloading = asyncio.create_task(redis.execute_command("DEBUG", "RELOAD"))
        async with opened(server.url) as store:
            outcomes: list[str] = []
            while not reloading.done():
                try:
                    await store.changes.position()
                except Unavailable as error:
                    outcomes.append(str(error))
                await asyncio.sleep(0.01)
            await reloading
            assert any("loading" in outcome.lower() for outcome in outcomes)
            await store.ping()


async def test_a_key_of_another_type(store: Store, store_url: str) -> None:
    async with inside(store, store_url) as (redis, keys):
        await redis.set(keys.environments, "not a hash")
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            await store.environments.index()
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            await store.environments.commit(build("production", 1), 0)


async def test_scripts_that_were_flushed_are_loaded_again(store: Store, store_url: str) -> None:
    await store.environments.commit(build("production", 1), 0)
    async with inside(store, store_url) as (redis, _):
        await redis.script_flush()
    await store.environments.commit(toggled(build("production", 1)), 1)


# A lost reply


async def test_a_commit_whose_reply_is_lost_was_made(start_server: StartServer) -> None:
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await store.environments.commit(build("production", 1), 0)
        proxy.cut_after = b"EVALSHA"
        await store.environments.commit(toggled(build("production", 1)), 1)
        assert proxy.cuts == 1
        assert await store.environments.read(PRODUCTION) == (2, toggled(build("production", 1)))
        proxy.cut_after = b"EVALSHA"
        assert await store.environments.delete(toggled(build("production", 1))) == 3
        assert proxy.cuts == 2
        assert [change.revision for change in await store.changes.read_after("0-0")] == [1, 2, 3]


async def test_a_conflict_whose_reply_is_lost_is_no_commit(start_server: StartServer) -> None:
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await store.environments.commit(build("production", 1), 0)
        await store.environments.commit(toggled(build("production", 1)), 1)
        proxy.cut_after = b"EVALSHA"
        with pytest.raises(Unavailable):
            await store.environments.commit(apply(build("production", 1), [PutService("api")], worlds.NOW), 1)
        assert proxy.cuts == 1
        assert (await store.environments.read(PRODUCTION))[0] == 2


# Sentinel


async def test_a_failover_by_sentinel(start_server: StartServer, sentinel_binary: str, tmp_path: Any) -> None:
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True, binary=sentinel_binary)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}", tcp=True, binary=sentinel_binary)
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
    )
    sentinel = await start_sentinel(sentinel_binary, str(configuration), tmp_path / "sentinel")
    try:
        async with opened(f"sentinel://127.0.0.1:{sentinel.port}/main") as store, opened(replica.url) as reader:
            await store.environments.commit(build("production", 1), 0)
            await replicated(reader, PRODUCTION, 1)
            await sentinel_knows(sentinel, replicas=1)
            primary.kill()
            with pytest.raises(Unavailable):
                await store.ping()
            await answers(store)
            await store.environments.commit(toggled(build("production", 1)), 1)
            assert (await reader.environments.read(PRODUCTION))[0] == 2
    finally:
        sentinel.kill()


async def start_sentinel(binary: str, configuration: str, directory: Any) -> Server:
    server = Server(binary, directory, port=free_port())
    server._command = [binary, configuration, "--sentinel", "--port", str(server.port), "--bind", "127.0.0.1"]
    return await server.start()


async def sentinel_knows(sentinel: Server, replicas: int) -> None:
    async with redis_of(f"redis://127.0.0.1:{sentinel.port}") as redis:
        deadline = time.monotonic() + DEADLINE
        while (await redis.sentinel_master("main"))["num-slaves"] < replicas:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_sentinels_that_are_not_there() -> None:
    async with opened(f"sentinel://:{SECRET}@127.0.0.1:{free_port()}/main") as store:
        assert_unavailable(await every_call(store), "No master found")
