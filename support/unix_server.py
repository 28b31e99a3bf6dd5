"""A server on a unix socket: whom it lets connect, what a killed predecessor left, and the end of its connections."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

LONGEST_LINE = 1 << 16  # octets; the limit of asyncio's streams where a server asks for no other

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class SocketInUse(OSError):
    """Another process listens on the socket."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))


class UnixServer:
    """Runs ``serve`` in a task of its own for each connection to the unix socket ``path``, and closes it afterwards.

    The socket has the permissions ``mode``. A line that is longer than ``longest_line`` octets cannot be read from it.
    """

    def __init__(self, path: Path, serve: Serve, *, mode: int = 0o600, longest_line: int = LONGEST_LINE) -> None:
        self._path = path
        self._serve = serve
        self._mode = mode
        self._longest_line = longest_line
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, *, group: int | None = None) -> None:
        """Listens; the socket belongs to ``group``, or to our own where that is None. Makes the folder if need be.

        Raises `SocketInUse` where another process listens there, and ``OSError``; then it does not listen.
        """
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if _is_alive(self._path):
            raise SocketInUse(self._path)
        self._path.unlink(missing_ok=True)
        # By the umask, for a mode that is set later would let others connect until then.
        umask = os.umask(0o777 & ~self._mode)
        try:
            self._server = await asyncio.start_unix_server(self._accept, self._path, limit=self._longest_line)
        finally:
            os.umask(umask)
        if group is not None:
            try:
                os.chown(self._path, -1, group)
            except OSError:
                await self.stop()
                raise

    async def stop(self) -> None:
        """Listens no more, cancels what serves the connections, and returns when that has ended."""
        if self._server:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(lambda _: self._end(task, writer))

    def _end(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self._connections.discard(task)
        writer.close()


def _is_alive(path: Path) -> bool:
    """Whether a process listens on the unix socket ``path``; otherwise the file was left by one that was killed."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
