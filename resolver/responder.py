"""From a packet to its reply. The steps stand here in the order in which they happen:

    get        is the reply to these octets cached?    packet_cache   (the hot path ends here)
    parse      what does the query ask?                wire/parser
    answer     what is true?                           answer
    hold       will a better answer be true soon?      pending        (a zone is pending, or not all are loaded)
    forward    what do the upstreams answer?           forward/       (only for names that are not the platform's)
    pack       how is the reply written?               wire/packer
    put        keep the reply for the next query       packet_cache

The scope of the client is found before (`scope`), by the listener. `Responder.respond` is all of it as far as nothing
must be waited for; what must be waited for it returns, and `Responder.finish` completes it. The UDP listener reads the
packet cache itself, and calls `respond` only for a miss.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import cycle, repeat
from typing import assert_never

from resolver.answer import answer, refuse
from resolver.counts import QueryCounts, ReplyCounter
from resolver.forward.forwarder import CachedReply, Forwarder
from resolver.packet_cache import PacketCache, make_entry
from resolver.pending import has_better_answer
from resolver.reasons import Reasons
from resolver.scope import EXTERNAL, ScopeState, ScopeTable
from resolver.special import NO_ROUTES
from resolver.unloaded import answer_unloaded
from resolver.wire.header import Flag
from resolver.wire.messages import (
    NOERROR,
    Drop,
    ErrorCode,
    ExtendedError,
    Forward,
    Hold,
    Query,
    QueryHeader,
    Rcode,
    Rejected,
    Reply,
    Transport,
)
from resolver.wire.packer import MINIMUM_UDP, pack, size_limit
from resolver.wire.parser import parse
from support.clock import in_words
from zones.names import EnvironmentId, Name

MOST_ROTATED = 4 << 20  # octets of one answer's rotations: 256 of 16 KiB; over TCP a large service has many of 64 KiB
LONGEST_KEY = 512  # octets; a larger packet than any real question is not worth caching

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ForwardedQuery:
    """A query whose reply needs an upstream's answer. To be given to `Responder.finish`."""

    forward: Forward
    environment: EnvironmentId
    transport: Transport


Outcome = bytes | Hold | ForwardedQuery | None
"""A reply; or what the reply must wait for; or None where no reply is given."""


