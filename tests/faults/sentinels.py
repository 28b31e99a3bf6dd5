"""A primary, two replicas and three Sentinels of a test's own, and the ways in which the primary is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from store.errors import StoreError
from tests.store.servers import Server, free_port, redis_of
from tests.waiting import DEADLINE

NAME = "main"
REPLICAS, SENTINELS = 2, 3
DOWN_AFTER = 1000  # milliseconds until a Sentinel counts a silent server as down
SERVER_OPTIONS = ("--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes", "--repl-backlog-size", "16mb")


class SentinelSet:
    """A primary, its replicas, and the Sentinels that watch them."""

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self._directory = directory
        self._servers: dict[int, Server] = {}
        self._sentinels: list[Server] = []
        self._coming_back: asyncio.Task[None] | None = None  # what was lost

    async def start(self) -> SentinelSet:
        for number in range(1 + REPLICAS):
            server = Server(self._binary, self._directory / f"server{number}", *self._options(), port=free_port())
            self._servers[server.port] = server
            await server.start()
        primary = next(iter(self._servers))
        for number in range(SENTINELS):
            await self._start_sentinel(number, primary)
        await self.whole()
        return self

    def kill(self) -> None:
        for server in [*self._sentinels, *self._servers.values()]:
            server.kill()

    @property
    def url(self) -> str:
        return f"sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self._sentinels)}/{NAME}"

    async def primary(self) -> int:
        """The port of the primary, as the first Sentinel has it."""
        async with redis_of(f"redis://127.0.0.1:{self._sentinels[0].port}") as redis:
            return int((await redis.sentinel_get_master_addr_by_name(NAME))[1])

    async def whole(self) -> None:
        """Returns when each Sentinel knows all the others, and all replicas to be linked to the primary."""
        for sentinel in self._sentinels:
            async with redis_of(f"redis://127.0.0.1:{sentinel.port}") as redis:
                deadline = time.monotonic() + 3 * DEADLINE
                while True:
                    primary = await redis.sentinel_master(NAME)
                    known = await redis.sentinel_slaves(NAME)
                    linked = [one for one in known if one["master-link-status"] == "ok" and one["flags"] == "slave"]
                    alone = primary["flags"] == "master" and primary["num-other-sentinels"] == SENTINELS - 1
                    if alone and len(linked) == REPLICAS:
                        break
                    assert time.monotonic() < deadline, (primary, known)
                    await asyncio.sleep(0.1)

    async def fail_over(self, way: str) -> float:
        """Loses the primary in the ``way`` that is named; returns when another one was elected (``time.monotonic``)."""
        before = await self.primary()
        back = await WAYS[way](self, self._servers[before])
        deadline = time.monotonic() + 3 * DEADLINE
        while await self.primary() == before:
            assert time.monotonic() < deadline, f"{way}: no Sentinel has elected another primary"
            await asyncio.sleep(0.01)
        elected = time.monotonic()
        self._coming_back = asyncio.create_task(back())
        return elected

    async def recover(self) -> None:
        """Returns when what was lost is back, as a replica."""
        assert self._coming_back
        await self._coming_back
        await self.whole()

    def _options(self) -> list[str]:
        if not self._servers:
            return list(SERVER_OPTIONS)
        return [*SERVER_OPTIONS, "--replicaof", f"127.0.0.1 {next(iter(self._servers))}"]

    async def _start_sentinel(self, number: int, primary: int) -> None:
        configuration = self._directory / f"sentinel{number}.conf"
        configuration.write_text(
            f"sentinel monitor {NAME} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER}\n"
            f"sentinel failover-timeout {NAME} 3000\nsentinel parallel-syncs {NAME} 2\n"
        )
        server = Server(self._binary, self._directory / f"sentinel{number}", port=free_port())
        server._command = [
            self._binary, str(configuration), "--sentinel", "--port", str(server.port), "--bind", "127.0.0.1",
        ]  # fmt: skip
        self._sentinels.append(server)
        await server.start()

    async def _kill(self, primary: Server) -> Callable[[], Coroutine[Any, Any, None]]:
        primary.kill()

        async def back() -> None:
            # As what it was started as: a primary, or a replica of one that is none by now, without any data.
            await primary.start()

        return back

    async def _stop(self, primary: Server) -> Callable[[], Coroutine[Any, Any, None]]:
        primary.signal(signal.SIGSTOP)

        async def back() -> None:
            await asyncio.sleep(2)  # the time of the fault, in which it is away although another one is the primary
            primary.signal(signal.SIGCONT)

        return back

    async def _hang(self, primary: Server) -> Callable[[], Coroutine[Any, Any, None]]:
        async def sleep() -> None:
            async with redis_of(primary.url) as redis:
                with suppress(RedisError, OSError, StoreError):
                    await redis.execute_command("DEBUG", "SLEEP", 4)

        sleeping = asyncio.create_task(sleep())

        async def back() -> None:
            await sleeping

        return back

    async def _plan(self, _primary: Server) -> Callable[[], Coroutine[Any, Any, None]]:
        async with redis_of(f"redis://127.0.0.1:{self._sentinels[0].port}") as redis:
            await redis.sentinel_failover(NAME)

        async def back() -> None:
            pass

        return back


WAYS: dict[str, Callable[[SentinelSet, Server], Awaitable[Callable[[], Coroutine[Any, Any, None]]]]] = {
    "hung": SentinelSet._hang,  # DEBUG SLEEP 4: it comes back as a primary, and is told otherwise seconds later
    "killed": SentinelSet._kill,  # kill -9: it comes back empty
    "stopped": SentinelSet._stop,  # SIGSTOP
    "planned": SentinelSet._plan,  # SENTINEL FAILOVER
}
