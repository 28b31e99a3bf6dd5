"""From a packet to its reply, in the order in which it happens:

    place      whose query is it?             directory    (before anything else is looked at)
    memo       was just this asked before?    memo         the hot path ends here
    parse      what does it ask?              wire
    answer     what is true?                  answer
    hold       will more be true soon?        coming       (only while a zone is on its way, or some are not loaded)
    forward    who else knows?                forward      (only for what is not the platform's)
    pack       how is that said?              wire

`respond` is all of it but the place, and what must be waited for: that it hands back, to be finished by `finish`. The
UDP shell takes the first two steps itself, a batch at a time, and comes here for the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import cycle, repeat
from typing import assert_never

from resolver.answer import answer, refuse
from resolver.counts import Counts
from resolver.forward.forwarder import Forwarder
from resolver.packet_cache import Entry
from resolver.pending import is_coming
from resolver.scope import EXTERNAL, Directory, Serving
from resolver.wire import codec as wire
from resolver.wire.messages import (
    Drop,
    ErrorCode,
    ExtendedError,
    Forward,
    Head,
    Hold,
    Query,
    Rcode,
    Rejected,
    Reply,
    Transport,
)
from resolver.wire.packed import PackedReplies
from zones.names import EnvironmentId

LONGEST_KEY = 512  # octets; a larger packet than any real question is not worth remembering

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pending:
    """Not yet: others must be asked first. To be given to `Responder.finish`."""

    forward: Forward
    environment: EnvironmentId
    transport: Transport


Outcome = bytes | Hold | Pending | None
"""A reply; or what it waits for; or None to say nothing."""


class Responder:
    """Answers packets from what ``directory`` serves, and what it does not serve through ``forwarder``.

    Never raises for what a packet holds.
    """

    def __init__(self, directory: Directory, counts: Counts, forwarder: Forwarder | None = None) -> None:
        self._directory = directory
        self._counts = counts
        self._forwarder = forwarder
        self._packed = PackedReplies()

    def respond(self, packet: bytes, serving: Serving, transport: Transport) -> Outcome:
        """The reply to ``packet`` from a client that is served ``serving``, as far as that needs no waiting."""
        try:
            if entry := serving.memos[transport].recall(packet[2:]):
                self._counts.memo_hits += 1
                return _next_reply(packet, entry)
            return self._parse_and_answer(packet, serving, transport)
        except Exception as error:  # noqa: BLE001 the one catch-all, where our faults end
            return self._fail(packet, error)

    async def finish(self, packet: bytes, pending: Pending, client: bytes) -> bytes:
        """The reply to ``packet`` from the client at ``client``, when others have been asked."""
        assert self._forwarder
        try:
            reply = await self._forwarder.resolve(pending.environment, pending.forward, client)
            return self._pack_forwarded(pending, reply)
        except Exception as error:  # noqa: BLE001 the one catch-all, where our faults end
            return self._fail(packet, error)

    def respond_at_last(self, packet: bytes, serving: Serving, transport: Transport) -> bytes | Pending | None:
        """The same for a packet that was held for as long as can be."""
        outcome = self.respond(packet, serving, transport)
        return self._not_ready(packet, outcome, serving, transport) if isinstance(outcome, Hold) else outcome

    def _parse_and_answer(self, packet: bytes, serving: Serving, transport: Transport) -> Outcome:
        match wire.parse(packet):
            case Drop(reason):
                self._counts.dropped[reason] += 1
                return None
            case Rejected(head, rcode):
                self._counts.tally(rcode, None, serving.scope, transport).count += 1
                return wire.pack(head, Reply(rcode), wire.limit(head, transport))
            case Query() as query:
                return self._look_up(packet, query, serving, transport)
            case unreachable:
                assert_never(unreachable)

    def _look_up(self, packet: bytes, query: Query, serving: Serving, transport: Transport) -> Outcome:
        # What can come again octet for octet is kept so, to be found before it is parsed. Where a client makes
        # something up each time, such as a cookie, what it means is kept.
        memo = serving.memos[transport]
        is_kept_as_it_is = query.repeats and len(packet) <= LONGEST_KEY
        key = packet[2:] if is_kept_as_it_is else _meaning(query.head)
        entry = None if is_kept_as_it_is else memo.recall(key)
        if entry is None:
            reply = _decide(query, serving)
            if hold := self._hold(query, serving, reply):
                return hold
            self._counts.memo_misses += 1
            if isinstance(reply, Forward):
                if self._forwarder and self._forwarder.serves(reply.qname):
                    assert serving.zone
                    return self._forward(Pending(reply, serving.zone.id, transport), self._forwarder)
                reply = _unforwarded(reply)
            entry = self._make(query, serving, transport, reply)
            memo.keep(key, entry)
        return _next_reply(packet, entry)

    def _hold(self, query: Query, serving: Serving, reply: Reply | Forward) -> Hold | None:
        if serving.coming and is_coming(query, reply, serving.coming):
            return Hold(serving.coming.id)
        return Hold() if serving.zone is None and not self._directory.is_loaded else None

    def _not_ready(self, packet: bytes, hold: Hold, serving: Serving, transport: Transport) -> bytes | None:
        query = wire.parse(packet)
        if not isinstance(query, Query):
            return None
        text = "the environments are not loaded yet: does the store, or this host's agent, answer?"
        if hold.environment is not None:
            self._counts.late_coming += 1
            text = "the name is known, but there is no path to it yet: is this host's agent well?"
        self._counts.tally(Rcode.SERVFAIL, query.qtype, serving.scope, transport).count += 1
        reply = Reply(Rcode.SERVFAIL, error=ExtendedError(ErrorCode.NOT_READY, text))
        return wire.pack(query.head, reply, wire.limit(query.head, transport))

    def _make(self, query: Query, serving: Serving, transport: Transport, reply: Reply) -> Entry:
        limit = wire.limit(query.head, transport)
        packed = wire.pack(query.head, reply, limit)[2:]
        tally = self._counts.tally(reply.rcode, query.qtype, serving.scope, transport)
        return (repeat(packed) if reply.turns == 1 else _in_turn(query, serving, reply.turns, packed, limit)), tally

    def _forward(self, pending: Pending, forwarder: Forwarder) -> Outcome:
        reply = forwarder.recall(pending.environment, pending.forward)
        return pending if reply is None else self._pack_forwarded(pending, reply)

    def _pack_forwarded(self, pending: Pending, reply: Reply) -> bytes:
        query = pending.forward.query
        self._counts.tally(reply.rcode, query.qtype, EXTERNAL, pending.transport).count += 1
        meaning = _meaning(query.head), pending.transport
        packed = self._packed.recall(reply, meaning)
        if packed is None:
            packed = wire.pack(query.head, reply, wire.limit(query.head, pending.transport))[2:]
            self._packed.keep(reply, meaning, packed)
        return query.head.id.to_bytes(2, "big") + packed

    def _fail(self, packet: bytes, error: Exception) -> bytes:
        # Our fault, whatever the packet holds: the client is told so, and the server goes on.
        self._counts.errors += 1
        log.error("query_failed", extra={"length": len(packet)}, exc_info=error)
        head = Head(int.from_bytes(packet[:2], "big"), packet[2] >> 3 & 0xF, bool(packet[2] & 1))
        return wire.pack(head, Reply(Rcode.SERVFAIL), wire.MINIMUM_UDP)


def _meaning(head: Head) -> Hashable:
    return head.question, head.recursion_desired, head.edns


def _decide(query: Query, serving: Serving, turn: int = 0) -> Reply | Forward:
    if serving.zone is None:
        return refuse(ErrorCode.PROHIBITED, serving.reason)
    return answer(query, serving.zone, turn)


def _unforwarded(forward: Forward) -> Reply:
    """What is said of a name that is not ours where nobody else can be asked."""
    if not forward.chain:
        return refuse(ErrorCode.NOT_SUPPORTED, "forwarding is not configured")
    text = f"the answer goes on at {forward.qname}, outside the zone, and forwarding is not configured"
    error = ExtendedError(ErrorCode.NOT_SUPPORTED, text)
    return Reply(Rcode.NOERROR, forward.chain, authoritative=True, error=error)


def _in_turn(query: Query, serving: Serving, turns: int, first: bytes, limit: int) -> Iterator[bytes]:
    """Each turn's reply, packed when it is first due, then all of them again and again."""
    packed = [first]
    yield first
    for turn in range(1, turns):
        reply = _decide(query, serving, turn)
        assert isinstance(reply, Reply)  # as the first was
        packed.append(wire.pack(query.head, reply, limit)[2:])
        yield packed[-1]
    yield from cycle(packed)


def _next_reply(packet: bytes, entry: Entry) -> bytes:
    replies, tally = entry
    tally.count += 1
    return packet[:2] + next(replies)
