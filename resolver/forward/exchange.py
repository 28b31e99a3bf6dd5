"""The exchange of one question with one upstream: over UDP, over TCP where UDP is too small, or over TLS.

Against forged answers (RFC 5452): every UDP query has a socket of its own, so a fresh source port that the kernel
chooses at random; the socket is connected, so that packets from other addresses and ports are never seen; the ID is
random; and an answer counts only if it repeats ID and question. Other packets are ignored, and the wait goes on;
where there are many of them somebody is guessing, and the question is asked again over TCP, where guessing is no use.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from resolver.forward.upstream import Upstream
from resolver.wire.messages import Rcode, Response
from resolver.wire.upstream_messages import pack_query, parse_response
from zones.names import Name

LONGEST_DATAGRAM = 4096  # octets; more than we ask for, but some servers do not listen
MOST_FORGED = 20  # packets in place of one answer: more than by any accident, far fewer than the 65,536 IDs
_NO_EDNS = frozenset({Rcode.FORMERR, Rcode.NOTIMP})  # the rcodes of servers that do not know EDNS (RFC 6891 §7)


@dataclass(frozen=True, slots=True)
class Question:
    """What an upstream is asked. The flags are those that change its answer."""

    qname: Name
    qtype: int

    dnssec_ok: bool = False
    """The DO bit."""

    authentic: bool = False
    """The AD bit."""

    unchecked: bool = False
    """The CD bit."""

    def packed(self, *, edns: bool = True) -> bytes:
        """A query with a new random ID."""
        return pack_query(
            secrets.randbits(16),
            self.qname,
            self.qtype,
            dnssec_ok=self.dnssec_ok,
            authentic=self.authentic,
            unchecked=self.unchecked,
            edns=edns,
        )


class ExchangeFailed(Exception):
    """The upstream gave no answer. The message says why; clients read it, so it does not name the upstream."""


@dataclass(slots=True)
class Exchanger:
    """Asks upstreams."""

    tls: ssl.SSLContext | None
    """Checks the certificates of upstreams; None where no upstream is asked over TLS."""
    forged: int = 0
    """How many packets came in place of an answer."""

    async def ask(self, upstream: Upstream, question: Question) -> Response:
        """The answer of ``upstream``. It waits without a limit: the caller cancels it. Raises `ExchangeFailed`."""
        try:
            response = await self._ask(upstream, question.packed())
            if response.rcode in _NO_EDNS:
                response = await self._ask(upstream, question.packed(edns=False))
        except (OSError, EOFError, ValueError) as error:
            raise ExchangeFailed(_explain(error)) from error
        return response

    async def _ask(self, upstream: Upstream, query: bytes) -> Response:
        if upstream.tls_name is None:
            response = await self._ask_udp(upstream, query)
            if response and not response.truncated:
                return response
        return await self._ask_stream(upstream, query)

    async def _ask_udp(self, upstream: Upstream, query: bytes) -> Response | None:
        """The answer over UDP; None where too many packets came that are no answer."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in upstream.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((upstream.host, upstream.port))
            sock.send(query)
            for _ in range(MOST_FORGED):
                packet = await loop.sock_recv(sock, LONGEST_DATAGRAM)
                if response := parse_response(packet, query):
                    return response
                self.forged += 1
        return None

    async def _ask_stream(self, upstream: Upstream, query: bytes) -> Response:
        context = self.tls if upstream.tls_name else None
        reader, writer = await asyncio.open_connection(
            upstream.host, upstream.port, ssl=context, server_hostname=upstream.tls_name
        )
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            length = int.from_bytes(await reader.readexactly(2), "big")
            response = parse_response(await reader.readexactly(length), query)
        finally:
            writer.transport.abort()  # the answer is there; closing in order could only take time
        if response is None:
            self.forged += 1
            raise ValueError("its answer does not belong to the question")
        if response.truncated:
            raise ValueError("its answer is truncated even over TCP")  # there is no other way to get the rest
        return response


def _explain(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {error.reason or error}"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case EOFError():
            return "it closed the connection"
        case _:
            return str(error) or type(error).__name__


Clock = Callable[[], float]
"""Seconds of a monotonic clock."""
