"""The forwarder: from a question that is not the platform's to its reply, within a second.

    recall    is it known?          cache       fresh answers, and failures of a moment ago
    fly       is it being asked?    one flight for all who ask the same at once
    ask       who answers first?    asking      the best upstream, then the next when that one is late or useless
    store     for next time         cache

An answer that has ended is kept for the day on which nobody answers (RFC 8767): a client that has waited for
`STALE_AFTER` gets it while the flight goes on.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from dataclasses import dataclass, replace

from resolver.forward.asking import Asker, fail
from resolver.forward.cache import Cache, Entry, Key
from resolver.forward.exchange import Clock, Question
from resolver.forward.upstream import Routes
from resolver.wire.messages import ErrorCode, ExtendedError, Forward, Rcode, Reply
from zones.names import EnvironmentId, Name

DEADLINE = 0.95  # seconds for a flight: with our own work, an answer or a failure within a second [5]
STALE_AFTER = 0.4  # seconds; RFC 8767 §5 suggests 1.8, but our clients' patience is shorter
MOST_FLIGHTS = 2048  # sockets at once; beyond that upstreams or we are flooded, and a failure is the honest answer
MOST_WAITING = 10_000  # queries of all clients, some 40 MB; many may wait for one flight
MOST_OF_ONE_CLIENT = 256  # queries that wait; the others are for other clients


@dataclass(slots=True)
class ForwardCounts:
    """What forwarding has come to, for metrics."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    prefetched: int = 0
    stale: int = 0
    refused: int = 0


class Forwarder:
    """Finds out what clients want to know of the rest of the world. ``asker`` knows how the upstreams do."""

    def __init__(self, routes: Routes, *, tls: ssl.SSLContext | None = None, clock: Clock = time.monotonic) -> None:
        self.counts = ForwardCounts()
        self.asker = Asker(routes, tls, clock)
        self._clock = clock
        self._cache = Cache()
        self._flights: dict[Key, asyncio.Task[Reply]] = {}
        self._clients: Counter[bytes] = Counter()
        self._waiting = 0

    async def close(self) -> None:
        """Ends all flights."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    @property
    def cached(self) -> int:
        """How many answers are kept."""
        return len(self._cache)

    @property
    def flights(self) -> int:
        """How many questions are being asked."""
        return len(self._flights)

    @property
    def waiting(self) -> int:
        """How many queries wait for an answer."""
        return self._waiting

    def serves(self, qname: Name) -> bool:
        """Whether there is anybody to ask for ``qname``."""
        return self.asker.serves(qname)

    def recall(self, environment: EnvironmentId, forward: Forward) -> Reply | None:
        """The reply to ``forward``, if it is known without asking anybody. Equal at once, it is the same object."""
        key, now = (environment, _question(forward)), self._clock()
        entry, failure = self._cache.find(key, now), self._cache.failure(key, now)
        if entry and entry.is_fresh(now):
            self.counts.hits += 1
            if entry.wants_refreshing(now) and not failure and key not in self._flights and self._has_room():
                self.counts.prefetched += 1
                self._fly(key)
            return _whole(forward, entry.aged(now))
        if failure:
            return _whole(forward, self._stale(entry) if entry else failure)
        return None

    async def resolve(self, environment: EnvironmentId, forward: Forward, client: bytes) -> Reply:
        """The reply to ``forward``, which `recall` did not know, for the client at ``client``."""
        key = environment, _question(forward)
        if not self._may_wait(key, client):
            self.counts.refused += 1
            entry = self._cache.find(key, self._clock())
            busy = fail(ErrorCode.OTHER, "too many questions are being asked at once: try again")
            return _whole(forward, self._stale(entry) if entry else busy)
        self._clients[client] += 1
        self._waiting += 1
        try:
            return _whole(forward, await self._join(key))
        finally:
            self._waiting -= 1
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def _may_wait(self, key: Key, client: bytes) -> bool:
        may_one_more = self._clients[client] < MOST_OF_ONE_CLIENT and self._waiting < MOST_WAITING
        return may_one_more and (key in self._flights or self._has_room())

    def _has_room(self) -> bool:
        return len(self._flights) < MOST_FLIGHTS

    async def _join(self, key: Key) -> Reply:
        if flight := self._flights.get(key):
            self.counts.joined += 1
        else:
            self.counts.misses += 1
            flight = self._fly(key)
        entry = self._cache.find(key, self._clock())
        # Shielded: who gives up waiting does not end it for the others.
        done, _ = await asyncio.wait({flight}, timeout=STALE_AFTER if entry else None)
        reply = flight.result() if done else None
        if entry and (reply is None or reply.rcode == Rcode.SERVFAIL):
            return self._stale(entry)
        assert reply is not None
        return reply

    def _fly(self, key: Key) -> asyncio.Task[Reply]:
        flight = asyncio.create_task(self._ask(key))
        self._flights[key] = flight
        flight.add_done_callback(lambda _: self._flights.pop(key))
        return flight

    async def _ask(self, key: Key) -> Reply:
        _, question = key
        try:
            async with asyncio.timeout(DEADLINE):
                reply = await self.asker.ask(question)
        except TimeoutError:
            reply = fail(ErrorCode.NO_REACHABLE_AUTHORITY, "no upstream resolver answered in time")
        self._cache.store(key, reply, self._clock())
        return reply

    def _stale(self, entry: Entry) -> Reply:
        self.counts.stale += 1
        is_no = entry.reply.rcode == Rcode.NXDOMAIN
        code = ErrorCode.STALE_NXDOMAIN_ANSWER if is_no else ErrorCode.STALE_ANSWER
        return replace(entry.stale(), error=ExtendedError(code, "no upstream resolver answers; this is what one said"))


def _question(forward: Forward) -> Question:
    header = forward.query.header
    dnssec_ok = bool(header.edns and header.edns.dnssec_ok)
    return Question(forward.qname, forward.query.qtype, dnssec_ok, header.authentic_wanted, header.checking_disabled)


def _whole(forward: Forward, reply: Reply) -> Reply:
    """``reply`` with the environment's own CNAMEs before it. The name that was asked is then ours: AA."""
    checking_disabled = forward.query.header.checking_disabled  # RFC 4035 §3.2.2: copied, into failures too
    if reply.checking_disabled != checking_disabled:
        reply = replace(reply, checking_disabled=checking_disabled)
    if not forward.chain or reply.rcode == Rcode.SERVFAIL:
        return reply
    return replace(reply, answer=(*forward.chain, *reply.answer), authoritative=True, authentic=False)
