"""DNS over UDP: one socket, read and answered a batch at a time."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from resolver.net.context import ListenerContext
from resolver.net.inbox import Inbox, Origin
from resolver.net.mmsg import SLOTS
from resolver.net.outbox import Outbox
from resolver.net.shield import Shield
from resolver.responder import ForwardedQuery, Outcome
from resolver.scope import ScopeState
from resolver.wire.messages import Hold, Transport

AT_ONCE = 1  # reply of a batch is made before the others of it, which may be ready, are sent
BATCHES = 8  # without a break for other work: a millisecond, which what is read costs if it costs little


@dataclass(frozen=True, slots=True)
class _LateQuery:
    """A query whose reply is sent later than its batch's."""

    packet: bytes
    source: bytes
    destination: bytes
    origin: Origin
    started: float
    """When its batch was received (``time.perf_counter``)."""


class UdpListener:
    """Answers what comes to ``sock``, which it owns."""

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        self._sock = sock
        self._context = context
        self._inbox = Inbox(sock)
        self._outbox = Outbox(sock, self._inbox)
        self._shield = Shield(sock)
        self._may_make = 0  # replies of this batch that are made at once; the others wait for their turn
        self._late = 0  # queries of this batch whose reply is sent later
        self._forwarded = 0  # queries of this batch for forwarded names that were answered from the forwarder's cache
        self._destination = socket.inet_pton(sock.family, sock.getsockname()[0])
        asyncio.get_running_loop().add_reader(sock, self.read)

    @property
    def unread(self) -> int:
        """How many packets the kernel has dropped at the socket, since it was opened."""
        return self._shield.dropped

    def pause(self) -> None:
        """Receives no more, and shuts nobody out any more: another process may go on with the socket."""
        asyncio.get_running_loop().remove_reader(self._sock)
        self._shield.end()

    def close(self) -> None:
        """Sends no more."""
        self._sock.close()

    def read(self) -> None:
        """Answers what has arrived, up to `BATCHES` batches."""
        for _ in range(BATCHES):
            count = self._inbox.receive()
            if count:
                self._answer(count)
                if self._shield.is_probing:
                    self._shield.note(self._inbox.sources[:count])
            if count < SLOTS:
                return
            if self._context.scopes.has_several_clients:  # there may be more, and too much for the others
                self._shield.look(self._inbox.sources)

    def _answer(self, count: int) -> None:
        """Answers the packets in the first ``count`` slots."""
        inbox, outbox, context = self._inbox, self._outbox, self._context
        started = perf_counter()
        scope_of, sources, destination = context.scopes.scope_of, inbox.sources, self._destination
        is_wildcard = inbox.is_wildcard
        querylog = context.querylog if context.querylog.is_on else None
        self._may_make = 0 if context.turns else AT_ONCE
        self._late = self._forwarded = 0
        hits = 0
        unsent_from = 0
        noted: list[tuple[ScopeState, bytes, bytes, bytes]] = []
        for slot in range(count):
            packet = inbox.packet(slot)
            if is_wildcard:
                destination = bytes(inbox.destinations[slot])
            source = bytes(sources[slot])
            state = scope_of(source, destination).state
            # The hot path: a reply that is in the packet cache. All others are made.
            entry = state.udp_cache.recent.get(packet[2:])
            if entry:
                entry[1].count += 1
                hits += 1
                reply: Outcome = packet[:2] + next(entry[0])
            else:
                reply = self._make(slot, packet, source, destination, started)
            if isinstance(reply, bytes):
                outbox.put(slot, reply)
                if querylog:
                    noted.append((state, source, packet, reply))
                continue
            # No reply, or none yet: send those before this slot, which has nothing to send.
            context.counts.unsent += outbox.send(unsent_from, slot)
            unsent_from = slot + 1
            if reply:
                self._late += self._defer(self._late_query(slot, packet, source, destination, started), reply)
        context.counts.unsent += outbox.send(unsent_from, count)
        context.counts.packet_cache_hits += hits
        context.counts.observe(perf_counter() - started, count - self._late, self._forwarded)
        if querylog:
            for state, source, packet, sent in noted:
                querylog.note(state, source, Transport.UDP, packet, sent, started)

    def _make(self, slot: int, packet: bytes, source: bytes, destination: bytes, started: float) -> Outcome:
        """The reply to the packet in ``slot``, if it may be made at once. Else it waits for its turn, or is dropped."""
        context = self._context
        if not context.turns.rate.take(source, started):
            context.counts.dropped["source_rate"] += 1
        elif self._may_make:
            self._may_make -= 1
            state = context.scopes.scope_of(source, destination).state
            forwarded = context.responder.forwarded
            outcome = context.responder.respond(packet, state, Transport.UDP)
            self._forwarded += context.responder.forwarded - forwarded
            return outcome
        else:
            query = self._late_query(slot, packet, source, destination, started)
            if context.turns.put(source, partial(self._take_turn, query)):
                self._late += 1
            else:
                context.counts.dropped["source_waiting"] += 1
        return None

    def _late_query(self, slot: int, packet: bytes, source: bytes, destination: bytes, started: float) -> _LateQuery:
        return _LateQuery(packet, source, destination, self._inbox.origin(slot), started)

    def _take_turn(self, query: _LateQuery) -> None:
        if hold := self._answer_held(query, False):
            self._defer(query, hold)

    def _defer(self, query: _LateQuery, outcome: Hold | ForwardedQuery) -> bool:
        """Sees to it that ``query`` is answered later; False if it is dropped."""
        if isinstance(outcome, ForwardedQuery):
            self._forward(query, outcome)
            return True
        is_held = self._context.held.hold(outcome, query.source, partial(self._answer_held, query))
        if not is_held:
            self._context.counts.dropped["held_too_many"] += 1
        return is_held

    def _answer_held(self, query: _LateQuery, is_last: bool) -> Hold | None:
        scopes, responder = self._context.scopes, self._context.responder
        respond, forwarded = responder.respond_now if is_last else responder.respond, responder.forwarded
        outcome = respond(query.packet, scopes.scope_of(query.source, query.destination).state, Transport.UDP)
        if isinstance(outcome, Hold):
            return outcome
        if isinstance(outcome, ForwardedQuery):
            self._forward(query, outcome)
        elif outcome:
            self._send_late(query, outcome, responder.forwarded - forwarded)
        return None

    def _forward(self, query: _LateQuery, forwarded: ForwardedQuery) -> None:
        def send(task: asyncio.Task[bytes]) -> None:
            if not task.cancelled():
                self._send_late(query, task.result(), 1)

        if refusal := self._context.responder.refuse(query.packet, forwarded, query.source):
            self._send_late(query, refusal, 1)
            return
        finish = self._context.responder.finish(query.packet, forwarded, query.source)
        self._context.reply_tasks.start(finish, send)

    def _send_late(self, query: _LateQuery, reply: bytes, forwarded: int) -> None:
        context = self._context
        if not self._outbox.send_one(query.origin, reply):
            context.counts.unsent += 1
        context.counts.observe(perf_counter() - query.started, 1, forwarded)
        if context.querylog.is_on:
            state = context.scopes.scope_of(query.source, query.destination).state
            context.querylog.note(state, query.source, Transport.UDP, query.packet, reply, query.started)
