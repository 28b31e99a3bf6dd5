"""The forwarder: from a question for a name that is not the platform's to its reply, within a second.

    get_cached    is the answer cached?          cache    fresh answers, and recent failures
    join          is the question in flight?     one look-up answers all clients that ask the same at once
    ask           which upstream answers?        pool     the best upstream, then the next if that one is late
    store         keep the answer                cache

There are two timers (RFC 8767 §5). Clients wait for `RESPONSE_TIMER`, and no longer: then they get SERVFAIL. The
look-up goes on for `RESOLUTION_TIMER`, and what it brings answers the next who asks. An answer whose TTL is over is
kept for a day in case no upstream answers: once a look-up has taken `STALE_AFTER`, clients get it in the meantime.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from resolver.forward.cache import Cache, CacheEntry, CacheKey
from resolver.forward.exchange import Clock, Question
from resolver.forward.pool import UpstreamPool, fail
from resolver.forward.repeats import RepeatedReply
from resolver.forward.stepwise import Stepwise
from resolver.forward.upstream import Routes
from resolver.wire.messages import ErrorCode, ExtendedError, Forward, Rcode, Reply
from zones.addresses import Platform
from zones.names import EnvironmentId, Name

RESPONSE_TIMER = 0.95  # seconds that a client waits: with our own work, an answer or a failure within a second [5]
RESOLUTION_TIMER = 10.0  # seconds for a look-up (RFC 8767 §5: 10 to 30); nobody who asked is still there after that
STALE_AFTER = 0.4  # seconds; RFC 8767 §5 suggests 1.8, but our clients' patience is shorter
MOST_IN_FLIGHT = 2048  # questions, each with sockets; beyond that someone floods us, and a failure is the right answer
SHARE_OF_FILES = 0.25  # of the files that the process may open; the others are for clients and the store
SOCKETS = 3  # of one question: each attempt has its own
MOST_OVERDUE = 512  # questions that outlast their clients; dead upstreams of one domain leave room for all others
MOST_WAITING = 10_000  # queries of all clients, some 40 MB; many may wait for one look-up
MOST_OF_ONE_CLIENT = 256  # queries that wait; the others are for other clients
MOST_IN_FLIGHT_OF_ONE_CLIENT = 64  # questions that a client was the first to ask; the others are for other clients
MOST_OVERDUE_OF_ONE_CLIENT = 16  # and of these, those that outlast it

_NOT_IN_TIME = "no upstream resolver has answered in time: ask again"


@dataclass(slots=True)
class ForwardCounts:
    """What became of the questions that were forwarded."""

    hits: int = 0
    """Queries that were answered from the cache."""

    misses: int = 0
    """Queries for which upstreams were asked."""

    joined: int = 0
    """Queries that waited for a question which was in flight already."""

    prefetched: int = 0
    """Answers that were fetched again before their TTL was over."""

    stale: int = 0
    """Replies with an answer whose TTL was over, because no upstream answered."""

    late: int = 0
    """Answers that came when no client waited for them any more; they are kept for the next who asks."""

    refused: int = 0
    """Queries that were not forwarded because too many were waiting."""


@dataclass(frozen=True, slots=True)
class _LookUp:
    """A question that is in flight."""

    task: asyncio.Task[Reply]
    """Gives the reply."""
    started: float
    """When it began, in the event loop's time."""
    client: bytes
    """The address of the client that was the first to ask; empty where it was nobody's question."""

    def time_until(self, seconds: float) -> float:
        """How much is left of the first ``seconds`` after its start; 0 if they are over."""
        return max(0.0, self.started + seconds - asyncio.get_running_loop().time())


Repeat = Callable[[bytes], Iterator[bytes]]
"""Gives a packed reply, without its ID, to further queries of the same octets, for as long as it is right."""


class CachedReply(NamedTuple):
    """A reply from the forwarder's cache."""

    reply: Reply

    repeat: Repeat | None = None
    """Repeats it. None where the forwarder must decide about each query: a failure, or an answer about to change."""


