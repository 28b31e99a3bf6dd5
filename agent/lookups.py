"""Passes look-ups from the resolvers of this host to the control plane, while that asks for them.

    resolvers ──► socket ──► what waits ──► `Seen`, one at a time ──► control plane
         ◄── `Watch`: which look-ups, and how many a second ◄──────────────┘

The resolvers connect, and the agent says what is asked for, as `resolver.lookups` describes. What the control plane
does not take in time is left out and counted: look-ups never hold up what else the session carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import ControlPlaneError
from support.unix_server import UnixServer
from watcher.session.errors import SessionBroken
from watcher.session.lookups import Lookup, decode_lookup
from watcher.session.protocol import Done, Seen, Watch

SOCKET = "lookups.sock"
WAITING = 1000  # look-ups that wait for the control plane; one takes a kilobyte, and as many are asked for in a second
TOGETHER = 100  # look-ups of one request
EVERY = 0.1  # seconds between two requests; a person does not see the difference
RESOLVERS = 64  # connections at once; a resolver has one

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LookupRelay:
    """Passes the look-ups of this host on."""

    control_plane: ControlPlane
    """Is given the look-ups that it asks for."""
    path: Path
    """The unix socket that resolvers connect to."""
    group: str | None
    """The group that may; None: that of this process."""
    _watch: Watch = field(default_factory=Watch)
    _resolvers: set[asyncio.StreamWriter] = field(default_factory=set)
    _waiting: deque[Lookup] = field(default_factory=deque)
    _left_out: Counter[str] = field(default_factory=Counter)  # by environment
    _is_asked: asyncio.Event = field(default_factory=asyncio.Event)  # set while there is something to say
    _second: float = 0.0
    _taken: int = 0  # look-ups of this second

    async def run(self) -> None:
        """Serves the resolvers and the control plane until it is cancelled."""
        server = UnixServer(self.path, self._serve, mode=0o660)
        try:
            await server.start(group=None if self.group is None else grp.getgrnam(self.group).gr_gid)
        except (KeyError, OSError) as error:
            # The feed, which has the same folder and group, says so as well, and there the agent cannot go on.
            log.warning("no_lookups", extra={"socket": str(self.path), "reason": str(error)})
            await asyncio.Future()
        try:
            await self._send_for_ever()
        finally:
            await server.stop()

    def take_question(self, watch: Watch) -> None:
        """The control plane asks for what ``watch`` says, and for nothing else."""
        self._watch = watch
        if not watch.filters:
            self._waiting.clear()
            self._left_out.clear()
        question = self._question()
        for writer in self._resolvers:
            writer.write(question)
        if watch.filters:
            self._is_asked.set()

    def _question(self) -> bytes:
        asked = {"filters": self._watch.filters, "most": self._watch.most}
        return msgspec.json.encode(asked) + b"\n"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._resolvers) >= RESOLVERS:
            return
        self._resolvers.add(writer)
        try:
            if self._watch.filters:
                writer.write(self._question())
                self._is_asked.set()  # the control plane hears of one more resolver
            with contextlib.suppress(OSError, ValueError, asyncio.LimitOverrunError):
                while line := await reader.readline():
                    self._take(line)
        finally:
            self._resolvers.discard(writer)
            if self._watch.filters:
                self._is_asked.set()

    def _take(self, line: bytes) -> None:
        if not self._watch.filters:
            return  # it was on its way when nobody watched any more
        try:
            lookup = decode_lookup(line)
        except SessionBroken:
            if len(self._left_out) < WAITING:  # a resolver has no more environments than that
                self._left_out.update(_skipped(line))
        else:
            if len(self._waiting) < WAITING and self._may_take_one():
                self._waiting.append(lookup)
            else:
                self._left_out[lookup.environment or ""] += 1
        self._is_asked.set()

    def _may_take_one(self) -> bool:
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._taken = now, 0
        self._taken += 1
        return self._taken <= self._watch.most

    async def _send_for_ever(self) -> None:
        while True:
            await self._is_asked.wait()
            self._is_asked.clear()
            if not self._watch.filters:
                continue
            while await self._send() and self._waiting:
                pass
            await asyncio.sleep(EVERY)

    async def _send(self) -> bool:
        """Sends some of what waits. False where nobody wants it."""
        some = tuple(self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting))))
        left_out, self._left_out = self._left_out, Counter()
        try:
            return (await self.control_plane.ask(Seen(0, some, left_out, len(self._resolvers)), Done)).changed
        except ControlPlaneError as error:
            self._left_out.update(left_out)
            self._left_out.update(one.environment or "" for one in some)
            log.debug("lookups_not_sent", extra={"reason": str(error)})
            return False


class _Skipped(msgspec.Struct):
    skipped: dict[Annotated[str, Meta(max_length=64)], Annotated[int, Meta(ge=0, le=1 << 32)]]


def _skipped(line: bytes) -> dict[str, int]:
    """How many look-ups ``line``, which is none, says were left out, by environment."""
    try:
        return msgspec.json.decode(line, type=_Skipped).skipped
    except (ValueError, RecursionError):
        return {}
