"""DNS over UDP: one socket, read and answered a batch at a time."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from time import perf_counter

from msgspec import Struct

from resolver.net.context import ListenerContext
from resolver.net.inbox import Datagram, Inbox
from resolver.net.mmsg import SLOTS
from resolver.net.outbox import LateOutbox, Outbox
from resolver.net.shield import Shield
from resolver.responder import ForwardedQuery
from resolver.scope import ScopeState
from resolver.wire.messages import UDP, Hold

AT_ONCE = 8  # replies of a batch are made before the others of it, which may be ready, are sent: 0.1 milliseconds
BUSY = 8  # packets in a batch: more will have come meanwhile, and to look is cheaper than to go round the event loop
BATCHES = 8  # without a break for other work: a millisecond, which what is read costs if it costs little


class _LateQuery(Struct, frozen=True, gc=False):
    """A query whose reply is sent later than its batch's."""

    datagram: Datagram
    """The query, and where the reply goes."""
    source: bytes
    """The client's address."""
    destination: bytes
    """The address that was asked."""
    started: float
    """When its batch was received (``time.perf_counter``)."""


class UdpListener:
    """Answers what comes to ``sock``, which it owns."""

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        self._sock = sock
        self._context = context
        self._inbox = Inbox(sock)
        self._outbox = Outbox.of(self._inbox, sock)
        self._late_outbox = LateOutbox(sock, self._inbox.is_wildcard, context.counts)
        self._shield = Shield(sock)
        self._may_make = 0  # replies of this batch that are made at once; the others wait for their turn
        self._late = 0  # queries of this batch whose reply is sent later
        self._will_flush = False
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
        self._late_outbox.flush()
        self._sock.close()

    def read(self) -> None:
        """Sends what was made meanwhile; answers what has arrived, up to `BATCHES` batches."""
        self._late_outbox.flush()
        for _ in range(BATCHES):
            count = self._inbox.receive()
            if count:
                self._answer(count)
                if self._shield.is_probing:
                    self._shield.note(self._inbox.sources())
            if count < BUSY:
                return
            # There may be more, and too much for the others.
            if count == SLOTS and self._context.scopes.has_several_clients:
                self._shield.look(self._inbox.sources())

    def _answer(self, count: int) -> None:
        """Answers the packets in the first ``count`` slots."""
        inbox, outbox, context = self._inbox, self._outbox, self._context
        started = perf_counter()
        scopes, destination = context.scopes, self._destination
        is_wildcard = inbox.is_wildcard
        remembered = scopes.remembered(destination)
        querylog = context.querylog if context.querylog.is_on else None
        self._may_make = 0 if context.turns else AT_ONCE
        self._late = 0
        forwarded = context.responder.forwarded
        hits = 0
        unsent_from = 0
        noted: list[tuple[ScopeState, bytes, bytes, bytes]] = []
        for slot, (body, source) in enumerate(zip(inbox.bodies(), inbox.sources(), strict=True)):
            if is_wildcard:
                destination = inbox.destinations[slot].tobytes()
                remembered = scopes.remembered(destination)
            scope = remembered.get(source) or scopes.scope_of(source, destination)
            # The hot path: a reply that is in the packet cache. All others are made.
            entry = scope.state.udp_cache.recent.get(body)
            if entry and (reply := next(entry[0], None)):
                entry[1].count += 1
                hits += 1
                outbox.put(slot, reply)
            else:
                made = self._make(slot, source, destination, started)
                if made is None:  # no reply, or none yet: send those before this slot, which has nothing to send
                    if unsent_from < slot:
                        context.counts.unsent += outbox.send(unsent_from, slot)
                    unsent_from = slot + 1
                    continue
                reply = made[2:]
                outbox.put(slot, reply)
            if querylog:
                packet = inbox.packet(slot)
                noted.append((scope.state, source, packet, packet[:2] + reply))
        context.counts.unsent += outbox.send(unsent_from, count)
        self._late_outbox.flush()
        context.counts.packet_cache_hits += hits
        forwarded = context.responder.forwarded - forwarded  # those of this batch that were answered from a cache
        context.counts.observe(perf_counter() - started, count - self._late, forwarded)
        if querylog:
            for state, source, packet, sent in noted:
                querylog.note(state, source, UDP, packet, sent, started)

    def _make(self, slot: int, source: bytes, destination: bytes, started: float) -> bytes | None:
        """The reply to the packet in ``slot``, if it may be made at once. Else it waits for its turn, or is dropped."""
        context = self._context
        if not context.turns.rate.take(source, started):
            context.counts.dropped["source_rate"] += 1
            return None
        if not self._may_make:
            query = _LateQuery(self._inbox.datagram(slot), source, destination, started)
            if context.turns.put(source, partial(self._take_turn, query)):
                self._late += 1
            else:
                context.counts.dropped["source_waiting"] += 1
            return None
        self._may_make -= 1
        state = context.scopes.scope_of(source, destination).state
        outcome = context.responder.respond(self._inbox.packet(slot), state, UDP)
        if outcome is None or isinstance(outcome, bytes):
            return outcome
        query = _LateQuery(self._inbox.datagram(slot), source, destination, started)
        self._late += self._defer(query, outcome)
        return None

    def _take_turn(self, query: _LateQuery) -> None:
        if hold := self._answer_late(query, False):
            self._defer(query, hold)

    def _defer(self, query: _LateQuery, outcome: Hold | ForwardedQuery) -> bool:
        """Sees to it that ``query`` is answered later; False if it is dropped."""
        if isinstance(outcome, ForwardedQuery):
            self._forward(query, outcome)
            return True
        is_held = self._context.held.hold(outcome, query.source, partial(self._answer_late, query))
        if not is_held:
            self._context.counts.dropped["held_too_many"] += 1
        return is_held

    def _answer_late(self, query: _LateQuery, is_last: bool) -> Hold | None:
        scopes, responder = self._context.scopes, self._context.responder
        state, forwarded = scopes.scope_of(query.source, query.destination).state, responder.forwarded
        respond = responder.respond_now if is_last else responder.respond
        match respond(query.datagram.octets, state, UDP):
            case bytes() as reply:
                self._send_late(query, reply, responder.forwarded - forwarded)
            case ForwardedQuery() as outcome:
                self._forward(query, outcome)
            case Hold() as hold:
                return hold
        return None

    def _forward(self, query: _LateQuery, forwarded: ForwardedQuery) -> None:
        def send(task: asyncio.Task[bytes]) -> None:
            if not task.cancelled():
                self._send_late(query, task.result(), 1)

        packet = query.datagram.octets
        if refusal := self._context.responder.refuse(packet, forwarded, query.source):
            self._send_late(query, refusal, 1)
            return
        finish = self._context.responder.finish(packet, forwarded, query.source)
        self._context.reply_tasks.start(finish, send)

    def _send_late(self, query: _LateQuery, reply: bytes, forwarded: int) -> None:
        context = self._context
        self._late_outbox.put(query.datagram, reply)
        if not self._will_flush:
            self._will_flush = True
            asyncio.get_running_loop().call_soon(self._flush)
        context.counts.observe(perf_counter() - query.started, 1, forwarded)
        if context.querylog.is_on:
            state = context.scopes.scope_of(query.source, query.destination).state
            context.querylog.note(state, query.source, UDP, query.datagram.octets, reply, query.started)

    def _flush(self) -> None:
        self._will_flush = False
        self._late_outbox.flush()
