"""Receiving datagrams, up to `SLOTS` with one system call."""

from __future__ import annotations

import socket
from array import array
from struct import Struct

import msgspec

from resolver.net.mmsg import (
    CMSG_HEADER,
    CONTROL,
    CONTROL_LENGTH,
    FLAGS,
    HEADER,
    IP_PKTINFO,
    IPV6_RECVPKTINFO,
    LENGTH,
    MSG_DONTWAIT,
    MSG_TRUNC,
    NAME,
    SLOTS,
    libc,
    make_headers,
    make_iovecs,
    pointers,
    slices,
)  # fmt: skip

LONGEST_QUERY = 4096  # octets; no query that means anything is longer
IPV6_ADDRESS, IPV4_ADDRESS = "8x16s8x", "4x4s24x"  # in a slot of `NAME` octets, as `Struct` reads it
DISTANCE = LONGEST_QUERY + 64  # octets; at a power of two all packets would compete for the same lines of the cache


class Datagram(msgspec.Struct, frozen=True, gc=False):
    """A datagram, and what is needed to send a reply later."""

    octets: bytes
    """What was sent; empty if it was longer than `LONGEST_QUERY`."""

    name: bytes
    """The client's socket address, as the kernel wrote it."""

    control: bytes
    """The packet info, as the kernel wrote it; empty where the socket is bound to one address."""


class Inbox:
    """The datagrams that were received last from ``sock``, in slots.

    ``names`` and ``controls`` are as the kernel filled them in: for each slot the client's socket address, and the
    packet info with the address that was asked (where the socket listens on all addresses; else ``controls`` is None).
    The outbox sends its replies by them, so a reply leaves from the address that was asked, and nothing of this is
    converted but the octets of the two addresses: `sources` and ``destinations`` have those, by slot. ``octets`` has
    the datagrams themselves, each `DISTANCE` after the one before.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()
        self.is_wildcard = not any(socket.inet_pton(sock.family, sock.getsockname()[0]))
        if self.is_wildcard:
            _request_packet_info(sock)
        is_v6 = sock.family == socket.AF_INET6
        self.names, controls = bytearray(SLOTS * NAME), bytearray(SLOTS * CONTROL)
        self.controls = controls if self.is_wildcard else None
        self._names, self._controls = slices(self.names, NAME), slices(controls, CONTROL)
        # By number of slots: what reads the octets of the clients' addresses. One call reads all of them.
        self._sources = [Struct((IPV6_ADDRESS if is_v6 else IPV4_ADDRESS) * used) for used in range(SLOTS + 1)]
        info = CMSG_HEADER if is_v6 else CMSG_HEADER + 8
        size = 16 if is_v6 else 4
        self.destinations = [slot[info : info + size] for slot in self._controls]
        self.octets = bytearray(SLOTS * DISTANCE)
        self._packets = slices(self.octets, DISTANCE)
        iovecs = make_iovecs((self.octets, DISTANCE, LONGEST_QUERY))
        headers = make_headers(self.names, sock.family, iovecs, self.controls)
        self._pointed_to = iovecs, headers  # so that they are not freed: the kernel has only their addresses
        self._first_header = pointers(headers, HEADER)[0]
        self._flags = memoryview(headers).cast("I")[FLAGS :: HEADER // 4]
        self._lengths = memoryview(headers).cast("I")[LENGTH :: HEADER // 4]
        self._control_lengths = memoryview(headers).cast("Q")[CONTROL_LENGTH :: HEADER // 8]
        self._unused_lengths = memoryview(array("Q", [CONTROL] * SLOTS))
        self._used = 0

    def receive(self) -> int:
        """Receives what has arrived, without waiting; gives the number of datagrams, 0 if there are none."""
        if self.is_wildcard:  # the kernel has overwritten the lengths with those that it used
            self._control_lengths[: self._used] = self._unused_lengths[: self._used]
        count: int = libc.recvmmsg(self._fd, self._first_header, SLOTS, MSG_DONTWAIT, None)
        # An error is an empty socket, or an ICMP message about a reply of ours to a client that is gone.
        self._used = max(count, 0)
        return self._used

    def sources(self) -> tuple[bytes, ...]:
        """The addresses of the clients, by slot."""
        return self._sources[self._used].unpack_from(self.names)

    def packet(self, slot: int) -> bytes:
        """The datagram in ``slot``; empty if it was longer than `LONGEST_QUERY`."""
        if self._flags[slot] & MSG_TRUNC:
            return b""
        return self._packets[slot][: self._lengths[slot]].tobytes()

    def bodies(self) -> list[bytes]:
        """All datagrams, each after its ID. One that was longer than `LONGEST_QUERY` is cut off there."""
        lengths = self._lengths[: self._used].tolist()
        return [packet[2:length].tobytes() for packet, length in zip(self._packets, lengths, strict=False)]

    def datagram(self, slot: int) -> Datagram:
        """The datagram in ``slot``. Unlike the slot it stays valid after the next `receive`."""
        control = self._controls[slot].tobytes() if self.is_wildcard else b""
        return Datagram(self.packet(slot), self._names[slot].tobytes(), control)


def _request_packet_info(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