class Forwarder:
    """Answers questions for names that are not ``platform``'s. ``pool`` holds the upstreams and their health."""

    def __init__(
        self, routes: Routes, platform: Platform, *, tls: ssl.SSLContext | None = None, clock: Clock = time.monotonic
    ) -> None:
        self.counts = ForwardCounts()
        self.replies = 0  # that were made, from the cache or with an upstream's answer
        self.pool = UpstreamPool(routes, platform, tls, clock)
        self._clock = clock
        self._most_by_files = _most_by_files()
        self._cache = Cache()
        self._in_flight: dict[CacheKey, _LookUp] = {}
        self._overdue: set[CacheKey] = set()
        self._clients: Counter[bytes] = Counter()
        self._in_flight_of: Counter[bytes] = Counter()  # those that are not overdue, by client
        self._overdue_of: Counter[bytes] = Counter()
        self._waiting = 0
        self._between_steps: Callable[[], None] = lambda: None

    async def close(self) -> None:
        """Ends all look-ups that are in flight."""
        lookups = [lookup.task for lookup in self._in_flight.values()]
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)

    @property
    def cached(self) -> int:
        """How many answers are cached."""
        return len(self._cache)

    @property
    def in_flight(self) -> int:
        """How many questions are in flight."""
        return len(self._in_flight)

    @property
    def waiting(self) -> int:
        """How many queries wait for an upstream's answer."""
        return self._waiting

    def let_in_between(self, between_steps: Callable[[], None]) -> None:
        """From now on, ``between_steps`` is called before each step of a look-up, for work that must not wait."""
        self._between_steps = self.pool.between_steps = between_steps

    def use(self, routes: Routes) -> None:
        """From now on, names are asked of the upstreams in ``routes``. What is cached stays."""
        self.pool.use(routes)

    @property
    def routed(self) -> frozenset[Name]:
        """The suffixes of special names that have an upstream of their own."""
        return self.pool.routes.routed

    def is_responsible(self, qname: Name) -> bool:
        """Whether ``qname`` is forwarded: there is an upstream to ask for it, or there should be."""
        return self.pool.has_upstream(qname) or bool(self.pool.routes.missing)

    def get_cached(self, environment: EnvironmentId, forward: Forward) -> CachedReply | None:
        """The reply to ``forward`` from the cache; None if it is not there."""
        key, now = (environment, _question(forward)), self._clock()
        entry, failure = self._cache.find(key, now), self._cache.failure(key, now)
        if entry and entry.is_fresh(now):
            self.counts.hits += 1
            if (
                forward.query.header.recursion_desired
                and entry.wants_refreshing(now)
                and not failure
                and key not in self._in_flight
                and self._has_room()
            ):
                self.counts.prefetched += 1
                self._start(key, b"")
            return CachedReply(_whole(forward, entry.aged(now)), self._repeat(key, entry, now, not forward.chain))
        if not self.pool.has_upstream(forward.qname):
            failure = fail(ErrorCode.NOT_READY, self.pool.routes.missing)
        if failure:
            return CachedReply(_whole(forward, self._stale(entry) if entry else failure))
        return None

    def _repeat(self, key: CacheKey, entry: CacheEntry, now: float, all_age: bool) -> Repeat | None:
        if entry.wants_refreshing(now):
            return None  # it is replaced in a moment
        return partial(
            RepeatedReply,
            cache=self._cache,
            key=key,
            entry=entry,
            now=now,
            all_age=all_age,
            clock=self._clock,
            note=self._note_repeat,
        )

    def _note_repeat(self) -> None:
        self.counts.hits += 1
        self.replies += 1

    def refuse(self, environment: EnvironmentId, forward: Forward, client: bytes) -> Reply | None:
        """The reply to ``forward`` where too many questions are being asked already; None where it may be asked too."""
        key = environment, _question(forward)
        if self._may_wait(key, client):
            return None
        self.counts.refused += 1
        entry = self._cache.find(key, self._clock())
        busy = fail(ErrorCode.OTHER, "too many questions are being asked at once: try again")
        return _whole(forward, self._stale(entry) if entry else busy)

    async def resolve(self, environment: EnvironmentId, forward: Forward, client: bytes) -> Reply:
        """The reply to ``forward``, which was not in the cache, for the client at ``client``."""
        key = environment, _question(forward)
        if refusal := self.refuse(environment, forward, client):
            return refusal
        self._clients[client] += 1
        self._waiting += 1
        try:
            return _whole(forward, await self._join(key, client))
        finally:
            self._waiting -= 1
            _count_down(self._clients, client)

    def _may_wait(self, key: CacheKey, client: bytes) -> bool:
        may_one_more = self._clients[client] < MOST_OF_ONE_CLIENT and self._waiting < MOST_WAITING
        may_ask = self._in_flight_of[client] < MOST_IN_FLIGHT_OF_ONE_CLIENT and self._has_room()
        return may_one_more and (key in self._in_flight or may_ask)

    def _has_room(self) -> bool:
        return len(self._in_flight) - len(self._overdue) < min(MOST_IN_FLIGHT, self._most_by_files)

    async def _join(self, key: CacheKey, client: bytes) -> Reply:
        if lookup := self._in_flight.get(key):
            self.counts.joined += 1
        else:
            self.counts.misses += 1
            lookup = self._start(key, client)
        entry = self._cache.find(key, self._clock())
        patience = lookup.time_until(STALE_AFTER) if entry else RESPONSE_TIMER
        # `wait` does not cancel the look-up: a client that gives up does not end it for the others.
        done, _ = await asyncio.wait({lookup.task}, timeout=patience)
        reply = lookup.task.result() if done else fail(ErrorCode.NO_REACHABLE_AUTHORITY, _NOT_IN_TIME)
        return self._stale(entry) if entry and reply.rcode == Rcode.SERVFAIL else reply

    def _start(self, key: CacheKey, client: bytes) -> _LookUp:
        task = asyncio.create_task(Stepwise(self._ask(key, client), self._between_steps))
        lookup = _LookUp(task, asyncio.get_running_loop().time(), client)
        self._in_flight[key] = lookup
        self._in_flight_of[client] += 1
        lookup.task.add_done_callback(lambda _: self._end(key))
        return lookup

    def _end(self, key: CacheKey) -> None:
        client = self._in_flight.pop(key).client
        _count_down(self._overdue_of if key in self._overdue else self._in_flight_of, client)
        self._overdue.discard(key)

    async def _ask(self, key: CacheKey, client: bytes) -> Reply:
        _, question = key
        timer = asyncio.timeout(RESOLUTION_TIMER)
        overdue = asyncio.get_running_loop().call_later(RESPONSE_TIMER, self._note_overdue, key, client, timer)
        try:
            async with timer:
                reply = await self.pool.ask(question)
        except TimeoutError:
            reply = fail(ErrorCode.NO_REACHABLE_AUTHORITY, _NOT_IN_TIME)
        finally:
            overdue.cancel()
        self.counts.late += key in self._overdue and reply.rcode != Rcode.SERVFAIL
        self._cache.store(key, reply, self._clock())
        return reply

    def _note_overdue(self, key: CacheKey, client: bytes, timer: asyncio.Timeout) -> None:
        """The clients that asked first wait no longer: ends the look-up if there are too many like it."""
        if len(self._overdue) < MOST_OVERDUE and self._overdue_of[client] < MOST_OVERDUE_OF_ONE_CLIENT:
            self._overdue.add(key)
            self._overdue_of[client] += 1
            _count_down(self._in_flight_of, client)
        else:
            timer.reschedule(asyncio.get_running_loop().time())

    def _stale(self, entry: CacheEntry) -> Reply:
        self.counts.stale += 1
        is_no = entry.reply.rcode == Rcode.NXDOMAIN
        code = ErrorCode.STALE_NXDOMAIN_ANSWER if is_no else ErrorCode.STALE_ANSWER
        return entry.stale().changed(error=ExtendedError(code, "no upstream resolver answers; this is what one said"))


def _count_down(counter: Counter[bytes], client: bytes) -> None:
    counter[client] -= 1
    if not counter[client]:
        del counter[client]


def _most_by_files() -> int:
    """How many questions may be in flight with the files that this process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_IN_FLIGHT if files == resource.RLIM_INFINITY else max(1, int(files * SHARE_OF_FILES / SOCKETS))


def _question(forward: Forward) -> Question:
    header = forward.query.header
    dnssec_ok = bool(header.edns and header.edns.dnssec_ok)
    return Question(forward.qname, forward.query.qtype, dnssec_ok, header.authentic_wanted, header.checking_disabled)


def _whole(forward: Forward, reply: Reply) -> Reply:
    """``reply`` with the environment's own CNAMEs before it. Then the queried name is the platform's, so AA is set."""
    checking_disabled = forward.query.header.checking_disabled  # RFC 4035 §3.2.2: copied, into failures too
    if reply.checking_disabled != checking_disabled:
        reply = reply.changed(checking_disabled=checking_disabled)
    if not forward.chain or reply.rcode == Rcode.SERVFAIL:
        return reply
    return reply.changed(answer=(*forward.chain, *reply.answer), authoritative=True, authentic=False)
