"""A DNS client, for `interlock query`, tests and examples."""

from __future__ import annotations

import secrets
import socket
import time
from dataclasses import dataclass

from resolver.errors import AskError
from resolver.wire.header import HEADER, is_truncated
from resolver.wire.messages import Transport
from resolver.wire.summary import summarize
from resolver.wire.upstream_messages import pack_query
from zones.names import Name

TIMEOUT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer."""

    rcode: str

    records: tuple[str, ...]
    """The records of the answer section, one line each."""

    text: str
    """The whole message as dig would show it."""

    seconds: float
    """From the query to the answer."""


def ask(
    server: tuple[str, int],
    qname: Name,
    qtype: int,
    *,
    transport: Transport = Transport.UDP,
    timeout: float = TIMEOUT,
) -> Answer:
    """The answer of ``server`` (host, port); over TCP if the one over UDP is truncated. Raises `AskError`."""
    query = pack_query(secrets.randbits(16), qname, qtype)
    started = time.monotonic()
    try:
        packet = (_ask_udp if transport is Transport.UDP else _ask_tcp)(server, query, timeout)
        if is_truncated(packet):
            packet = _ask_tcp(server, query, timeout)
        if len(packet) < HEADER.size:
            raise ValueError("its answer is shorter than a DNS header")
        summary = summarize(packet)
    except TimeoutError:
        raise AskError(f"{server[0]} port {server[1]} did not answer within {timeout:g} s") from None
    except (OSError, ValueError) as error:
        raise AskError(f"{server[0]} port {server[1]}: {error}") from error
    return Answer(summary.rcode, summary.answers, summary.text, time.monotonic() - started)


def _ask_udp(server: tuple[str, int], query: bytes, timeout: float) -> bytes:
    deadline = time.monotonic() + timeout
    with socket.socket(_family(server), socket.SOCK_DGRAM) as sock:
        sock.connect(server)
        sock.send(query)
        while True:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            packet = sock.recv(65535)
            if packet[:2] == query[:2]:
                return packet


def _ask_tcp(server: tuple[str, int], query: bytes, timeout: float) -> bytes:
    with socket.create_connection(server, timeout) as sock:
        sock.sendall(len(query).to_bytes(2, "big") + query)
        with sock.makefile("rb") as stream:
            length = int.from_bytes(stream.read(2), "big")
            packet = stream.read(length)
    if not length or len(packet) < length:
        raise ValueError("the connection was closed before the answer was whole")
    return packet


def _family(server: tuple[str, int]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET
