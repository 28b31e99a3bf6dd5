"""DNS over UDP: one socket, read and answered a batch at a time."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from time import perf_counter

from resolver.batch import Batch, Origin, send_later
from resolver.counts import Counts
from resolver.directory import Directory
from resolver.holding import Holding, Waiting
from resolver.messages import Transport
from resolver.responder import Hold, Pending, Responder


class UdpListener:
    """Answers what comes to ``sock``, which it owns."""

    def __init__(
        self,
        sock: socket.socket,
        directory: Directory,
        responder: Responder,
        holding: Holding,
        waiting: Waiting,
        counts: Counts,
    ) -> None:
        self._sock = sock
        self._directory = directory
        self._responder = responder
        self._holding = holding
        self._waiting = waiting
        self._counts = counts
        self._batch = Batch(sock)
        address = socket.inet_pton(sock.family, sock.getsockname()[0])
        self._is_wildcard = not any(address)
        self._own_resolver = directory.own_resolver(address)
        asyncio.get_running_loop().add_reader(sock, self._read)

    def pause(self) -> None:
        """Takes in no more."""
        asyncio.get_running_loop().remove_reader(self._sock)

    def close(self) -> None:
        """Sends no more."""
        self._sock.close()

    def _read(self) -> None:
        batch = self._batch
        count = batch.receive()
        if not count:
            return
        started = perf_counter()
        place_of, sources, own_resolver = self._directory.place_of, batch.sources, self._own_resolver
        hits = 0
        unsent_from = 0
        for slot in range(count):
            packet = batch.packet(slot)
            if self._is_wildcard:
                own_resolver = self._directory.own_resolver(bytes(batch.destinations[slot]))
            serving = place_of(bytes(sources[slot]), own_resolver).serving
            # The hot path: a reply that was given before. All else is the responder's.
            entry = serving.memos[Transport.UDP].young.get(packet[2:])
            if entry:
                entry[1].count += 1
                hits += 1
                batch.put(slot, packet[:2] + next(entry[0]))
                continue
            reply = self._responder.respond(packet, serving, Transport.UDP)
            if isinstance(reply, bytes):
                batch.put(slot, reply)
                continue
            # No reply, or none yet: send those before this slot, which has nothing to send.
            self._counts.unsent += batch.send(unsent_from, slot)
            unsent_from = slot + 1
            if isinstance(reply, Hold):
                self._hold(packet, bytes(sources[slot]), own_resolver, batch.origin(slot))
            elif reply:
                self._finish(packet, reply, bytes(sources[slot]), batch.origin(slot))
        self._counts.unsent += batch.send(unsent_from, count)
        self._counts.memo_hits += hits
        self._counts.observe((perf_counter() - started), count)

    def _hold(self, packet: bytes, source: bytes, own_resolver: bytes, origin: Origin) -> None:
        self._counts.held += 1
        answer = partial(self._answer_held, packet, source, own_resolver, origin)
        if not self._holding.hold(answer, partial(self._give_up, packet, origin)):
            self._counts.dropped["held_too_many"] += 1

    def _answer_held(self, packet: bytes, source: bytes, own_resolver: bytes, origin: Origin) -> None:
        serving = self._directory.place_of(source, own_resolver).serving
        reply = self._responder.respond(packet, serving, Transport.UDP)
        if isinstance(reply, Pending):
            self._finish(packet, reply, source, origin)
        else:
            assert not isinstance(reply, Hold)  # all environments are known now
            self._send_later(origin, reply)

    def _give_up(self, packet: bytes, origin: Origin) -> None:
        self._send_later(origin, self._responder.not_ready(packet, Transport.UDP))

    def _finish(self, packet: bytes, pending: Pending, source: bytes, origin: Origin) -> None:
        started = perf_counter()

        def send(task: asyncio.Task[bytes]) -> None:
            if not task.cancelled():
                self._send_later(origin, task.result())
                self._counts.observe(perf_counter() - started)

        self._waiting.start(self._responder.finish(packet, pending, source), send)

    def _send_later(self, origin: Origin, reply: bytes | None) -> None:
        if reply and not send_later(self._sock, origin, reply):
            self._counts.unsent += 1
