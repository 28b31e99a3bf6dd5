"""Servers of a test's own, to be stopped, killed and misconfigured, and clients of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from store.client import arguments_of, open_client
from store.errors import StoreError
from store.keys import Keys
from store.options import StoreOptions
from store.store import Store
from tests.waiting import DEADLINE, cancel

StartServer = Callable[..., Awaitable["Server"]]


class Server:
    """A Redis or Valkey server of a test's own, in ``directory``, on a unix socket or a TCP port."""

    def __init__(self, binary: str, directory: Path, *options: str, port: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.socket = directory / "store.sock"
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{self.socket}"
        self._log = directory / "store.log"
        self._command: Sequence[str] = [
            binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "",
            "--unixsocket", str(self.socket), *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Server:
        """Starts it and returns when it answers, even if only to say that it is loading or wants a password."""
        await asyncio.to_thread(self._start)
        return self

    def __enter__(self) -> str:
        """Starts it again, with the data on its disk if it keeps any; gives its URL."""
        self._start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise StoreError(f"the test's server did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """``kill -9``."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        family, address = (
            (socket.AF_INET, ("127.0.0.1", self.port)) if self.port else (socket.AF_UNIX, str(self.socket))
        )
        with suppress(OSError), socket.socket(family) as sock:
            sock.settimeout(1.0)
            sock.connect(address)
            sock.sendall(b"PING\r\n")
            return bool(sock.recv(1))
        return False


class Proxy:
    """A TCP proxy before a server's unix socket that fails as a test wants it to."""

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

    def point_to(self, target: Path) -> None:
        """Connects new clients to ``target``, and ends the connections of the others."""
        self._target = target
        self.drop()

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
                        await cancel(back)
                        await server_reader.read(1)  # the reply is there, so the server has done it
                        self.cuts += 1
                        self.cut_after = None
                        return
        finally:
            await cancel(back)
            for end in (writer, server_writer):
                self._writers.discard(end)
                end.transport.abort()

    async def _copy_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while reply := await reader.read(65536):
                if not self.swallow:
                    writer.write(reply)


@asynccontextmanager
async def opened(url: str, prefix: str = "test:", options: StoreOptions | None = None) -> AsyncIterator[Store]:
    """A store of a test's own at ``url``."""
    store = Store(url, prefix, options)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def redis_of(url: str) -> AsyncIterator[Any]:
    """A plain client of the server at ``url``, for what only tests should do to a store."""
    client = open_client(arguments_of(url), timeout=DEADLINE, any_role=True)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def inside(store: Store, url: str) -> AsyncIterator[tuple[Any, Keys]]:
    """A plain client of ``store``'s server, and the names of the keys there."""
    async with redis_of(url) as redis:
        yield redis, store.connection.keys


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
