"""Probes from inside a network namespace: ICMPv6 echoes through the tunnel, a look-up, a connection.

Each takes the path that the workload's own packets take, so an answer is proof, and no answer is a reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import socket
import struct
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from agent.attach.lookup import AAAA, PORT, LookupQuery, exchange
from agent.errors import Failed
from agent.system.namespaces import call_inside
from support.patience import patience
from zones.addresses import Address
from zones.names import Name

ECHO_SECONDS = 0.8  # within the two seconds of the whole; a packet between two continents takes a third of one
RESEND = 0.3  # seconds; packets get lost, also on a good path
LOOKUP_SECONDS = 0.8  # a resolver that is well answers in a millisecond
CONNECT_SECONDS = 0.8

_ECHO_REQUEST, _ECHO_REPLY = 128, 129  # RFC 4443 §4
_ECHO_REQUEST_4, _ECHO_REPLY_4 = 8, 0  # RFC 792
_HEADER = 8  # octets of an echo's header
_IPV6_HEADER = 40
_ICMP6_FILTER = 1  # <linux/icmpv6.h>
_IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_PROBE = 23, 3  # <linux/in6.h>: as large as asked for, and never in fragments


@dataclass(slots=True)
class EchoResult:
    """What came back from one address."""

    milliseconds: float | None = None
    """How long the first answer took; None if none came."""
    full_size: bool = False
    """Whether an echo of the full size was answered."""


@dataclass(slots=True)
class _Echoing:
    """The echoes that one socket sends, and what came back."""

    sock: socket.socket
    size: int
    identifier: int = field(default_factory=lambda: secrets.randbelow(0x10000))
    results: dict[str, EchoResult] = field(default_factory=dict)
    began: float = 0.0

    def send(self, addresses: Collection[str]) -> None:
        for address in addresses:
            for number, length in ((1, 0), (2, self.size - _IPV6_HEADER - _HEADER)):
                packet = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, self.identifier, number) + bytes(length)
                try:
                    self.sock.sendto(packet, (address, 0))
                except OSError:
                    continue  # no route, or too large for this path: that there is no answer says it

    def take(self, packet: bytes, sender: str) -> None:
        if len(packet) < _HEADER or sender not in self.results:
            return
        kind, _, _, identifier, number = struct.unpack_from("!BBHHH", packet)
        if kind != _ECHO_REPLY or identifier != self.identifier:
            return
        result = self.results[sender]
        if result.milliseconds is None:
            result.milliseconds = round((time.monotonic() - self.began) * 1000, 1)
        result.full_size |= number == 2

    @property
    def unanswered(self) -> list[str]:
        return [address for address, one in self.results.items() if one.milliseconds is None or not one.full_size]


async def echo(namespace: int, addresses: Collection[str], size: int) -> Mapping[str, EchoResult]:
    """What each of ``addresses`` answers to echoes from inside ``namespace``: a small one, and one of ``size`` octets.

    Returns as soon as all have answered, or after `ECHO_SECONDS`.
    """
    sock = await call_inside(namespace, _icmp_socket)
    with sock:
        echoing = _Echoing(sock, size, results={address: EchoResult() for address in addresses})
        echoing.began = time.monotonic()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ECHO_SECONDS * patience()
        while echoing.unanswered and loop.time() < deadline:
            echoing.send(echoing.unanswered)
            until = min(deadline, loop.time() + RESEND)
            try:
                async with asyncio.timeout_at(until):
                    while echoing.unanswered:
                        packet, (sender, *_) = await loop.sock_recvfrom(sock, 2048)
                        echoing.take(packet, sender)
            except TimeoutError:
                continue
            except OSError:
                continue  # an error message for an earlier packet
        return echoing.results


async def ask_own_name(namespace: int, resolver: Address, name: Name, address: Address) -> str:
    """Why ``resolver`` does not answer ``name`` with ``address`` from inside ``namespace``; empty if it does."""
    query = LookupQuery(secrets.randbelow(0x10000), name, AAAA)
    sock = await call_inside(
        namespace, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    )
    with sock:
        try:
            sock.connect((str(resolver), PORT))
            found = await exchange(sock, [query], LOOKUP_SECONDS * patience(), RESEND)
        except Failed as error:
            return str(error)
        except OSError as error:
            return f"{resolver} cannot be asked: {error.strerror}"
    if query not in found:
        return f"{resolver} has not answered within {LOOKUP_SECONDS:g} s"
    answered = ", ".join(map(str, found[query])) or "no address"
    return "" if address in found[query] else f"{name} is answered with {answered}, not with {address}"


async def connect(namespace: int, address: str, port: int) -> str:
    """What a connection over TCP from inside ``namespace`` comes to: ``open``, ``refused``, ``silent`` or an error."""
    sock = await call_inside(
        namespace, lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    )
    with sock:
        try:
            async with asyncio.timeout(CONNECT_SECONDS * patience()):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except TimeoutError:
            return "silent"
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return "silent" if error.errno == errno.ETIMEDOUT else (error.strerror or str(error))
    return "open"


async def knock(endpoint: tuple[str, int]) -> bool:
    """Whether the machine at ``endpoint`` says that nothing has this UDP port. WireGuard itself keeps silent."""
    family = socket.AF_INET6 if ":" in endpoint[0] else socket.AF_INET
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(endpoint)
            for _ in range(2):
                sock.send(b"\0")  # no message of WireGuard's: a device drops it
                async with asyncio.timeout(RESEND * patience()):
                    await loop.sock_recv(sock, 64)
        except ConnectionRefusedError:
            return True
        except (OSError, TimeoutError):
            return False
    return False


async def ping(address: str) -> bool:
    """Whether the machine at ``address`` answers an ICMP echo outside the tunnel. Raises ``OSError``."""
    if ":" in address:
        sock, request, reply = _icmp_socket(), _ECHO_REQUEST, _ECHO_REPLY
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
        request, reply = _ECHO_REQUEST_4, _ECHO_REPLY_4
    identifier, loop = secrets.randbelow(0x10000), asyncio.get_running_loop()
    packet = struct.pack("!BBHHH", request, 0, 0, identifier, 1)
    if ":" not in address:
        packet = struct.pack("!BBHHH", request, 0, _checksum(packet), identifier, 1)
    with sock:
        try:
            sock.connect((address, 0))
            for _ in range(2):
                sock.send(packet)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RESEND * patience()):
                        while True:
                            received = await loop.sock_recv(sock, 2048)
                            if ":" not in address:
                                received = received[(received[0] & 0x0F) * 4 :]  # after the header of IPv4
                            if received[:1] == bytes([reply]) and received[4:6] == identifier.to_bytes(2, "big"):
                                return True
        except OSError:
            return False
    return False


def _checksum(packet: bytes) -> int:
    """The Internet checksum (RFC 1071) of ``packet``, which the kernel computes for ICMPv6 alone."""
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _icmp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
    blocked = bytearray(b"\xff" * 32)
    blocked[_ECHO_REPLY // 8] &= ~(1 << _ECHO_REPLY % 8)  # all kinds but replies; words are little-endian on ours
    sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _in_words(blocked))
    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_PROBE)
    return sock


def _in_words(bits: bytearray) -> bytes:
    """The filter's bits as the kernel has them: in words of 32 bits of the machine's byte order."""
    return struct.pack("=8I", *struct.unpack("<8I", bits))