class Responder:
    """Answers packets from the zones in ``scopes``, and through ``forwarder`` for names that are not the platform's.

    No method raises because of what a packet holds.
    """

    def __init__(self, scopes: ScopeTable, counts: QueryCounts, forwarder: Forwarder | None = None) -> None:
        self._scopes = scopes
        self._counts = counts
        self._forwarder = forwarder
        self.reasons = Reasons()
        """Why replies that were made lately have no good answer, as far as the client's zone does not say it."""

    def respond(self, packet: bytes, state: ScopeState, transport: Transport) -> Outcome:
        """The reply to ``packet`` from a client whose scope is in ``state``, as far as that needs no waiting."""
        try:
            if reply := self._find(packet, packet[2:], state.cache(transport)):
                return reply
            match parse(packet):
                case Query() as query:
                    return self._answer(packet, query, state, transport)
                case Rejected(header, rcode):
                    self._counts.counter(rcode, None, state.label, transport).count += 1
                    return pack(header, Reply(rcode), size_limit(header, transport))
                case Drop(reason):
                    self._counts.dropped[reason] += 1
                    return None
                case unreachable:
                    assert_never(unreachable)
        except Exception as error:  # noqa: BLE001 the one catch-all, where our faults end
            return self._fail(packet, error)

    @property
    def forwarded(self) -> int:
        """How many replies to forwarded names were made, also from the forwarder's cache."""
        return self._forwarder.replies if self._forwarder else 0

    def respond_now(self, packet: bytes, state: ScopeState, transport: Transport) -> bytes | ForwardedQuery | None:
        """The reply to ``packet`` that was held for as long as possible: SERVFAIL where it would have to wait on."""
        outcome = self.respond(packet, state, transport)
        return self._not_ready(packet, outcome, state, transport) if isinstance(outcome, Hold) else outcome

    def refuse(self, packet: bytes, forwarded: ForwardedQuery, client: bytes) -> bytes | None:
        """The reply to ``packet`` where too many questions are asked already; None where `finish` is to be called."""
        assert self._forwarder
        try:
            reply = self._forwarder.refuse(forwarded.environment, forwarded.forward, client)
            return None if reply is None else self._pack_forwarded(forwarded, reply)
        except Exception as error:  # noqa: BLE001 the one catch-all, where our faults end
            return self._fail(packet, error)

    async def finish(self, packet: bytes, forwarded: ForwardedQuery, client: bytes) -> bytes:
        """The reply to ``packet`` from the client at ``client``, when the upstreams have been asked."""
        assert self._forwarder
        try:
            reply = await self._forwarder.resolve(forwarded.environment, forwarded.forward, client)
            return self._pack_forwarded(forwarded, reply)
        except Exception as error:  # noqa: BLE001 the one catch-all, where our faults end
            return self._fail(packet, error)

    def _find(self, packet: bytes, key: Hashable, cache: PacketCache) -> bytes | None:
        """The next reply that is in ``cache`` under ``key``; None if there is none, or it is no longer right."""
        if (entry := cache.get(key)) and (reply := next(entry[0], None)):
            entry[1].count += 1
            self._counts.packet_cache_hits += 1
            return packet[:2] + reply
        return None

    def _answer(self, packet: bytes, query: Query, state: ScopeState, transport: Transport) -> Outcome:
        # A packet that may come again octet for octet is cached by its octets, to be found before it is parsed. Where a
        # client makes something up for each packet, such as a cookie, the reply is cached by the query's meaning.
        cache = state.cache(transport)
        by_octets = query.repeats and len(packet) <= LONGEST_KEY
        key = packet[2:] if by_octets else _meaning(query.header)
        if not by_octets and (found := self._find(packet, key, cache)):
            return found
        reply = self._decide(query, state)
        if isinstance(reply, Hold):
            return reply
        self._counts.packet_cache_misses += 1
        if not isinstance(reply, Reply):
            if self._forwarder and self._forwarder.is_responsible(reply.qname):
                environment = state.zone.id if state.zone else state.environment
                assert environment is not None  # nothing is forwarded for clients that are in none
                return self._forward(ForwardedQuery(reply, environment, transport), self._forwarder, key, cache)
            reply = reply_without_forwarder(reply)
            self._note_reason(query, state, reply)
        limit = size_limit(query.header, transport)
        packed = pack(query.header, reply, limit)
        counter = self._counts.counter(reply.rcode, query.qtype, state.label, transport)
        counter.count += 1
        # Until all is loaded, an environment that is not there may be loaded in a moment.
        is_final = state.zone or self._scopes.is_loaded
        if is_final and (reply.rcode is NOERROR or cache.is_asked_again(key)):
            replies = self._repeat(query, state, reply, packed[2:], limit)
            kept = min(len(packed) * reply.rotations, MOST_ROTATED)
            cache.put(key, make_entry(replies, counter, kept))
        return packed

    def _decide(self, query: Query, state: ScopeState) -> Reply | Forward | Hold:
        """What to answer, or what to wait for."""
        is_loaded = self._scopes.is_loaded
        if not (state.zone or state.pending or is_loaded):
            return self._decide_unloaded(query, state)
        reply = self._answer_from(state, query)
        if state.pending and has_better_answer(query, reply, state.pending, self._routed):
            return Hold(state.pending.id)
        return reply if state.zone or is_loaded else Hold()

    def _decide_unloaded(self, query: Query, state: ScopeState) -> Reply | Forward | Hold:
        reply = answer_unloaded(query, self._scopes.platform, self._routed)
        # While the source is still being read, it is a matter of moments until it is known whether the environment is
        # isolated. And nobody but a possible member of an environment may use this resolver for outside names.
        may_forward = self._scopes.is_source_away and state.environment is not None
        return Hold() if reply is None or (isinstance(reply, Forward) and not may_forward) else reply

    def _answer_from(self, state: ScopeState, query: Query, rotation: int = 0) -> Reply | Forward:
        if state.zone is None:
            return refuse(ErrorCode.PROHIBITED, state.reason)
        reply = answer(query, state.zone, rotation, self._routed)
        since = self._scopes.stale_since
        if since is None or isinstance(reply, Forward) or reply.error or state.zone.apex_of(query.qname) is None:
            return reply
        return mark_stale(reply, time.time() - since)

    @property
    def _routed(self) -> frozenset[Name]:
        """The suffixes of special names that are forwarded all the same."""
        return self._forwarder.routed if self._forwarder else NO_ROUTES

    def _forward(
        self, forwarded: ForwardedQuery, forwarder: Forwarder, key: Hashable, cache: PacketCache
    ) -> bytes | ForwardedQuery:
        cached = forwarder.get_cached(forwarded.environment, forwarded.forward)
        if cached is None:
            if forwarded.forward.query.header.recursion_desired:
                return forwarded
            cached = CachedReply(reply_without_recursion(forwarded.forward))
        packed = self._pack_forwarded(forwarded, cached.reply)
        if cached.repeat:
            counter = self._forwarded_counter(forwarded, cached.reply)
            cache.put(key, make_entry(cached.repeat(packed[2:]), counter, len(packed)))
        return packed

    def _repeat(self, query: Query, state: ScopeState, reply: Reply, first: bytes, limit: int) -> Iterator[bytes]:
        """The replies that follow ``reply``, which was given as ``first``."""
        if reply.rotations == 1:
            return repeat(first)
        replies = self._rotating_replies(query, state, reply.rotations, first, limit)
        next(replies)
        return replies

    def _rotating_replies(
        self, query: Query, state: ScopeState, rotations: int, first: bytes, limit: int
    ) -> Iterator[bytes]:
        """The reply in each rotation, packed when it is first needed; then all of them again and again."""
        packed, room = [first], MOST_ROTATED
        yield first
        for rotation in range(1, rotations):
            following = self._pack_rotation(state, query, rotation, limit)
            room -= len(following)
            if room > 0:
                packed.append(following)
            yield following
        if len(packed) == rotations:
            yield from cycle(packed)
        for rotation in cycle(range(rotations)):  # the set is so large that not all replies are kept
            kept = rotation < len(packed)
            yield packed[rotation] if kept else self._pack_rotation(state, query, rotation, limit)

    def _pack_rotation(self, state: ScopeState, query: Query, rotation: int, limit: int) -> bytes:
        reply = self._answer_from(state, query, rotation)
        assert isinstance(reply, Reply)  # as the first was
        return pack(query.header, reply, limit)[2:]

    def _pack_forwarded(self, forwarded: ForwardedQuery, reply: Reply) -> bytes:
        header = forwarded.forward.query.header
        assert self._forwarder
        self._forwarder.replies += 1
        self._forwarded_counter(forwarded, reply).count += 1
        self.reasons.note(forwarded.environment, header.question, reply.error.text if reply.error else "")
        return pack(header, reply, size_limit(header, forwarded.transport))

    def _forwarded_counter(self, forwarded: ForwardedQuery, reply: Reply) -> ReplyCounter:
        return self._counts.counter(reply.rcode, forwarded.forward.query.qtype, EXTERNAL, forwarded.transport)

    def _not_ready(self, packet: bytes, hold: Hold, state: ScopeState, transport: Transport) -> bytes | None:
        query = parse(packet)
        if not isinstance(query, Query):
            return None
        text = "the environments are not loaded yet: does the store, or this host's agent, answer?"
        if hold.environment is not None:
            self._counts.pending_timeouts += 1
            text = "the name is known, but there is no path to it yet: is this host's agent well?"
        self._counts.counter(Rcode.SERVFAIL, query.qtype, state.label, transport).count += 1
        reply = Reply(Rcode.SERVFAIL, error=ExtendedError(ErrorCode.NOT_READY, text))
        self._note_reason(query, state, reply)
        return pack(query.header, reply, size_limit(query.header, transport))

    def _note_reason(self, query: Query, state: ScopeState, reply: Reply) -> None:
        environment = state.zone.id if state.zone else state.environment
        self.reasons.note(environment, query.header.question, reply.error.text if reply.error else "")

    def _fail(self, packet: bytes, error: Exception) -> bytes:
        # A fault in this program, whatever the packet holds: the client gets SERVFAIL, and the server goes on.
        self._counts.errors += 1
        log.error("query_failed", extra={"length": len(packet)}, exc_info=error)
        header = QueryHeader(int.from_bytes(packet[:2], "big"), int.from_bytes(packet[2:4], "big"))
        return pack(header, Reply(Rcode.SERVFAIL), MINIMUM_UDP)


