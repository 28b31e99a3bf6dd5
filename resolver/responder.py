"""From a packet to its reply, in the order in which it happens:

    place      whose query is it?             directory    (before anything else is looked at)
    memo       was just this asked before?    memo         the hot path ends here
    parse      what does it ask?              wire
    answer     what is true?                  answer
    pack       how is that said?              wire

`respond` is all of it. The UDP shell takes the first two steps itself, a batch at a time, and comes here for the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from itertools import cycle, repeat
from typing import assert_never

from resolver import wire
from resolver.answer import answer, refuse
from resolver.counts import Counts
from resolver.directory import Directory, Serving
from resolver.memo import Entry
from resolver.messages import (
    Drop,
    ErrorCode,
    ExtendedError,
    Forward,
    Head,
    Query,
    Rcode,
    Rejected,
    Reply,
    Transport,
)

LONGEST_KEY = 512  # octets; a larger packet than any real question is not worth remembering

log = logging.getLogger(__name__)


class Hold:
    """Not yet: whether the client belongs to an environment is known only when all environments are."""


HOLD = Hold()


class Responder:
    """Answers packets from what ``directory`` serves. Does no I/O, and never raises for what a packet holds."""

    def __init__(self, directory: Directory, counts: Counts) -> None:
        self._directory = directory
        self._counts = counts

    def respond(self, packet: bytes, serving: Serving, transport: Transport) -> bytes | Hold | None:
        """The reply to ``packet`` from a client that is served ``serving``; None to say nothing."""
        try:
            if entry := serving.memos[transport].recall(packet[2:]):
                self._counts.memo_hits += 1
                return _next_reply(packet, entry)
            return self._parse_and_answer(packet, serving, transport)
        except Exception:
            # Our fault, whatever the packet holds: the client is told so, and the server goes on.
            self._counts.errors += 1
            log.exception("query_failed", extra={"length": len(packet)})
            return _server_failure(packet)

    def not_ready(self, packet: bytes, transport: Transport) -> bytes | None:
        """The reply to a packet that was held for as long as can be."""
        match wire.parse(packet):
            case Query(head=head, qtype=qtype):
                error = ExtendedError(
                    ErrorCode.NOT_READY, "the environments are not loaded yet: is the store reachable?"
                )
                self._counts.tally(Rcode.SERVFAIL, qtype, "outside", transport).count += 1
                return wire.pack(head, Reply(Rcode.SERVFAIL, error=error), wire.limit(head, transport))
            case _:
                return None

    def _parse_and_answer(self, packet: bytes, serving: Serving, transport: Transport) -> bytes | Hold | None:
        match wire.parse(packet):
            case Drop(reason):
                self._counts.dropped[reason] += 1
                return None
            case Rejected(head, rcode):
                self._counts.tally(rcode, None, serving.scope, transport).count += 1
                return wire.pack(head, Reply(rcode), wire.limit(head, transport))
            case Query() as query:
                if serving.zone is None and not self._directory.is_loaded:
                    return HOLD
                return _next_reply(packet, self._look_up(packet, query, serving, transport))
            case unreachable:
                assert_never(unreachable)

    def _look_up(self, packet: bytes, query: Query, serving: Serving, transport: Transport) -> Entry:
        # Two packets that differ only in what is made up for each, such as a cookie, have one reply. It is kept by
        # its meaning, and by its octets only where those can come again.
        memo = serving.memos[transport]
        meaning = _meaning(query.head)
        entry = memo.recall(meaning)
        if entry is None:
            self._counts.memo_misses += 1
            entry = self._make(query, serving, transport)
            memo.keep(meaning, entry)
        if query.repeats and len(packet) <= LONGEST_KEY:
            memo.keep(packet[2:], entry)
        return entry

    def _make(self, query: Query, serving: Serving, transport: Transport) -> Entry:
        limit = wire.limit(query.head, transport)
        reply = _decide(query, serving)
        packed = wire.pack(query.head, reply, limit)[2:]
        tally = self._counts.tally(reply.rcode, query.qtype, serving.scope, transport)
        return (repeat(packed) if reply.turns == 1 else _in_turn(query, serving, reply.turns, packed, limit)), tally


def _meaning(head: Head) -> Hashable:
    return head.question, head.recursion_desired, head.edns


def _decide(query: Query, serving: Serving, turn: int = 0) -> Reply:
    if serving.zone is None:
        return refuse(ErrorCode.PROHIBITED, serving.reason)
    outcome = answer(query, serving.zone, turn)
    if isinstance(outcome, Forward):
        return refuse(ErrorCode.NOT_SUPPORTED, "forwarding is not configured")
    return outcome


def _in_turn(query: Query, serving: Serving, turns: int, first: bytes, limit: int) -> Iterator[bytes]:
    """Each turn's reply, packed when it is first due, then all of them again and again."""
    packed = [first]
    yield first
    for turn in range(1, turns):
        packed.append(wire.pack(query.head, _decide(query, serving, turn), limit)[2:])
        yield packed[-1]
    yield from cycle(packed)


def _next_reply(packet: bytes, entry: Entry) -> bytes:
    replies, tally = entry
    tally.count += 1
    return packet[:2] + next(replies)


def _server_failure(packet: bytes) -> bytes:
    head = Head(int.from_bytes(packet[:2], "big"), packet[2] >> 3 & 0xF, bool(packet[2] & 1))
    return wire.pack(head, Reply(Rcode.SERVFAIL), wire.MINIMUM_UDP)
