"""What the tests of the store and its watcher are made of: servers and connections that fail on demand."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.connection import connect
from store.environments import COMMIT_SCRIPT
from store.errors import StoreError
from store.hosts import Hosts
from store.keys import Keys
from store.store import Store
from tests.worlds import PLATFORM
from watcher.watcher import Watcher
from zones import document
from zones.model import Environment
from zones.names import EnvironmentId
from zones.zone import Zone

DEADLINE = 20.0  # seconds; what is waited for comes within milliseconds, unless the machine is busy


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Returns as soon as ``condition`` holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE:.0f} s in vain: {what or condition}"
        await asyncio.sleep(0.005)


@dataclass
class Recorder:
    """A publisher that keeps what it is told, and in which order."""

    zones: dict[EnvironmentId, Zone] = field(default_factory=dict)
    coming: dict[EnvironmentId, Zone] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    heard: list[Hosts] = field(default_factory=list)
    is_loaded: bool = False

    def announce(self, zone: Zone) -> None:
        self.coming[zone.id] = zone
        self.events.append(("announce", zone.id))

    def publish(self, zone: Zone) -> None:
        if self.coming.get(zone.id) is zone:
            del self.coming[zone.id]
        self.zones[zone.id] = zone
        self.events.append(("publish", zone.id))

    def withdraw(self, environment: EnvironmentId) -> None:
        assert environment in {*self.zones, *self.coming}
        self.zones.pop(environment, None)
        self.coming.pop(environment, None)
        self.events.append(("withdraw", environment))

    def loaded(self) -> None:
        assert not self.is_loaded
        self.is_loaded = True
        self.events.append(("loaded", ""))

    def take_hosts(self, hosts: Hosts) -> None:
        self.heard.append(hosts)
        self.events.append(("hosts", str(hosts.revision)))

    def holds(self, *environments: Environment) -> bool:
        """Whether exactly ``environments`` are served, as they are."""
        return self.documents == {environment.id: document.encode(environment) for environment in environments}

    @property
    def documents(self) -> dict[EnvironmentId, bytes]:
        return {id_: document.encode(zone.environment) for id_, zone in self.zones.items()}


@asynccontextmanager
async def following(
    store: Store,
    clock: Callable[[], float] = time.time,
    *,
    loaded: bool = True,
    interest: str | None = None,
    with_hosts: bool = False,
) -> AsyncIterator[tuple[Watcher, Recorder]]:
    """A watcher that follows ``store`` and has loaded it."""
    recorder = Recorder()
    watcher = Watcher(
        store, PLATFORM, recorder, clock, interest=interest, on_hosts=recorder.take_hosts if with_hosts else None
    )
    task = asyncio.create_task(watcher.run())
    try:
        if loaded:
            await until(lambda: recorder.is_loaded or task.done(), "loaded")
        yield watcher, recorder
        assert not task.done(), task.exception()
    finally:
        await _cancelled(task)


@asynccontextmanager
async def redis_of(url: str) -> AsyncIterator[Any]:
    """A plain client of the server at ``url``, for what nobody should do to a store."""
    client = connect(url, timeout=DEADLINE)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def opened(url: str, prefix: str = "test:") -> AsyncIterator[Store]:
    """A store of a test's own at ``url``."""
    store = Store(url, prefix)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def inside(store: Store, url: str) -> AsyncIterator[tuple[Any, Keys]]:
    """A plain client of ``store``'s server, and the keys that it holds."""
    async with redis_of(url) as redis:
        yield redis, store.connection.keys


async def commit_raw(
    store: Store, redis: Any, id_: str, revision: int, written: bytes, network: str, hosts: str = "-"
) -> None:
    """What a writer of another release may commit: by the script, but with any document."""
    script = redis.register_script(COMMIT_SCRIPT)
    outcome = await script(*commit_arguments(store, id_, revision, written, network, hosts))
    assert outcome[0] == b"ok"


def commit_arguments(
    store: Store, id_: str, revision: int, written: bytes, network: str, hosts: str = "-"
) -> tuple[list[str], list[Any]]:
    """The keys and arguments of the script that commits."""
    keys = store.connection.keys
    return (
        [keys.epoch, keys.environments, keys.environment(id_), keys.networks, keys.changes, keys.acks(id_)],
        [id_, revision - 1, revision, document.digest(written), network, written, hosts, "epoch", 1000],
    )


async def served_documents(store: Store) -> dict[EnvironmentId, bytes]:
    """What a watcher of ``store`` should serve: by its documents alone."""
    index = await store.environments.index()
    read = await store.environments.documents(index) if index else {}
    return {id_: written for id_, (_entry, written) in read.items() if written is not None}


class Server:
    """A Redis or Valkey server of a test's own, in ``directory``, on a unix socket or a TCP port."""

    def __init__(self, binary: str, directory: Path, *options: str, port: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.socket = directory / "s.sock"
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{self.socket}"
        self._log = directory / "server.log"
        self._command: Sequence[str] = [
            binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "",
            "--unixsocket", str(self.socket), *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Server:
        """Starts it and returns when it answers, be it only to say that it is loading or wants a password."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)  # noqa: ASYNC220 quick
        deadline = time.monotonic() + DEADLINE
        while not await self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise StoreError(f"the test's server did not start: {self._log.read_text()[-2000:]}")
            await asyncio.sleep(0.01)
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """``kill -9``."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def _answers(self) -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                if self.port:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                else:
                    reader, writer = await asyncio.open_unix_connection(str(self.socket))
                try:
                    writer.write(b"PING\r\n")
                    return bool(await reader.read(1))
                finally:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()
        return False


class Proxy:
    """A TCP proxy before a server's unix socket that fails in the way that is asked of it."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.refuse = False  # end each new connection at once
        self.swallow = False  # take what clients send, and say nothing
        self.cut_after: bytes | None = None  # forward the request that has this in it, lose its reply
        self.cuts = 0
        self.requests = 0  # how many pieces clients have sent: one for each wait for a reply

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse = True
        self._server.close()
        for _step in range(5):  # what is being accepted just now
            await asyncio.sleep(0)
        self.drop()
        await asyncio.gather(*self._tasks)

    def drop(self) -> None:
        """Ends all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        self._writers.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(str(self._target))
        self._writers.add(server_writer)
        back = asyncio.create_task(self._copy_back(server_reader, writer))
        try:
            with suppress(OSError):
                while request := await reader.read(65536):
                    self.requests += 1
                    if self.swallow:
                        continue
                    server_writer.write(request)
                    if self.cut_after and self.cut_after in request:
                        await _cancelled(back)
                        await server_reader.read(1)  # the reply is there, so the server has done it
                        self.cuts += 1
                        self.cut_after = None
                        return
        finally:
            await _cancelled(back)
            for end in (writer, server_writer):
                self._writers.discard(end)
                end.transport.abort()

    async def _copy_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while reply := await reader.read(65536):
                if not self.swallow:
                    writer.write(reply)


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Returns when ``task`` has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
