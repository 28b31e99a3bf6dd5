"""The connection to the control plane: one session at a time, with one of several control planes, for ever.

A session that ends is followed by one with the next control plane, after a random time, so that a thousand agents do
not come at the same instant. A request that was under way is sent again then: each of them may be, for a control plane
that is asked twice does it once. While none can be reached, requests fail, and what the host has stays as it is.

A control plane is left if it does not answer, if it breaks the protocol, and if it says for `LEAVE_AFTER` seconds that
it cannot do what it is asked because the store is away: another one may reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from socket import IPPROTO_TCP, TCP_USER_TIMEOUT
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp

from agent.control_plane.credential import CredentialFiles
from agent.control_plane.errors import ControlPlaneError, NotAllowed, SessionLost, Unavailable
from agent.control_plane.reach import HTTPS, until_reached
from agent.control_plane.reasons import reason_of
from agent.control_plane.session import Hears, Session
from agent.errors import CannotStart
from support.clock import SharedClock
from support.endpoints import Endpoint
from watcher.session.protocol import (
    CONTROL_PLANE_NAME,
    REFUSED_STATUS,
    SESSION_PATH,
    Answer,
    Renewed,
    Request,
    Welcome,
)

A = TypeVar("A", bound=Answer)

CONNECT_DEADLINE = 3.0  # seconds, with the first request; then another control plane is tried
UNACKNOWLEDGED = (
    3000  # milliseconds for which what was sent may stay unacknowledged by the kernel at the other end (the
)
# user timeout of TCP, RFC 5482): then the network is cut, and TCP would try again only long after it is back
HEARTBEAT = 2.0  # seconds without a message until the control plane is asked whether it lives, which it has half of
# that time to answer: so a lease, which lasts 5 s, is renewed at another control plane before it ends
HEARTBEAT_OF_ONE = 10.0  # the same where there is no other one: to leave it for itself would make nothing better
ANSWER_DEADLINE = 5.0  # seconds for an answer; then another control plane is asked, if there is one
ASK_DEADLINE = 10.0  # seconds for all of them
PATIENCE = 3.0  # seconds for which requests wait for the next session, when one has just ended
RETRY_FIRST, RETRY_LAST = 0.05, 2.0  # seconds between two attempts; a control plane that is started again is soon back
CLOSE_DEADLINE = 0.5  # seconds for a control plane to confirm that a session ends; one that hangs does not
BRIEF = 1.0  # seconds; a session that ends sooner counts as an attempt that has failed
LEAVE_AFTER, LEAVE_LAST = 5.0, 60.0  # seconds; the second for when no control plane has reached the store so far
FIRST_DEADLINE = 4.0  # seconds that the start of the agent waits for the first session

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ConnectionCounts:
    """What has happened since the start, for metrics."""

    sessions: int = 0
    """Sessions that have begun."""
    lost: int = 0
    """Sessions that have ended."""


@dataclass(slots=True)
class ControlPlane:
    """Speaks for this host to the control plane."""

    urls: Sequence[str]
    """Where the control planes are: ``https://10.0.0.1:8443``."""
    files: CredentialFiles
    """The credential of this host."""
    incarnation: str
    """What tells this agent from one with a copy of its state directory."""
    where: str
    """Where this agent runs, in words."""
    hears: Hears
    """Is told what a control plane says without being asked."""
    clock: SharedClock = field(default_factory=SharedClock)
    """The store's time of day, as far as it is known."""
    counts: ConnectionCounts = field(default_factory=ConnectionCounts)
    """What has happened since the start."""
    reason: str = "no session has begun yet"
    """Why there is no session, or why the control plane cannot do its work; empty if all is well."""
    is_refused: bool = False
    """Whether the last control plane that was asked refused the credential of this host."""
    _session: Session | None = None
    _context: ssl.SSLContext | None = None  # None: it is to be read from the disk
    _changed: asyncio.Event = field(default_factory=asyncio.Event)  # set with each session, and each failed round
    _begun: asyncio.Event = field(default_factory=asyncio.Event)  # set for a moment with each session
    _lost_at: float = 0.0  # when the last session ended, in seconds of time.monotonic
    _unable_since: float | None = None  # since when all requests fail for want of the store
    _leave_after: float = LEAVE_AFTER
    _task: asyncio.Task[None] | None = None

    # Its life

    async def start(self) -> None:
        """Connects, from now on; returns with the first session, or once it is clear that there will be none soon.

        Raises `CannotStart` where the credential cannot be used.
        """
        await self._read_credential()
        self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(FIRST_DEADLINE):
                await self._changed.wait()
        except TimeoutError:
            log.warning("control_plane_unavailable", extra={"reason": self.reason})

    async def run(self) -> None:
        """Returns only if it is cancelled, and raises what ends the connection."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Ends the connection."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def connected(self) -> bool:
        """Whether there is a session."""
        return self._session is not None

    @property
    def welcome(self) -> Welcome | None:
        """How the session has begun; None while there is none."""
        return self._session.welcome if self._session else None

    @property
    def addresses(self) -> list[Endpoint]:
        """Where the control planes are, as far as their URLs have addresses."""
        found = []
        for url in self.urls:
            parts = urlsplit(url)
            with contextlib.suppress(ValueError):
                found.append(Endpoint(str(ip_address(parts.hostname or "")), parts.port or HTTPS))
        return found

    # Requests

    async def ask(self, request: Request | Callable[[Welcome], Request], kind: type[A], takes: float = 0.0) -> A:
        """The answer to ``request``, which is a ``kind``. Raises `ControlPlaneError`.

        The request may depend on how the session has begun. Its number does not count. It ``takes`` so many seconds
        where the control plane is well.
        """
        try:
            async with asyncio.timeout(takes + ASK_DEADLINE):
                session, answer = await self._ask(request, takes + ANSWER_DEADLINE)
        except TimeoutError:
            raise Unavailable(f"the control plane has not answered within {takes + ASK_DEADLINE:g} s") from None
        except Unavailable as error:
            await self._note_unable(str(error))
            raise
        self._unable_since, self._leave_after, self.reason = None, LEAVE_AFTER, ""
        if isinstance(answer, Renewed):
            self.clock.note(answer.milliseconds / 1000)
        if not isinstance(answer, kind):
            await session.close(f"it answered with {type(answer).__name__}, and {kind.__name__} was due")
            raise Unavailable("the control plane has sent an answer of another kind than was asked for")
        return answer

    async def _ask(self, request: Request | Callable[[Welcome], Request], seconds: float) -> tuple[Session, Answer]:
        """The answer of the first control plane that gives one; each has so many ``seconds``, if there are several."""
        while True:
            session, welcome = await self._any_session()
            try:
                async with asyncio.timeout(seconds if len(self.urls) > 1 else None):
                    return session, await session.ask(request(welcome) if callable(request) else request)
            except TimeoutError:
                await session.close(f"it has not answered within {seconds:g} s")
            except SessionLost:
                pass
            self._note_lost(session)

    async def begin_anew(self) -> None:
        """Ends the session, and begins the next one with the credential that is on the disk now.

        Returns when it has begun. Raises `Unavailable`.
        """
        self._context = None
        before = self._session
        await self.reconnect("the credential of this host was replaced")
        try:
            async with asyncio.timeout(ANSWER_DEADLINE):
                while self._session in (None, before):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"no session has begun with the new credential: {self.reason}") from None

    async def reconnect(self, reason: str) -> None:
        """Ends the session, if there is one; another one follows at once."""
        if session := self._session:
            await session.close(reason)

    async def _any_session(self) -> tuple[Session, Welcome]:
        """The session; one that is about to begin is waited for."""
        until = self._lost_at + PATIENCE
        while (session := self._session) is None or session.welcome is None:
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    self._changed.clear()
                    await self._changed.wait()
            except TimeoutError:
                raise Unavailable(f"no control plane can be reached: {self.reason}") from None
        return session, session.welcome

    async def _note_unable(self, reason: str) -> None:
        """Leaves the control plane, if it cannot do its work for so long that another one is worth a try."""
        session, now = self._session, time.monotonic()
        if session is None:
            return
        self.reason = reason
        if self._unable_since is None:
            self._unable_since = now
        elif now - self._unable_since > self._leave_after and len(self.urls) > 1:
            self._unable_since, self._leave_after = now, min(2 * self._leave_after, LEAVE_LAST)
            await session.close(reason)

    async def until_begun(self, seconds: float) -> None:
        """Returns when another session has begun, or after so many ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._begun.wait()

    # Sessions

    async def _run(self) -> None:
        delay, failed, has_failed = RETRY_FIRST, 0, False
        waiting = random.sample(self.urls, len(self.urls))
        async with aiohttp.ClientSession() as http:
            while True:
                url = waiting.pop(0)
                waiting.append(url)
                began = time.monotonic()
                try:
                    if has_failed:
                        await until_reached(url, CONNECT_DEADLINE)
                    await self._hold_session(http, url)
                    has_failed = False
                except (ControlPlaneError, CannotStart) as error:
                    self._note_failure(url, str(error))
                    failed, has_failed = failed + 1, True
                    if failed % len(self.urls):
                        continue  # the next one at once
                    self._changed.set()
                if time.monotonic() - began > BRIEF:
                    delay, failed = RETRY_FIRST, 0
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 no secret
                delay = min(delay * 2, RETRY_LAST)

    async def _hold_session(self, http: aiohttp.ClientSession, url: str) -> None:
        """Has a session with ``url`` until it ends. Raises `ControlPlaneError` where it does not begin."""
        if self._context is None:
            await self._read_credential()
        try:
            async with asyncio.timeout(CONNECT_DEADLINE):
                session, reading = await self._begin(http, url)
        except TimeoutError:
            raise Unavailable(f"it has not answered within {CONNECT_DEADLINE:g} s") from None
        self._note_begun(session, url)
        try:
            reason = await reading
        finally:
            self._note_lost(session)
            await _end(session, reading)
        self.is_refused = session.is_refused
        self._note_failure(url, reason)

    async def _begin(self, http: aiohttp.ClientSession, url: str) -> tuple[Session, asyncio.Task[str]]:
        session = Session(await self._connect(http, url), self.hears)
        reading = asyncio.create_task(session.run())
        try:
            await session.greet(self.incarnation, self.where)
        except BaseException:
            await _end(session, reading)
            raise
        return session, reading

    async def _connect(self, http: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
        assert self._context
        try:
            socket = await http.ws_connect(
                url + SESSION_PATH,
                ssl=self._context,
                server_hostname=CONTROL_PLANE_NAME,
                heartbeat=HEARTBEAT if len(self.urls) > 1 else HEARTBEAT_OF_ONE,
                max_msg_size=0,  # a document is as large as its environment
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_DEADLINE),
            )
            if tcp := socket.get_extra_info("socket"):
                tcp.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED)
            return socket
        except aiohttp.WSServerHandshakeError as error:
            self.is_refused = error.status == REFUSED_STATUS
            if self.is_refused:
                raise NotAllowed(
                    "it does not take the credential of this host: was the host forgotten? enrol it anew, with the"
                    " token that 'interlock host enrol' prints"
                ) from None
            raise Unavailable(f"it answered with status {error.status}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(reason_of(error)) from None

    async def _read_credential(self) -> None:
        self._context = await asyncio.to_thread(self.files.context)

    def _note_begun(self, session: Session, url: str) -> None:
        self._session, self.reason, self.is_refused = session, "", False
        self.counts.sessions += 1
        self._changed.set()
        self._begun.set()
        self._begun.clear()
        log.info("control_plane_connected", extra={"url": url})

    def _note_lost(self, session: Session) -> None:
        if self._session is session:
            self._session, self._lost_at, self._unable_since = None, time.monotonic(), None
            self.counts.lost += 1

    def _note_failure(self, url: str, reason: str) -> None:
        text = f"{url}: {reason}"
        if self.reason != text:  # once, not with every attempt
            log.warning("control_plane_unavailable", extra={"url": url, "reason": reason})
        self.reason = text


async def _end(session: Session, reading: asyncio.Task[str]) -> None:
    await session.close("the session is ended")
    reading.cancel()
    await asyncio.wait([reading])
