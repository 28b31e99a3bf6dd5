"""DNS over UDP: one socket, read and answered a batch at a time."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from resolver.net.context import ListenerContext
from resolver.net.inbox import Inbox, Origin
from resolver.net.outbox import Outbox
from resolver.responder import ForwardedQuery, Outcome
from resolver.scope import ScopeState
from resolver.wire.messages import Hold, Transport


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
        self._destination = socket.inet_pton(sock.family, sock.getsockname()[0])
        asyncio.get_running_loop().add_reader(sock, self._read)

    def pause(self) -> None:
        """Receives no more."""
        asyncio.get_running_loop().remove_reader(self._sock)

    def close(self) -> None:
        """Sends no more."""
        self._sock.close()

    def _read(self) -> None:
        inbox, outbox, context = self._inbox, self._outbox, self._context
        count = inbox.receive()
        if not count:
            return
        started = perf_counter()
        scope_of, sources, destination = context.scopes.scope_of, inbox.sources, self._destination
        is_wildcard = inbox.is_wildcard
        querylog = context.querylog if context.querylog.is_on else None
        hits = 0
        late = 0
        unsent_from = 0
        noted: list[tuple[ScopeState, bytes, bytes, bytes]] = []
        for slot in range(count):
            packet = inbox.packet(slot)
            if is_wildcard:
                destination = bytes(inbox.destinations[slot])
            state = scope_of(bytes(sources[slot]), destination).state
            # The hot path: a reply that is in the packet cache. The responder makes all others.
            entry = state.udp_cache.recent.get(packet[2:])
            if entry:
                entry[1].count += 1
                hits += 1
                reply: Outcome = packet[:2] + next(entry[0])
            else:
                reply = context.responder.respond(packet, state, Transport.UDP)
            if isinstance(reply, bytes):
                outbox.put(slot, reply)
                if querylog:
                    noted.append((state, bytes(sources[slot]), packet, reply))
                continue
            # No reply, or none yet: send those before this slot, which has nothing to send.
            context.counts.unsent += outbox.send(unsent_from, slot)
            unsent_from = slot + 1
            if reply:
                query = _LateQuery(packet, bytes(sources[slot]), destination, inbox.origin(slot), started)
                late += self._defer(query, reply)
        context.counts.unsent += outbox.send(unsent_from, count)
        context.counts.packet_cache_hits += hits
        context.counts.observe(perf_counter() - started, count - late)
        if querylog:
            for state, source, packet, sent in noted:
                querylog.note(state, source, Transport.UDP, packet, sent, started)

    def _defer(self, query: _LateQuery, outcome: Hold | ForwardedQuery) -> bool:
        """Sees to it that ``query`` is answered later; False if it is dropped."""
        if isinstance(outcome, ForwardedQuery):
            self._forward(query, outcome)
            return True
        is_held = self._context.held.hold(outcome, partial(self._answer_held, query))
        if not is_held:
            self._context.counts.dropped["held_too_many"] += 1
        return is_held

    def _answer_held(self, query: _LateQuery, is_last: bool) -> Hold | None:
        scopes, responder = self._context.scopes, self._context.responder
        respond = responder.respond_now if is_last else responder.respond
        outcome = respond(query.packet, scopes.scope_of(query.source, query.destination).state, Transport.UDP)
        if isinstance(outcome, Hold):
            return outcome
        if isinstance(outcome, ForwardedQuery):
            self._forward(query, outcome)
        elif outcome:
            self._send_late(query, outcome)
        return None

    def _forward(self, query: _LateQuery, forwarded: ForwardedQuery) -> None:
        def send(task: asyncio.Task[bytes]) -> None:
            if not task.cancelled():
                self._send_late(query, task.result())

        finish = self._context.responder.finish(query.packet, forwarded, query.source)
        self._context.reply_tasks.start(finish, send)

    def _send_late(self, query: _LateQuery, reply: bytes) -> None:
        context = self._context
        if not self._outbox.send_one(query.origin, reply):
            context.counts.unsent += 1
        context.counts.observe(perf_counter() - query.started)
        if context.querylog.is_on:
            state = context.scopes.scope_of(query.source, query.destination).state
            context.querylog.note(state, query.source, Transport.UDP, query.packet, reply, query.started)
