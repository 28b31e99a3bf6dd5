"""DNS over TCP (RFC 7766): each message after its length, many messages on one connection."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from time import perf_counter
from typing import cast

from resolver.net.context import ListenerContext
from resolver.responder import ForwardedQuery
from resolver.scope import ScopeState
from resolver.wire.messages import Hold, Transport

IDLE = 10.0  # seconds (RFC 7766 §6.2.3: of the order of seconds); also all the time a slow sender has for a message
BACKLOG = 1024
ACCEPTED_AT_ONCE = 32  # connections, before any is closed for them: they must not use up the descriptors
MOST_AHEAD = (1 << 16) + 2  # octets of queries that are received before they are answered: the longest one fits
BREATH = 1.0  # seconds without a query after which a client of a process that is ending is not about to send another
WAIT = 0.05  # seconds after which a client that has used up its rate is looked at again; TCP makes it wait


class TcpListener:
    """Answers the connections to ``sock``, a listening socket, which it owns."""

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        self.context = context
        self._sock = sock
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begins to accept connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: TcpConnection(self), sock=self._sock, backlog=ACCEPTED_AT_ONCE)
        self._sock.listen(BACKLOG)

    def pause(self) -> None:
        """Accepts no more connections."""
        if self._server:
            self._server.close()

    def close(self) -> None:
        """Closes each connection when its replies are sent."""
        for connection in self.context.connections:
            connection.close()


class TcpConnection(asyncio.Protocol):
    """One client's connection: queries are answered as they come, until it has been idle for `IDLE` seconds."""

    def __init__(self, listener: TcpListener) -> None:
        self.source = b""
        self._context = listener.context
        self._connections = listener.context.connections
        self._received = bytearray()
        self._unanswered = 0
        self._has_ended = False
        self._is_paused = False
        self._is_in_turn = False
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._destination = b""
        self._used = 0.0  # when something was received or sent last, by the loop's clock

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        # The flow label and the scope of an address say nothing about the client's environment.
        self.source = socket.inet_pton(sock.family, transport.get_extra_info("peername")[0].partition("%")[0])
        self._destination = socket.inet_pton(sock.family, transport.get_extra_info("sockname")[0].partition("%")[0])
        if self._connections.add(self):
            self._context.counts.dropped["tcp_too_many"] += 1
        self._timer = asyncio.get_running_loop().call_later(IDLE, self.close)
        self._used = asyncio.get_running_loop().time()

    def data_received(self, data: bytes) -> None:
        self._used = asyncio.get_running_loop().time()
        self._received += data
        self._note_received()
        self._wait_for_turn()

    def eof_received(self) -> bool:
        # A client that sends no more may still receive (RFC 9293 §3.6): replies that must wait are sent first.
        self._has_ended = True
        return self._unanswered > 0 or self._has_message

    def pause_writing(self) -> None:
        # A client that asks but does not read gets no more replies than fit its window and our buffer.
        self._is_paused = True
        self._regulate()

    def resume_writing(self) -> None:
        self._is_paused = False
        self._regulate()
        self._wait_for_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._connections.remove(self)

    def close(self) -> None:
        """Closes when all replies are sent, or after `IDLE` seconds if the client does not read them."""
        if self._transport.get_write_buffer_size():
            self._timer = asyncio.get_running_loop().call_later(IDLE, self.abort)
        self._transport.close()

    def close_if_idle(self) -> bool:
        """Closes if its client has not used it for a moment, and waits for nothing; gives whether it has."""
        if self._transport.is_closing():
            return True
        is_used = asyncio.get_running_loop().time() - self._used < BREATH
        if is_used or self._unanswered or self._has_message:
            return False
        self.close()
        return True

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()
        self._connections.remove(self)

    @property
    def _has_message(self) -> bool:
        return len(self._received) >= 2 and len(self._received) >= 2 + int.from_bytes(self._received[:2], "big")

    def _wait_for_turn(self) -> None:
        """Has the next message answered when it is its client's turn."""
        if self._is_in_turn or self._is_paused or not self._has_message:
            return
        self._is_in_turn = True
        turns = self._context.turns
        if not (turns.rate.take(self.source, perf_counter()) and turns.put(self.source, self._take_turn)):
            asyncio.get_running_loop().call_later(WAIT, self._wait_again)

    def _wait_again(self) -> None:
        self._is_in_turn = False
        if not self._transport.is_closing():
            self._wait_for_turn()

    def _take_turn(self) -> None:
        self._is_in_turn = False
        if self._transport.is_closing() or not self._has_message:
            return
        end = 2 + int.from_bytes(self._received[:2], "big")
        packet = bytes(self._received[2:end])
        del self._received[:end]
        self._note_received()
        self._unanswered += 1
        self._answer(packet)
        self._wait_for_turn()

    def _note_received(self) -> None:
        if self._connections.hold(self, len(self._received)):
            self._context.counts.dropped["tcp_too_large"] += 1
        self._regulate()

    def _regulate(self) -> None:
        if self._is_paused or (len(self._received) > MOST_AHEAD and self._has_message):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _answer(self, packet: bytes) -> None:
        started = perf_counter()
        hold = self._respond(packet, started, False)
        if hold and not self._context.held.hold(hold, self.source, partial(self._respond, packet, started)):
            self._respond(packet, started, True)

    def _respond(self, packet: bytes, started: float, is_last: bool) -> Hold | None:
        responder = self._context.responder
        respond, forwarded = responder.respond_now if is_last else responder.respond, responder.forwarded
        outcome = respond(packet, self._state(), Transport.TCP)
        match outcome:
            case Hold():
                return outcome
            case ForwardedQuery():
                self._forward(packet, outcome, started)
            case _:
                self._finish(packet, outcome, started, responder.forwarded - forwarded)
        return None

    def _state(self) -> ScopeState:
        return self._context.scopes.scope_of(self.source, self._destination).state

    def _forward(self, packet: bytes, forwarded: ForwardedQuery, started: float) -> None:
        def send(task: asyncio.Task[bytes]) -> None:
            if not task.cancelled():
                self._finish(packet, task.result(), started, 1)

        if refusal := self._context.responder.refuse(packet, forwarded, self.source):
            self._finish(packet, refusal, started, 1)
            return
        self._context.reply_tasks.start(self._context.responder.finish(packet, forwarded, self.source), send)

    def _finish(self, packet: bytes, reply: bytes | None, started: float, forwarded: int) -> None:
        self._send(reply)
        self._context.counts.observe(perf_counter() - started, 1, forwarded)
        if reply and self._context.querylog.is_on:
            self._context.querylog.note(self._state(), self.source, Transport.TCP, packet, reply, started)

    def _send(self, reply: bytes | None) -> None:
        self._unanswered -= 1
        if reply is None:
            self.abort()  # a client that sends no query will not send one later
        elif not self._transport.is_closing():
            self._transport.write(len(reply).to_bytes(2, "big") + reply)  # one write (RFC 7766 §8)
            self._keep_open()
            if self._has_ended and not self._unanswered and not self._has_message:
                self.close()

    def _keep_open(self) -> None:
        self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(IDLE, self.close)
        self._used = loop.time()
        self._connections.use(self)
