"""The forwarder: from a question that is not the platform's to its reply, within a second.

    recall    is it known?          cache       fresh answers, and failures of a moment ago
    fly       is it being asked?    one flight for all who ask the same at once
    hedge     who answers first?    the best upstream, then the next when that one is late or useless
    read      put in order          reading
    store     for next time         cache

An answer that has ended is kept for the day on which nobody answers (RFC 8767): a client that has waited for
`STALE_AFTER` gets it while the flight goes on.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from resolver.forward.cache import Cache, Entry, Key
from resolver.forward.exchange import Clock, ExchangeFailed, Exchanger, Question
from resolver.forward.reading import is_useful, read
from resolver.forward.upstream import Health, Routes, Upstream
from resolver.messages import ErrorCode, ExtendedError, Forward, Rcode, Reply
from zones.names import EnvironmentId, Name

DEADLINE = 0.95  # seconds for a flight: with our own work, an answer or a failure within a second [5]
STALE_AFTER = 0.4  # seconds; RFC 8767 §5 suggests 1.8, but our clients' patience is shorter
HEDGE_LEAST = 0.02  # seconds before a second upstream is asked as well, however fast the first one usually is
HEDGE_MOST = 0.25  # seconds; three upstreams have their chance within the deadline
HEDGE_ROUND_TRIPS = 3  # of the first upstream's, after which it is late
ATTEMPTS = 3  # at least, within the deadline
MOST_FLIGHTS = 2048  # sockets at once; beyond that upstreams or we are flooded, and a failure is the honest answer
MOST_OF_ONE_CLIENT = 256  # flights; the others are for other clients

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What forwarding has come to, for metrics."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    prefetched: int = 0
    stale: int = 0
    refused: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


class Forwarder:
    """Asks upstreams for what clients want to know of the rest of the world."""

    def __init__(self, routes: Routes, *, tls: ssl.SSLContext | None = None, clock: Clock = time.monotonic) -> None:
        self.counts = Counts()
        self.health = {upstream: Health() for upstream in routes.all}
        self._routes = routes
        self._exchanger = Exchanger(tls or ssl.create_default_context())
        self._clock = clock
        self._cache = Cache()
        self._flights: dict[Key, asyncio.Task[Reply]] = {}
        self._clients: Counter[bytes] = Counter()

    async def close(self) -> None:
        """Ends all flights."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    @property
    def forged(self) -> int:
        """How many packets came in place of an upstream's answer."""
        return self._exchanger.forged

    @property
    def cached(self) -> int:
        """How many answers are kept."""
        return len(self._cache)

    def serves(self, qname: Name) -> bool:
        """Whether there is anybody to ask for ``qname``."""
        return bool(self._routes.upstreams(qname))

    def recall(self, environment: EnvironmentId, forward: Forward) -> Reply | None:
        """The reply to ``forward``, if it is known without asking anybody."""
        key, now = (environment, _question(forward)), self._clock()
        entry = self._cache.find(key, now)
        if entry and entry.is_fresh(now):
            self.counts.hits += 1
            if entry.wants_refreshing(now) and key not in self._flights and len(self._flights) < MOST_FLIGHTS:
                self.counts.prefetched += 1
                self._fly(key)
            return _whole(forward, entry.aged(now))
        if failure := self._cache.failure(key, now):
            return _whole(forward, self._stale(entry, now) if entry else failure)
        return None

    async def resolve(self, environment: EnvironmentId, forward: Forward, client: bytes) -> Reply:
        """The reply to ``forward``, which `recall` did not know, for the client at ``client``."""
        if self._clients[client] >= MOST_OF_ONE_CLIENT or len(self._flights) >= MOST_FLIGHTS:
            self.counts.refused += 1
            return _whole(forward, _fail(ErrorCode.OTHER, "too many questions are being asked at once: try again"))
        self._clients[client] += 1
        try:
            return _whole(forward, await self._join((environment, _question(forward))))
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    async def _join(self, key: Key) -> Reply:
        if key in self._flights:
            self.counts.joined += 1
            flight = self._flights[key]
        else:
            self.counts.misses += 1
            flight = self._fly(key)
        entry = self._cache.find(key, self._clock())
        # Shielded: who gives up waiting does not end it for the others.
        done, _ = await asyncio.wait({flight}, timeout=STALE_AFTER if entry else None)
        reply = flight.result() if done else None
        if entry and (reply is None or reply.rcode == Rcode.SERVFAIL):
            return self._stale(entry, self._clock())
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
                reply = await self._hedge(question)
        except TimeoutError:
            reply = _fail(ErrorCode.NO_REACHABLE_AUTHORITY, "no upstream resolver answered in time")
        except ExchangeFailed as error:
            reply = _fail(ErrorCode.NO_REACHABLE_AUTHORITY, f"no upstream resolver gave an answer: {error}")
        self._cache.store(key, reply, self._clock())
        return reply

    async def _hedge(self, question: Question) -> Reply:
        """The first useful answer; each upstream is asked when the one before it is late or has failed."""
        now = self._clock()
        ranked = sorted(self._routes.upstreams(question.qname), key=lambda upstream: self.health[upstream].rank(now))
        waiting = [*ranked, *ranked, *ranked][
            : max(len(ranked), ATTEMPTS)
        ]  # a lone one is asked again: packets get lost
        asking: set[asyncio.Task[Reply]] = set()
        failure: Exception = ExchangeFailed("there is none")
        try:
            while waiting or asking:
                patience = None
                if waiting:
                    upstream = waiting.pop(0)
                    asking.add(asyncio.create_task(self._ask_one(upstream, question)))
                    late = self.health[upstream].round_trip * HEDGE_ROUND_TRIPS
                    patience = min(max(late, HEDGE_LEAST), HEDGE_MOST) if waiting else None
                done, asking = await asyncio.wait(asking, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.exception()
                    if error is None:
                        return task.result()
                    assert isinstance(error, ExchangeFailed)
                    failure = error
        finally:
            for task in asking:
                task.cancel()
        raise failure

    async def _ask_one(self, upstream: Upstream, question: Question) -> Reply:
        health, started = self.health[upstream], self._clock()
        self.counts.asked[str(upstream)] += 1
        try:
            response = await self._exchanger.ask(upstream, question)
            if not is_useful(response):
                name = Rcode(response.rcode).name if response.rcode in set(Rcode) else f"RCODE{response.rcode}"
                raise ExchangeFailed(f"{upstream}: {name}")
        except ExchangeFailed:
            self._failed(upstream)
            raise
        except asyncio.CancelledError:
            # Another one was faster, or time is up. Who was that late should not be first the next time.
            if self._clock() - started >= HEDGE_MOST:
                self._failed(upstream)
            raise
        health.succeeded(self._clock() - started)
        return read(question, response, is_protected=upstream.is_protected)

    def _failed(self, upstream: Upstream) -> None:
        self.counts.failed[str(upstream)] += 1
        health = self.health[upstream]
        health.failed(self._clock())
        if health.failures == 1:
            log.warning("upstream_failed", extra={"upstream": str(upstream)})

    def _stale(self, entry: Entry, now: float) -> Reply:
        self.counts.stale += 1
        is_no = entry.reply.rcode == Rcode.NXDOMAIN
        code = ErrorCode.STALE_NXDOMAIN_ANSWER if is_no else ErrorCode.STALE_ANSWER
        error = ExtendedError(code, "no upstream resolver answers; this is what the last one said")
        return replace(entry.aged(now), error=error)


def _question(forward: Forward) -> Question:
    head = forward.query.head
    dnssec_ok = bool(head.edns and head.edns.dnssec_ok)
    return Question(forward.qname, forward.query.qtype, dnssec_ok, head.authentic_wanted, head.checking_disabled)


def _whole(forward: Forward, reply: Reply) -> Reply:
    """``reply`` with the environment's own CNAMEs before it. The name that was asked is then ours: AA."""
    if not forward.chain:
        return reply
    return replace(reply, answer=(*forward.chain, *reply.answer), authoritative=True, authentic=False)


def _fail(code: ErrorCode, text: str) -> Reply:
    return Reply(Rcode.SERVFAIL, error=ExtendedError(code, text))