def reply_without_forwarder(forward: Forward) -> Reply:
    """The reply to a query for a name that is not the platform's, where no upstream can be asked."""
    if not forward.chain:
        return refuse(ErrorCode.NOT_SUPPORTED, "forwarding is not configured")
    text = f"the answer goes on at {forward.qname}, outside the zone, and forwarding is not configured"
    error = ExtendedError(ErrorCode.NOT_SUPPORTED, text)
    return Reply(Rcode.NOERROR, forward.chain, authoritative=True, error=error)


def reply_without_recursion(forward: Forward) -> Reply:
    """The reply to a query for a name that is not the platform's, and not cached, whose client wants no recursion."""
    text = f"{forward.qname} is not cached, and is looked up only where recursion is desired (RD)"
    error = ExtendedError(ErrorCode.NOT_AUTHORITATIVE, text)
    if not forward.chain:
        return Reply(Rcode.REFUSED, error=error)
    return Reply(Rcode.NOERROR, forward.chain, authoritative=True, error=error)


def mark_stale(reply: Reply, age: float) -> Reply:
    """``reply``, which is right as of ``age`` seconds ago, with an extended error that says so."""
    code = ErrorCode.STALE_NXDOMAIN_ANSWER if reply.rcode is Rcode.NXDOMAIN else ErrorCode.STALE_ANSWER
    text = f"from a snapshot that is {in_words(age)} old, and not confirmed since by the store or this host's agent"
    return reply.changed(error=ExtendedError(code, text))


def _meaning(header: QueryHeader) -> Hashable:
    """All that a reply depends on: what `wire/parser` has read, but for the ID and the options."""
    return header.question, header.flags & (Flag.RD | Flag.AD | Flag.CD), header.edns
