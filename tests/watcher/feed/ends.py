"""The two ends of a feed: an agent, a real follower, and a resolver that sends only what a test has it send."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from tests.waiting import DEADLINE, until
from tests.watcher.harness import Recorder
from tests.worlds import PLATFORM, PRODUCTION, STAGING, build
from watcher.feed.follower import Follower
from watcher.feed.protocol import own_address
from watcher.feed.server import FeedServer
from watcher.keeper import SnapshotKeeper
from zones.edits import PutInstance, PutService
from zones.model import Environment


@asynccontextmanager
async def agent(path: Path, *environments: Environment, loaded: bool = True) -> AsyncIterator[FeedServer]:
    """An agent that has published ``environments``."""
    server = FeedServer(path)
    await server.start()
    try:
        await publish(server, *environments)
        if loaded:
            server.loaded()
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def resolver(
    path: Path,
    server: FeedServer | None = None,
    clock: Callable[[], float] = time.time,
    snapshots: SnapshotKeeper | None = None,
) -> AsyncIterator[tuple[Follower, Recorder]]:
    """A follower, connected to ``server`` if one is given."""
    recorder, others = Recorder(), server.resolvers if server else 0
    follower = Follower(path, PLATFORM, recorder, clock, snapshots)
    task = asyncio.create_task(follower.run())
    try:
        await until(lambda: server is None or server.resolvers > others)
        yield follower, recorder
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@dataclass
class Puppet:
    """A resolver that sends only what the test has it send."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def receive(self) -> str:
        """The first three words of the next message. Empty if the agent has closed the connection."""
        async with asyncio.timeout(DEADLINE):
            with suppress(ConnectionError):
                return " ".join((await self.reader.readline()).decode().split()[:3])
        return ""

    async def receive_all(self, number: int) -> list[str]:
        return [await self.receive() for _ in range(number)]

    def send(self, line: str) -> None:
        self.writer.write(line.encode() + b"\n")


@asynccontextmanager
async def puppet(path: Path, *, takes_differences: bool = False) -> AsyncIterator[Puppet]:
    sock = socket.socket(socket.AF_UNIX)
    if takes_differences:
        sock.bind(own_address())
    sock.connect(str(path))
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=1 << 24)
    try:
        yield Puppet(reader, writer)
    finally:
        writer.transport.abort()


async def publish(server: FeedServer, *environments: Environment) -> None:
    """Announces and publishes ``environments``, as an agent does once it has their routes."""
    for environment in environments:
        server.announce(environment)
    await asyncio.gather(*(server.publish(environment) for environment in environments))


def production(revision: int = 1) -> Environment:
    return replace(build(PRODUCTION, 1, PutService("api"), PutInstance("api", "a1")), revision=revision)


def staging() -> Environment:
    return build(STAGING, 2, PutService("api"), PutInstance("api", "a1"))
