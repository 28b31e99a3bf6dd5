"""DNS over UDP: one socket, read and answered a batch at a time."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from time import perf_counter

from resolver.core import Core
from resolver.net.mmsg import Batch, Origin, send_later
from resolver.responder import Outcome, Pending
from resolver.wire.messages import Hold, Transport


class UdpListener:
    """Answers what comes to ``sock``, which it owns."""

    def __init__(self, sock: socket.socket, core: Core) -> None:
        self._sock = sock
        self._core = core
        self._batch = Batch(sock)
        self._asked = socket.inet_pton(sock.family, sock.getsockname()[0])
        self._is_wildcard = not any(self._asked)
        asyncio.get_running_loop().add_reader(sock, self._read)

    def pause(self) -> None:
        """Takes in no more."""
        asyncio.get_running_loop().remove_reader(self._sock)

    def close(self) -> None:
        """Sends no more."""
        self._sock.close()

    def _read(self) -> None:
        batch, core = self._batch, self._core
        count = batch.receive()
        if not count:
            return
        started = perf_counter()
        place_of, sources, asked = core.directory.place_of, batch.sources, self._asked
        querylog = core.querylog if core.querylog.is_on else None
        hits = 0
        unsent_from = 0
        for slot in range(count):
            packet = batch.packet(slot)
            if self._is_wildcard:
                asked = bytes(batch.destinations[slot])
            serving = place_of(bytes(sources[slot]), asked).serving
            # The hot path: a reply that was given before. All else is the responder's.
            entry = serving.memos[Transport.UDP].young.get(packet[2:])
            if entry:
                entry[1].count += 1
                hits += 1
                reply: Outcome = packet[:2] + next(entry[0])
            else:
                reply = core.responder.respond(packet, serving, Transport.UDP)
            if isinstance(reply, bytes):
                batch.put(slot, reply)
                if querylog:
                    querylog.note(serving, bytes(sources[slot]), Transport.UDP, packet, reply, started)
                continue
            # No reply, or none yet: send those before this slot, which has nothing to send.
            core.counts.unsent += batch.send(unsent_from, slot)
            unsent_from = slot + 1
            if reply:
                self._defer(packet, reply, bytes(sources[slot]), asked, batch.origin(slot))
        core.counts.unsent += batch.send(unsent_from, count)
        core.counts.memo_hits += hits
        core.counts.observe(perf_counter() - started, count)

    def _defer(self, packet: bytes, reply: Hold | Pending, source: bytes, asked: bytes, origin: Origin) -> None:
        if isinstance(reply, Pending):
            self._finish(packet, reply, source, asked, origin)
            return
        answer = partial(self._answer_held, packet, source, asked, origin, perf_counter())
        if not self._core.holding.hold(reply, answer):
            self._core.counts.dropped["held_too_many"] += 1

    def _answer_held(
        self, packet: bytes, source: bytes, asked: bytes, origin: Origin, started: float, is_last: bool
    ) -> Hold | None:
        directory, responder = self._core.directory, self._core.responder
        respond = responder.respond_at_last if is_last else responder.respond
        reply = respond(packet, directory.place_of(source, asked).serving, Transport.UDP)
        if isinstance(reply, Hold):
            return reply
        if isinstance(reply, Pending):
            self._finish(packet, reply, source, asked, origin)
        elif reply:
            self._send_later(packet, reply, source, asked, origin, started)
        return None

    def _finish(self, packet: bytes, pending: Pending, source: bytes, asked: bytes, origin: Origin) -> None:
        core, started = self._core, perf_counter()

        def send(task: asyncio.Task[bytes]) -> None:
            if task.cancelled():
                return
            self._send_later(packet, task.result(), source, asked, origin, started)
            core.counts.observe(perf_counter() - started)

        core.waiting.start(core.responder.finish(packet, pending, source), send)

    def _send_later(
        self, packet: bytes, reply: bytes, source: bytes, asked: bytes, origin: Origin, started: float
    ) -> None:
        core = self._core
        if not send_later(self._sock, origin, reply):
            core.counts.unsent += 1
        if core.querylog.is_on:
            serving = core.directory.place_of(source, asked).serving
            core.querylog.note(serving, source, Transport.UDP, packet, reply, started)
