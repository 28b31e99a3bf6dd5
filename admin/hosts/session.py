"""One session: a WebSocket of an agent, from its first message until either side ends it.

read   one message at a time, no faster than the limits say; each is answered by a task of its own
send   updates, as fast as the agent takes them
end    from outside, when the host's credential is not good any more: nothing is answered after that
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from admin.hosts.counts import HostCounts
from admin.hosts.limits import HostLimits
from admin.hosts.lookups import HostLookups
from admin.hosts.requests import HostRequests
from admin.http.limits import Buckets
from admin.lookups.hub import LookupHub
from support.breaks import Breaks
from watcher.session.errors import SessionBroken
from watcher.session.protocol import (
    IDLE,
    Answer,
    Close,
    Failure,
    Hello,
    Request,
    Wait,
    Welcome,
    decode_request,
    encode,
    join_messages,
)

SLICE = 0.005  # seconds of making updates without a break for other sessions
TOGETHER = 65_536  # octets of updates that are sent at once, unless one alone has more
CLOSE_SECONDS = 2.0  # for the agent to hear why

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class HostSession:
    """A session with the agent of one host."""

    socket: web.WebSocketResponse
    """The connection."""
    requests: HostRequests
    """Answers what the agent asks."""
    limits: HostLimits
    """How much it may ask."""
    counts: HostCounts
    """Where it is counted."""
    on_begun: Callable[[HostSession], None]
    """Is called once the agent has said which incarnation it is."""
    hub: LookupHub
    """Is given the look-ups of the host."""
    lookups: HostLookups = field(init=False)
    """The look-ups of the host."""
    is_ended: bool = False
    """Whether this end has closed it."""
    _bucket: Buckets = field(init=False)
    _working: asyncio.Semaphore = field(init=False)
    _waiting: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._bucket = Buckets(self.limits.rate, self.limits.burst, 1)
        self._working = asyncio.Semaphore(self.limits.at_once)
        updates = self.requests.updates
        self.lookups = HostLookups(
            self.host, self.hub, self._say, updates.had, lambda: updates.state.environments_on(self.host)
        )
        self.requests.lookups = self.lookups

    @property
    def host(self) -> str:
        """The host whose session it is."""
        return self.requests.host

    async def run(self) -> None:
        """Reads and answers until either side ends the session."""
        try:
            await self._read()
        except SessionBroken as error:
            self.end(Close.BROKEN, str(error))
        except TimeoutError:
            self.end(Close.IDLE, f"nothing came for {IDLE:g} s")
        finally:
            tasks = [task for task in self._tasks if task.get_name() != "closing"]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def examine(self, question: str) -> str:
        """The facts that the agent gives for ``question``; see `Examinations.ask`."""
        return await self.requests.examinations.ask(question, self._send)

    def end(self, code: Close, reason: str) -> None:
        """Ends the session at once: nothing is answered or sent any more, and the agent hears ``reason``."""
        if self.is_ended:
            return
        self.is_ended = True
        self.counts.ended[code.name.lower()] += 1
        log.info("session_ended", extra={"host": self.host, "kind": code.name.lower(), "reason": reason})
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._start(self._close(code, reason), "closing")

    async def _close(self, code: Close, reason: str) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.socket.close(code=code, message=reason.encode()[:120])
        except (TimeoutError, OSError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Ends the connection without a word."""
        request = self.socket._req
        if request is not None and request.transport is not None:
            request.transport.abort()

    async def _read(self) -> None:
        while not self.is_ended:
            async with asyncio.timeout(IDLE):
                message = await self.socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return  # closed by either side, or too large, or no WebSocket any more
            await self._pace(len(message.data))
            request = decode_request(message.data)
            if isinstance(request, Wait):
                self._wait(request)
            else:
                await self._working.acquire()
                self._start(self._work(request))

    async def _pace(self, octets: int) -> None:
        for _ in range(1 + octets // self.limits.octets_a_request):
            if wait := self._bucket.take("", time.monotonic()):
                self.counts.throttled += 1
                await asyncio.sleep(wait)

    def _wait(self, request: Wait) -> None:
        if self._waiting >= self.limits.waiting:
            text = f"{self.limits.waiting} requests wait for other hosts already: wait for some of them to end"
            self._start(self._reply(request, Failure(request.number, "unavailable", text)))
            return
        self._waiting += 1
        self._start(self._work_waiting(request))

    async def _work_waiting(self, request: Wait) -> None:
        try:
            await self._reply(request, await self.requests.answer(request))
        finally:
            self._waiting -= 1

    async def _work(self, request: Request) -> None:
        try:
            answer = await self.requests.answer(request)
            await self._reply(request, answer)
        finally:
            self._working.release()
        if isinstance(request, Hello) and isinstance(answer, Welcome):
            self.on_begun(self)
            self._start(self._send_updates())

    async def _reply(self, request: Request, answer: Answer | Failure) -> None:
        outcome = answer.kind if isinstance(answer, Failure) else "done"
        self.counts.requests[type(request).__name__, outcome] += 1
        if outcome == "refused":
            log.warning("host_refused", extra={"host": self.host, "request": type(request).__name__})
        await self._send(encode(answer))

    async def _send_updates(self) -> None:
        updates = self.requests.updates
        while True:
            await updates.woken.wait()
            updates.woken.clear()
            breaks = Breaks(SLICE)
            while messages := self._take_some():
                together = join_messages(messages)
                await self._send(together)
                self.counts.updates += len(messages)
                self.counts.update_octets += len(together)
                await breaks.take()

    def _take_some(self) -> list[bytes]:
        """The next updates, up to some octets. What is not taken yet may be newer when it is."""
        some, octets = list[bytes](), 0
        while octets < TOGETHER and (messages := self.requests.updates.take()):
            some += messages
            octets += sum(map(len, messages))
        return some

    def _say(self, message: bytes) -> None:
        self._start(self._send(message))

    async def _send(self, message: bytes) -> None:
        if self.is_ended:
            return
        try:
            async with asyncio.timeout(self.limits.send_seconds):
                await self.socket.send_bytes(message)
        except TimeoutError:
            self.end(Close.SLOW, f"it took none of what it was sent for {self.limits.send_seconds:g} s")
        except (OSError, RuntimeError):  # the agent has gone; aiohttp has errors of its own for that
            self.abort()

    def _start(self, work: Coroutine[Any, Any, None], name: str = "") -> None:
        task = asyncio.create_task(work, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
