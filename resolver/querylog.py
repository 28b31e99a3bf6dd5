"""The query log: one line for each query, for those who watch (`interlock tail`); it costs nothing when nobody does.

    note(query, reply)      after the reply was sent: what no watcher can want is passed over, the rest is kept as it is
    a moment later          lines are made, a few at a time, between the queries that have come meanwhile

A line is made from the reply as it was sent, so it shows what the client really got. Under load only so many lines are
made a second, and the number of skipped ones is reported. DNS never waits for a watcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from resolver.scope import EXTERNAL, INTERNAL, OUTSIDE, ScopeState
from resolver.wire.messages import Query, Rcode, Transport
from resolver.wire.parser import parse
from resolver.wire.summary import summarize
from support.unix_server import UnixServer
from zones.records import type_name

MOST_LINES = 1000  # a second; each takes some 0.1 ms, so together at most a tenth of the server's time
QUEUE = 4096  # lines that wait for a slow watcher, or to be made; beyond that the newest are skipped
AT_ONCE = 10  # lines that are made without a break: a millisecond

LONGEST_VALUE = 1024  # characters of a field of a filter; a name has at most 1,004 in presentation form

_OTHER_RCODE = re.compile(r"RCODE[0-9]{1,4}")  # as lines name those that this program does not know
_RCODE = 3  # the octet of a message whose lower four bits are the rcode
_ANSWERS = slice(6, 8)  # the octets that count the records of the answer section
_NO_ANSWERS = bytes(2)

_FAILURES = frozenset({"SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "BADVERS", "NXDOMAIN"})


@dataclass(frozen=True, slots=True)
class Line:
    """One query and its reply."""

    time: float
    """When the reply was sent, in Unix seconds."""

    environment: str | None
    """The client's environment; None where it belongs to none."""

    source: str
    """The client's address."""

    transport: str
    """``udp`` or ``tcp``."""

    name: str
    """The queried name; empty where the packet is no well-formed query."""

    type: str
    """The queried type; empty where the packet is no well-formed query."""

    rcode: str
    answers: tuple[str, ...]
    """The records of the answer section, in presentation form."""

    aliases: tuple[str, ...]
    """The targets of the CNAMEs among them."""

    scope: str
    """``environment`` for the platform's names, ``external`` for forwarded ones, ``outside`` for a client that belongs
    to no environment."""

    duration_ms: float
    """From the packet's arrival to its reply, in milliseconds."""

    edns: int | None
    """The UDP payload that the client takes, in octets; None where it sent no OPT record."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines a watcher wants."""

    environment: str | None = None
    """Only lines of this environment; None for all."""

    name: str | None = None
    """Only names at or below this one; None for all."""

    rcode: str | None = None
    """Only lines with this rcode, in any case; None for all."""

    failed: bool = False
    """Only replies without a good answer: errors and NXDOMAIN."""

    def may_want(self, environment: str | None, packet: bytes, reply: bytes) -> bool:
        """Whether `wants` may be true of the line of ``packet`` and ``reply``, at a fraction of what the line costs."""
        if self.environment is not None and environment != self.environment:
            return False
        # The header holds the lower four bits of an rcode; those of BADVERS are 0, as in NOERROR (RFC 6891 §6.1.3).
        rcode, has_answers = reply[_RCODE] & 15, reply[_ANSWERS] != _NO_ANSWERS
        if self.failed and rcode == 0 and has_answers:
            return False
        wanted = Rcode.__members__.get(self.rcode.upper()) if self.rcode is not None else None
        if wanted is not None and rcode != wanted & 15:
            return False
        return self.name is None or _first_label(self.name) in packet.lower()

    def wants(self, line: Line) -> bool:
        return (
            (self.environment is None or line.environment == self.environment)
            and (self.name is None or _is_at_or_below(line.name, self.name))
            and (self.rcode is None or line.rcode == self.rcode.upper())
            and (not self.failed or line.rcode in _FAILURES)
        )


def read_filter(line: bytes) -> Filter:
    """The filter that a watcher has sent. Raises ``ValueError``, which says what is wrong with it.

    Every value is checked here, where the watcher learns of it: a filter is used between queries, which must not fail.
    """
    try:
        given = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(given, dict):
        raise ValueError("send an object, such as {}")
    known = {field.name for field in fields(Filter)}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"there is no field {name!r}: use {', '.join(sorted(known))}")
        is_right = isinstance(value, bool) if name == "failed" else value is None or isinstance(value, str)
        if not is_right:
            raise ValueError(f"{name} is {value!r:.40}: write {'true or false' if name == 'failed' else 'a text'}")
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            raise ValueError(f"{name} has {len(value)} characters: use at most {LONGEST_VALUE}")
    rcode = given.get("rcode")
    if rcode is not None and not (rcode.upper() in Rcode.__members__ or _OTHER_RCODE.fullmatch(rcode.upper())):
        raise ValueError(f"{rcode!r} is no rcode: use one of {', '.join(Rcode.__members__)}, or RCODE and its number")
    return Filter(**given)


