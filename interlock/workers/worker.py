"""A worker: answers what comes to its sockets, from the zones that it was forked with and what it is sent since."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any, assert_never

from interlock.observe.metrics import resolver_figures
from interlock.process.collector import WHILE_SERVING
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
from support.breaks import Breaks

MOST_UNSENT = 1 << 20  # octets of lines for the query log that the other end has not read; beyond that they are skipped


class Worker:
    """One worker. ``resolver`` has the zones; ``follow`` keeps its upstreams as they are."""

    def __init__(
        self,
        resolver: Resolver,
        sockets: Sequence[SocketPair],
        channel: socket.socket,
        follow: Coroutine[Any, Any, None],
    ) -> None:
        self._resolver = resolver
        self._sockets = sockets
        self._channel = channel
        self._follow = follow
        self._watchers: dict[int, asyncio.Task[None]] = {}
        self._leaving: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter

    async def run(self) -> None:
        """Answers until it is told to leave, or until nobody is there who could tell it anything."""
        gc.set_threshold(*WHILE_SERVING)
        reader, self._writer = await asyncio.open_unix_connection(sock=self._channel)
        await self._resolver.start(self._sockets)
        self._say(Serving())
        following = asyncio.create_task(self._follow)
        try:
            await self._obey(reader)
        except (EOFError, ConnectionError):
            await (self._leaving or self._resolver.stop())
        finally:
            following.cancel()
            for watcher in self._watchers.values():
                watcher.cancel()

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
        began, breaks = time.thread_time(), Breaks()
        for change in message.changes:
            apply_change(self._resolver, change)
            await breaks.take()
        self._say(Done(time.thread_time() - began))

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
