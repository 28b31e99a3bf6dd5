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
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from resolver.reasons import Reasons, find_reason, is_nodata
from resolver.scope import EXTERNAL, INTERNAL, OUTSIDE, ScopeState
from resolver.wire.messages import Query, Rcode, Transport
from resolver.wire.parser import parse
from resolver.wire.summary import summarize
from zones.records import type_name

MOST_LINES = 1000  # a second; each takes some 0.1 ms, so together at most a tenth of the server's time
SHARE = 0.2  # seconds; a watcher that takes fewer lines has them spread over the second, in parts of this length
QUEUE = 4096  # lines that wait for a slow watcher, or to be made; beyond that the newest are skipped
AT_ONCE = 10  # lines that are made without a break: a millisecond

_RCODE = 3  # the octet of a message whose lower four bits are the rcode
_ANSWERS = slice(6, 8)  # the octets that count the records of the answer section
_NO_ANSWERS = bytes(2)

FAILURES = frozenset({"SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "BADVERS", "NXDOMAIN"})


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

    type: str | None = None
    """Only queries of this type, in any case; None for all."""

    rcode: str | None = None
    """Only lines with this rcode, in any case; None for all."""

    source: str | None = None
    """Only lines of the client with this address; None for all."""

    failed: bool = False
    """Only look-ups that failed: errors and NXDOMAIN; with ``nodata``, those as well."""

    nodata: bool = False
    """Only names that exist without records of the type (NODATA); with ``failed``, failures as well."""

    ok: bool = False
    """Only look-ups that are neither."""

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
        if self.ok and rcode != 0:
            return False
        wanted = Rcode.__members__.get(self.rcode.upper()) if self.rcode is not None else None
        if wanted is not None and rcode != wanted & 15:
            return False
        return self.name is None or _first_label(self.name) in packet.lower()

    def wants(self, line: Line) -> bool:
        return (
            (self.environment is None or line.environment == self.environment)
            and (self.name is None or _is_at_or_below(line.name, self.name))
            and (self.type is None or line.type == self.type.upper())
            and (self.rcode is None or line.rcode == self.rcode.upper())
            and (self.source is None or line.source == self.source)
            and (
                not (self.failed or self.nodata)
                or (self.failed and line.rcode in FAILURES)
                or (self.nodata and line.nodata)
            )
            and not (self.ok and (line.rcode in FAILURES or line.nodata))
        )


class Watch(asyncio.Queue[Line]):
    """What one watcher wants, and the lines that wait for it.

    A line is wanted if one of ``filters`` wants it. ``most`` is how many a second it is given; ``skipped`` counts
    the others, and those for which there was no room, by the environment of their clients (empty: none).
    """

    def __init__(self, filters: Sequence[Filter], most: int) -> None:
        super().__init__(QUEUE)
        self.filters = filters
        self.most = most
        self.skipped: Counter[str] = Counter()
        self._part = 1.0 if most >= MOST_LINES else SHARE
        self._began = 0.0
        self._given = 0

    def may_want(self, environment: str | None, packet: bytes, reply: bytes) -> bool:
        """Whether one of the filters may want the line of ``packet`` and ``reply``."""
        return any(one.may_want(environment, packet, reply) for one in self.filters)

    def may_take(self, now: float) -> bool:
        """Whether it can be given one more line at ``now``, which counts then."""
        if now - self._began >= self._part:
            self._began, self._given = now, 0
        if self._given >= max(1.0, self.most * self._part) or self.full():
            return False
        self._given += 1
        return True

    def give(self, line: Line) -> bool:
        """Gives it ``line``, if a filter wants it. False where there is no room."""
        if not any(one.wants(line) for one in self.filters):
            self._given -= 1  # it was taken for one that is wanted
            return True
        try:
            self.put_nowait(line)
        except asyncio.QueueFull:
            return False
        return True

    async def get_some(self, most: int) -> list[Line]:
        """The lines that wait, ``most`` at most; waits for one where none does."""
        lines = [await self.get()]
        while len(lines) < most and not self.empty():
            lines.append(self.get_nowait())
        return lines


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
    watches: Sequence[Watch]
    """Who may want the line."""


class GivesLines(Protocol):
    """A query log: that of one process, or of several together."""

    def watch(self, *filters: Filter, most: int = MOST_LINES) -> Watch:
        """A queue that gets the lines which one of ``filters`` selects, ``most`` a second, until `unwatch`."""

    def unwatch(self, watch: Watch) -> None:
        """Gives ``watch`` no more lines."""


class QueryLog:
    """Gives lines to its watchers. ``is_on`` says whether there are any."""

    def __init__(self, reasons: Reasons, clock: Callable[[], float] = time.monotonic) -> None:
        """``reasons`` are those of replies that do not hold them."""
        self.is_on = False
        self._reasons = reasons
        self._clock = clock
        self._watches: list[Watch] = []
        self._unmade: deque[_Lookup] = deque()
        self._second = 0.0
        self._made = 0

    def watch(self, *filters: Filter, most: int = MOST_LINES) -> Watch:
        """A queue that gets the lines which one of ``filters`` selects, ``most`` a second, until `unwatch`."""
        watch = Watch(filters, most)
        self._watches = [*self._watches, watch]
        self.is_on = True
        return watch

    def unwatch(self, watch: Watch) -> None:
        self._watches = [one for one in self._watches if one is not watch]
        self.is_on = bool(self._watches)

    def note(
        self, state: ScopeState, source: bytes, transport: Transport, packet: bytes, reply: bytes, started: float
    ) -> None:
        """Notes that ``reply`` was sent to ``packet``, which arrived at ``started`` (``time.perf_counter``)."""
        environment = state.zone.id if state.zone else None
        wanting = [watch for watch in self._watches if watch.may_want(environment, packet, reply)]
        if not wanting:
            return
        now = self._clock()
        taking = [watch for watch in wanting if watch.may_take(now)]
        if not taking or len(self._unmade) >= QUEUE or not self._may_make_one(now):
            _skip(wanting, environment)
            return
        if len(taking) < len(wanting):
            _skip([watch for watch in wanting if watch not in taking], environment)
        seconds = time.perf_counter() - started
        self._unmade.append(_Lookup(time.time(), state, source, transport, packet, reply, seconds, taking))
        if len(self._unmade) == 1:
            asyncio.get_running_loop().call_soon(self._make_some)

    def _make_some(self) -> None:
        for _ in range(min(AT_ONCE, len(self._unmade))):
            lookup = self._unmade.popleft()
            line = _describe(lookup, self._reasons)
            _skip([watch for watch in lookup.watches if not watch.give(line)], line.environment)
        if self._unmade:
            # Not at once: the loop looks first whether queries have arrived.
            asyncio.get_running_loop().call_soon(self._make_some)

    def _may_make_one(self, now: float) -> bool:
        if now - self._second >= 1.0:
            self._second, self._made = now, 0
        self._made += 1
        return self._made <= MOST_LINES


def _skip(watches: Sequence[Watch], environment: str | None) -> None:
    for watch in watches:
        watch.skipped[environment or ""] += 1


def _describe(lookup: _Lookup, reasons: Reasons) -> Line:
    state, source = lookup.state, lookup.source
    query, summary = parse(lookup.packet), summarize(lookup.reply)
    edns = query.header.edns if isinstance(query, Query) else None
    scope = OUTSIDE if state.zone is None else INTERNAL if summary.authoritative else EXTERNAL
    return Line(
        time=lookup.time,
        environment=state.zone.id if state.zone else None,
        source=socket.inet_ntop(socket.AF_INET if len(source) == 4 else socket.AF_INET6, source),
        transport=lookup.transport,
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