class _Lookup(NamedTuple):
    """A query and its reply, of which no line was made yet."""

    time: float
    """When the reply was sent, in Unix seconds."""
    state: ScopeState
    """What was served to the client."""
    source: bytes
    """The client's address, packed."""
    transport: Transport
    """How the query came."""
    packet: bytes
    """The query."""
    reply: bytes
    """What was sent."""
    seconds: float
    """From the packet's arrival to its reply."""


class QueryLog:
    """Gives lines to its watchers. ``is_on`` says whether there are any; ``skipped`` counts lines left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_on = False
        self.skipped = 0
        self._clock = clock
        self._watchers: list[tuple[Filter, asyncio.Queue[Line]]] = []
        self._unmade: deque[_Lookup] = deque()
        self._second = 0.0
        self._made = 0

    def watch(self, wanted: Filter) -> asyncio.Queue[Line]:
        """A queue that gets the lines which ``wanted`` selects, from now until `unwatch`."""
        queue: asyncio.Queue[Line] = asyncio.Queue(QUEUE)
        self._watchers.append((wanted, queue))
        self.is_on = True
        return queue

    def unwatch(self, queue: asyncio.Queue[Line]) -> None:
        self._watchers = [watcher for watcher in self._watchers if watcher[1] is not queue]
        self.is_on = bool(self._watchers)

    def note(
        self, state: ScopeState, source: bytes, transport: Transport, packet: bytes, reply: bytes, started: float
    ) -> None:
        """Notes that ``reply`` was sent to ``packet``, which arrived at ``started`` (``time.perf_counter``)."""
        environment = state.zone.id if state.zone else None
        if not any(wanted.may_want(environment, packet, reply) for wanted, _ in self._watchers):
            return
        if len(self._unmade) >= QUEUE or not self._may_make_one():
            self.skipped += 1
            return
        seconds = time.perf_counter() - started
        self._unmade.append(_Lookup(time.time(), state, source, transport, packet, reply, seconds))
        if len(self._unmade) == 1:
            asyncio.get_running_loop().call_soon(self._make_some)

    def _make_some(self) -> None:
        for _ in range(min(AT_ONCE, len(self._unmade))):
            self._give(_describe(self._unmade.popleft()))
        if self._unmade:
            # Not at once: the loop looks first whether queries have arrived.
            asyncio.get_running_loop().call_soon(self._make_some)

    def _give(self, line: Line) -> None:
        for wanted, queue in self._watchers:
            if not wanted.wants(line):
                continue
            try:
                queue.put_nowait(line)
            except asyncio.QueueFull:
                self.skipped += 1

    def _may_make_one(self) -> bool:
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._made = now, 0
        self._made += 1
        return self._made <= MOST_LINES


class TailServer:
    """Serves the query log on a Unix socket: a watcher sends a filter as a line of JSON, then gets lines."""

    def __init__(self, path: Path, log: QueryLog) -> None:
        self._log = log
        self._server = UnixServer(path, self._serve)

    async def start(self) -> None:
        """Listens. The socket is for its owner only, for look-ups show which services talk to each other."""
        await self._server.start()

    async def stop(self) -> None:
        """Ends all connections."""
        await self._server.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # the watcher has gone
            await self._send_lines(reader, writer)

    async def _send_lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            wanted = read_filter(await reader.readline())
        except ValueError as error:
            writer.write(json.dumps({"error": f"not a filter: {error}"}).encode() + b"\n")
            await writer.drain()
            return
        queue, skipped = self._log.watch(wanted), self._log.skipped
        gone = asyncio.create_task(reader.read())
        try:
            while not gone.done():
                line = asyncio.create_task(queue.get())
                await asyncio.wait({line, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not line.done():
                    line.cancel()
                    break
                writer.write(json.dumps(asdict(line.result())).encode() + b"\n")
                if self._log.skipped > skipped:
                    writer.write(json.dumps({"skipped": self._log.skipped - skipped}).encode() + b"\n")
                    skipped = self._log.skipped
                await writer.drain()
        finally:
            gone.cancel()
            self._log.unwatch(queue)


def _describe(lookup: _Lookup) -> Line:
    state, source = lookup.state, lookup.source
    query, summary = parse(lookup.packet), summarize(lookup.reply)
    edns = query.header.edns if isinstance(query, Query) else None
    scope = OUTSIDE if state.zone is None else INTERNAL if summary.authoritative else EXTERNAL
    return Line(
        time=lookup.time,
        environment=state.zone.id if state.zone else None,
        source=socket.inet_ntop(socket.AF_INET if len(source) == 4 else socket.AF_INET6, source),
        transport=lookup.transport.value,
        name=str(query.qname) if isinstance(query, Query) else "",
        type=type_name(query.qtype) if isinstance(query, Query) else "",
        rcode=summary.rcode,
        answers=summary.answers,
        aliases=summary.aliases,
        scope=scope,
        duration_ms=round(lookup.seconds * 1000, 3),
        edns=edns.payload if edns else None,
    )


def _first_label(name: str) -> bytes:
    """The first label of ``name``, as queries for names at or below it hold it; empty if it has an escape in it."""
    label = name.partition(".")[0].lower()
    return label.encode(errors="replace") if "\\" not in label else b""


def _is_at_or_below(name: str, suffix: str) -> bool:
    name, suffix = name.rstrip(".").lower(), suffix.rstrip(".").lower()
    return name == suffix or name.endswith("." + suffix)
