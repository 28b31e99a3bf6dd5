"""A worker as the process with the zones sees it: what it serves, what it is still to be sent, how it is.

Like a feed's connection it holds marks, no backlog: a change only marks its environment. What the worker is sent is the
difference between what it has and what there is at that moment. One message is on its way at a time; while the worker
works on it, and rests, further changes of an environment become one. So however many there are, they take a share of
the worker's time and no more, and queries have the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from interlock.observe.figures import Families
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
    packed,
    receive,
)
from interlock.workers.steps import Change, Shown, pack_change
from support.breaks import Breaks
from zones.names import EnvironmentId

MOST_AT_ONCE = 1 << 18  # octets of changes in one message; a worker makes zones of them within some tens of ms
REST = 4.0  # of the processor time that a message took, before the next one: a fifth of the worker's time at most
SHORTEST_REST = 0.002  # seconds; each message wakes the worker, and that costs too
LAST_WORDS = 1.0  # seconds to read what a worker said before its end
REPORT_EVERY = 1.0  # seconds
HUNG_AFTER = 10.0  # seconds without an answer, though it is asked every second; then the worker is killed


@dataclass(eq=False, slots=True)
class Handle:
    """One worker."""

    slot: int
    """Which sockets it has."""
    pid: int
    """Its process."""
    channel: socket.socket
    """This end of the socket between the two."""
    current: Callable[[EnvironmentId], Shown]
    """Gives what is served for an environment now."""
    on_seen: Callable[[Seen], None]
    """Gets its lines for the query log."""
    on_change: Callable[[], None]
    """Is called when it serves something new, or has ended."""
    figures: Families = ()
    """What it has done since it began, as it said last."""
    is_serving: bool = False
    """Whether it answers queries."""
    is_leaving: bool = False
    """Whether it was told to leave."""
    is_gone: bool = False
    """Whether its process has ended."""
    _marked: dict[EnvironmentId, Shown] = field(default_factory=dict)  # changed, with what the worker serves of it
    _due: set[EnvironmentId] = field(default_factory=set)  # sent, and not confirmed yet
    _has_to_load: bool = False
    _confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    _took: float = 0.0  # seconds of processor time that the last message has taken the worker
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _reported: asyncio.Event = field(default_factory=asyncio.Event)
    _writer: asyncio.StreamWriter | None = None
    _unsent: list[bytes] = field(default_factory=list)  # what it is told before there is a writer

    async def run(self) -> int:
        """Talks with it until it has ended; gives its exit status, below zero for the signal that ended it."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self.channel)
        self._writer.writelines(self._unsent)
        receiving = asyncio.create_task(self._receive(reader))
        tasks = [receiving, asyncio.create_task(self._send()), asyncio.create_task(self._watch_over())]
        try:
            status = await self._ended()
            self.is_gone = True  # from now on its process id may be somebody else's
            await asyncio.wait({receiving}, timeout=LAST_WORDS)
            return status
        finally:
            self.is_gone, self.is_serving = True, False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writer.transport.abort()
            self._reported.set()
            self.on_change()

    def mark(self, id_: EnvironmentId, had: Shown) -> None:
        """Notes that something else than ``had`` is served for ``id_`` from now on."""
        self._marked.setdefault(id_, had)
        self._wake.set()

    def load(self) -> None:
        """Notes that all environments are known, after all that is marked so far."""
        self._has_to_load = True
        self._wake.set()

    def has(self, id_: EnvironmentId) -> bool:
        """Whether it serves what is served for ``id_`` now, as far as it is known; so does one that has ended."""
        return self.is_gone or (id_ not in self._marked and id_ not in self._due)

    def tell(self, message: ToWorker) -> None:
        """Sends it ``message``; nothing where it has ended."""
        if not self._writer:
            self._unsent.append(packed(message))
        elif not self.is_gone:
            self._writer.write(packed(message))

    def leave(self, seconds: float) -> None:
        """Has it end when it has answered what it has received, within about ``seconds``."""
        if not self.is_leaving:
            self.is_leaving = True
            self.tell(Leave(seconds))

    def kill(self) -> None:
        """Ends it at once."""
        if not self.is_gone:
            os.kill(self.pid, signal.SIGKILL)

    async def report(self, seconds: float) -> bool:
        """Has `figures` be of this moment. False where it has not said within ``seconds`` what it did."""
        self._reported.clear()
        self.tell(Report())
        if not self.is_gone:
            try:
                await asyncio.wait_for(self._reported.wait(), seconds)
            except TimeoutError:
                return False
        return True

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._marked:
                self._confirmed.clear()
                self.tell(await self._take())
                await self._confirmed.wait()
                if self._marked:
                    await asyncio.sleep(max(SHORTEST_REST, REST * self._took))
            if self._has_to_load:
                self._has_to_load = False
                self.tell(Loaded())

    async def _take(self) -> Changes:
        """The next changes, which are marked no longer."""
        changes, octets, breaks = list[Change](), 0, Breaks()
        while self._marked and octets < MOST_AT_ONCE:
            id_, had = next(iter(self._marked.items()))
            del self._marked[id_]
            self._due.add(id_)
            changes.append(pack_change(id_, had, self.current(id_)))
            octets += changes[-1].octets
            await breaks.take()
        return Changes(tuple(changes))

    async def _watch_over(self) -> None:
        """Asks it every second what it has done, and kills it where it hangs."""
        while True:
            await asyncio.sleep(REPORT_EVERY)
            if not await self.report(HUNG_AFTER):
                self.kill()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self._hear(await receive(reader))

    def _hear(self, message: FromWorker) -> None:
        match message:
            case Serving():
                self.is_serving = True
                self.on_change()
            case Done(seconds):
                self._took = seconds
                self._due.clear()
                self._confirmed.set()
                self.on_change()
            case Figures(families):
                self.figures = families
                self._reported.set()
            case Seen():
                self.on_seen(message)

    async def _ended(self) -> int:
        """Returns when its process has ended, with its exit status."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        descriptor = os.pidfd_open(self.pid)
        try:
            loop.add_reader(descriptor, ended.set)
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return _reap(self.pid)


def _reap(pid: int) -> int:
    """The exit status of the child ``pid``, which has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
