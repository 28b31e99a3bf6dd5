"""DNS over UDP: one socket, read and answered a batch at a time."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from time import perf_counter

from resolver.net.context import ListenerContext
from resolver.net.mmsg import Batch, Origin, send_later
from resolver.responder import ForwardedQuery, Outcome
from resolver.wire.messages import Hold, Transport


class UdpListener:
    """Answers what comes to ``sock``, which it owns."""

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        self._sock = sock
        self._context = context
        self._batch = Batch(sock)
        self._destination = socket.inet_pton(sock.family, sock.getsockname()[0])
        self._is_wildcard = not any(self._destination)
        asyncio.get_running_loop().add_reader(sock, self._read)

    def pause(self) -> None:
        """Takes in no more."""
        asyncio.get_running_loop().remove_reader(self._sock)

    def close(self) -> None:
        """Sends no more."""
        self._sock.close()

    def _read(self) -> None:
        batch, context = self._batch, self._context
        count = batch.receive()
        if not count:
            return
        started = perf_counter()
        scope_of, sources, destination = context.scopes.scope_of, batch.sources, self._destination
        querylog = context.querylog if context.querylog.is_on else None
        hits = 0
        unsent_from = 0
        for slot in range(count):
            packet = batch.packet(slot)
            if self._is_wildcard:
                destination = bytes(batch.destinations[slot])
            state = scope_of(bytes(sources[slot]), destination).state
            # The hot path: a reply that was given before. All else is the responder's.
            entry = state.udp_cache.recent.get(packet[2:])
            if entry:
                entry[1].count += 1
                hits += 1
                reply: Outcome = packet[:2] + next(entry[0])
            else:
                reply = context.responder.respond(packet, state, Transport.UDP)
            if isinstance(reply, bytes):
                batch.put(slot, reply)
                if querylog:
                    querylog.note(state, bytes(sources[slot]), Transport.UDP, packet, reply, started)
                continue
            # No reply, or none yet: send those before this slot, which has nothing to send.
            context.counts.unsent += batch.send(unsent_from, slot)
            unsent_from = slot + 1
            if reply:
                self._defer(packet, reply, bytes(sources[slot]), destination, batch.origin(slot))
        context.counts.unsent += batch.send(unsent_from, count)
        context.counts.packet_cache_hits += hits
        context.counts.observe(perf_counter() - started, count)

    def _defer(
        self, packet: bytes, reply: Hold | ForwardedQuery, source: bytes, destination: bytes, origin: Origin
    ) -> None:
        if isinstance(reply, ForwardedQuery):
            self._finish(packet, reply, source, destination, origin)
            return
        answer = partial(self._answer_held, packet, source, destination, origin, perf_counter())
        if not self._context.held.hold(reply, answer):
            self._context.counts.dropped["held_too_many"] += 1

    def _answer_held(
        self, packet: bytes, source: bytes, destination: bytes, origin: Origin, started: float, is_last: bool
    ) -> Hold | None:
        scopes, responder = self._context.scopes, self._context.responder
        respond = responder.respond_now if is_last else responder.respond
        reply = respond(packet, scopes.scope_of(source, destination).state, Transport.UDP)
        if isinstance(reply, Hold):
            return reply
        if isinstance(reply, ForwardedQuery):
            self._finish(packet, reply, source, destination, origin)
        elif reply:
            self._send_later(packet, reply, source, destination, origin, started)
        return None

    def _finish(
        self, packet: bytes, forwarded: ForwardedQuery, source: bytes, destination: bytes, origin: Origin
    ) -> None:
        context, started = self._context, perf_counter()

        def send(task: asyncio.Task[bytes]) -> None:
            if task.cancelled():
                return
            self._send_later(packet, task.result(), source, destination, origin, started)
            context.counts.observe(perf_counter() - started)

        context.reply_tasks.start(context.responder.finish(packet, forwarded, source), send)

    def _send_later(
        self, packet: bytes, reply: bytes, source: bytes, destination: bytes, origin: Origin, started: float
    ) -> None:
        context = self._context
        if not send_later(self._sock, origin, reply):
            context.counts.unsent += 1
        if context.querylog.is_on:
            state = context.scopes.scope_of(source, destination).state
            context.querylog.note(state, source, Transport.UDP, packet, reply, started)
