"""The query log: one line for each query, for those who watch (`interlock tail`); it costs nothing when nobody does.

    note(query, reply)      after the reply was sent: what no watcher can want is passed over, the rest is kept as it is
    a moment later          lines are made, a few at a time, between the queries that have come meanwhile

A line is made from the reply as it was sent, so it shows what the client really got. Under load only so many lines are
made a second, and the number of skipped ones is reported. DNS never waits for a watcher.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from resolver.reasons import Reasons, find_reason, is_nodata
from resolver.scope import EXTERNAL, INTERNAL, OUTSIDE, ScopeState
from resolver.wire.messages import Query, Rcode, Transport
from resolver.wire.parser import parse
from resolver.wire.summary import summarize
from zones.records import type_name

MOST_LINES = 1000  # a second; each takes some 0.1 ms, so together at most a tenth of the server's time
QUEUE = 4096  # lines that wait for a slow watcher, or to be made; beyond that the newest are skipped
AT_ONCE = 10  # lines that are made without a break: a millisecond

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

    nodata: bool
    """Whether the name exists and has no records of the type (NODATA): the rcode is NOERROR all the same."""

    reason: str
    """Why there is no good answer, or what is special about the one there is; empty where there is nothing to say."""


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
    """Only look-ups that failed: errors and NXDOMAIN; with ``nodata``, those as well."""

    nodata: bool = False
    """Only names that exist without records of the type (NODATA); with ``failed``, failures as well."""

    def may_want(self, environment: str | None, packet: bytes, reply: bytes) -> bool:
        """Whether `wants` may be true of the line of ``packet`` and ``reply``, at a fraction of what the line costs."""
        if self.environment is not None and environment != self.environment:
            return False
        # The header holds the lower four bits of an rcode; those of BADVERS are 0, as in NOERROR (RFC 6891 §6.1.3).
        rcode, has_answers = reply[_RCODE] & 15, reply[_ANSWERS] != _NO_ANSWERS
        if self.failed and not self.nodata and rcode == 0 and has_answers:
            return False
        if self.nodata and not self.failed and rcode != 0:
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
            and (
                not (self.failed or self.nodata)
                or (self.failed and line.rcode in _FAILURES)
                or (self.nodata and line.nodata)
            )
        )


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

    def __init__(self, reasons: Reasons, clock: Callable[[], float] = time.monotonic) -> None:
        """``reasons`` are those of replies that do not hold them."""
        self.is_on = False
        self.skipped = 0
        self._reasons = reasons
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
            self._give(_describe(self._unmade.popleft(), self._reasons))
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


def _describe(lookup: _Lookup, reasons: Reasons) -> Line:
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
        nodata=isinstance(query, Query) and is_nodata(query, summary),
        reason=find_reason(state, query, summary, reasons),
    )


def _first_label(name: str) -> bytes:
    """The first label of ``name``, as queries for names at or below it hold it; empty if it has an escape in it."""
    label = name.partition(".")[0].lower()
    return label.encode(errors="replace") if "\\" not in label else b""


def _is_at_or_below(name: str, suffix: str) -> bool:
    name, suffix = name.rstrip(".").lower(), suffix.rstrip(".").lower()
    return name == suffix or name.endswith("." + suffix)
