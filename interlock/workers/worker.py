"""A worker: answers what comes to its sockets, from the zones that it was forked with and what it is sent since."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any, assert_never

from interlock.observe.metrics import resolver_figures
from interlock.process.collector import WHILE_SERVING
from interlock.process.scheduling import go_first
from interlock.workers.handed import LONGEST
from interlock.workers.messages import (
    Changes,
    Done,
    Figures,
    FromWorker,
    Leave,
    Loaded,
    Report,
    Seen,
    Serving,
    ToWorker,
    Unwatch,
    Watch,
    packed,
    receive,
)
from interlock.workers.steps import apply_change
from resolver.querylog import Watch as Lines
from resolver.server import Resolver
from resolver.sockets import SocketPair
from support.breaks import Breaks, leave_core, pause

LEAVING_SOON = 0.5  # seconds for which TCP connections in use are served, where none may be told to take longer
HUNG_AFTER = 20  # seconds; the process with the zones, if there is one, has killed it by then
WELL_EVERY = 1.0  # seconds
MOST_UNSENT = 1 << 20  # octets of lines for the query log that the other end has not read; beyond that they are skipped


class Worker:
    """One worker. ``resolver`` has the zones; ``follow`` keeps its upstreams as they are.

    It answers until it is told to leave. When the process with the zones ends without that, it goes on while the other
    end of ``line`` is open; None: it ends too.
    """

    def __init__(
        self,
        resolver: Resolver,
        sockets: Sequence[SocketPair],
        channel: socket.socket,
        follow: Coroutine[Any, Any, None],
        line: socket.socket | None = None,
    ) -> None:
        self._resolver = resolver
        self._sockets = sockets
        self._channel = channel
        self._follow = follow
        self._line = line
        self._watchers: dict[int, asyncio.Task[None]] = {}
        self._leaving: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter

    async def run(self) -> None:
        """Answers until it is to end."""
        gc.set_threshold(*WHILE_SERVING)
        go_first()
        leave_core()
        reader, self._writer = await asyncio.open_unix_connection(sock=self._channel)
        await self._resolver.start(self._sockets)
        self._say(Serving())
        tasks = [asyncio.create_task(self._follow), asyncio.create_task(_end_if_hung())]
        try:
            await self._obey(reader)
        except (EOFError, ConnectionError):
            if self._line and not self._leaving:
                await self._go_on(self._line)
            await (self._leaving or self._resolver.leave(LEAVING_SOON))
        finally:
            for task in (*tasks, *self._watchers.values()):
                task.cancel()

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        while True:
            message: ToWorker = await receive(reader)
            match message:
                case Changes():
                    await self._apply(message)
                case Loaded():
                    self._resolver.loaded()
                case Watch(number, filters, most):
                    lines = self._resolver.querylog.watch(*filters, most=most)
                    self._watchers[number] = asyncio.create_task(self._pass_on(number, lines))
                case Unwatch(number):
                    self._watchers.pop(number).cancel()
                case Report():
                    self._say(Figures(resolver_figures(self._resolver)))
                case Leave(seconds):  # what is held waits for changes, so they are heard all the while
                    self._leaving = asyncio.create_task(self._leave(seconds))
                case unreachable:
                    assert_never(unreachable)

    async def _apply(self, message: Changes) -> None:
        await pause()  # for what came while the message was read
        began, breaks = time.thread_time(), Breaks()
        for change in message.changes:
            apply_change(self._resolver, change)
            await breaks.take()
        self._say(Done(time.thread_time() - began))

    async def _go_on(self, line: socket.socket) -> None:
        """Answers with the zones that there are until others do on the same sockets, or nobody is to."""
        if self._resolver.stale_since is None:
            self._resolver.restored(time.time())  # from now on nobody confirms them, and replies say so
        for watcher in self._watchers.values():  # nobody takes their lines
            watcher.cancel()
        # What comes was for the process with the zones. Not to be read before its end, for that has the line as well.
        while await asyncio.get_running_loop().sock_recv(line, LONGEST):
            pass

    async def _leave(self, seconds: float) -> None:
        await self._resolver.leave(seconds)
        self._say(Figures(resolver_figures(self._resolver)))
        with contextlib.suppress(OSError):
            self._writer.close()
            await self._writer.wait_closed()

    async def _pass_on(self, number: int, lines: Lines) -> None:
        try:
            while True:
                line = await lines.get()
                if self._writer.transport.get_write_buffer_size() > MOST_UNSENT:
                    lines.skipped[line.environment or ""] += 1
                    continue
                self._say(Seen(number, line, dict(lines.skipped)))
                lines.skipped.clear()
        finally:
            self._resolver.querylog.unwatch(lines)

    def _say(self, message: FromWorker) -> None:
        if not self._writer.is_closing():
            self._writer.write(packed(message))


async def _end_if_hung() -> None:
    """Has the kernel end this process (SIGALRM) when its event loop has stood still for `HUNG_AFTER`."""
    while True:
        signal.alarm(HUNG_AFTER)
        await asyncio.sleep(WELL_EVERY)
