"""Receiving datagrams, up to `SLOTS` with one system call."""

from __future__ import annotations

import socket
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from resolver.net.mmsg import (
    CMSG_HEADER,
    CONTROL,
    CONTROL_LENGTH,
    FLAGS,
    HEADER,
    IP_PKTINFO,
    IPV6_PKTINFO,
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


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a datagram came from and which address it was sent to, for a reply that is sent later."""

    address: tuple[str, int] | tuple[str, int, int, int]
    """The client's socket address."""

    control: Sequence[tuple[int, int, bytes]]
    """Ancillary data for ``sendmsg``, so that the reply leaves from the address that was asked; empty where the socket
    is bound to one address."""


class Inbox:
    """The datagrams that were received last from ``sock``, in slots.

    ``names`` and ``controls`` are as the kernel filled them in: for each slot the client's socket address, and the
    packet info with the address that was asked (where the socket listens on all addresses; else ``controls`` is None).
    The outbox sends its replies by them, so a reply leaves from the address that was asked, and nothing of this is
    converted but the octets of the two addresses: ``sources`` and ``destinations`` hold those, by slot.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._family = sock.family
        self._fd = sock.fileno()
        self.is_wildcard = not any(socket.inet_pton(sock.family, sock.getsockname()[0]))
        if self.is_wildcard:
            _request_packet_info(sock)
        is_v6 = sock.family == socket.AF_INET6
        self.names, controls = bytearray(SLOTS * NAME), bytearray(SLOTS * CONTROL)
        self.controls = controls if self.is_wildcard else None
        self.sources = [slot[8:24] if is_v6 else slot[4:8] for slot in slices(self.names, NAME)]
        info = CMSG_HEADER if is_v6 else CMSG_HEADER + 8
        size = 16 if is_v6 else 4
        self.destinations = [slot[info : info + size] for slot in slices(controls, CONTROL)]
        octets = bytearray(SLOTS * LONGEST_QUERY)
        self._packets = slices(octets, LONGEST_QUERY)
        self._iovecs = make_iovecs(octets, LONGEST_QUERY)
        headers = make_headers(self.names, sock.family, self._iovecs, self.controls)
        self._pointed_to = controls, headers  # so that they are not freed: the kernel has only their addresses
        self._first_header = pointers(headers, HEADER)[0]
        self._halves = memoryview(headers).cast("I")
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

    def packet(self, slot: int) -> bytes:
        """The datagram in ``slot``; empty if it was longer than `LONGEST_QUERY`."""
        halves = self._halves
        if halves[slot * 16 + FLAGS] & MSG_TRUNC:
            return b""
        return bytes(self._packets[slot][: halves[slot * 16 + LENGTH]])

    def origin(self, slot: int) -> Origin:
        """Where the datagram in ``slot`` came from. Unlike the slot it stays valid after the next `receive`."""
        name = bytes(self.names[slot * NAME : (slot + 1) * NAME])
        port = int.from_bytes(name[2:4], "big")
        if self._family == socket.AF_INET:
            address: tuple[str, int] | tuple[str, int, int, int] = (socket.inet_ntop(socket.AF_INET, name[4:8]), port)
            level, kind, size = socket.IPPROTO_IP, IP_PKTINFO, 12
        else:
            scope = int.from_bytes(name[24:28], sys.byteorder)
            address = (socket.inet_ntop(socket.AF_INET6, name[8:24]), port, 0, scope)
            level, kind, size = socket.IPPROTO_IPV6, IPV6_PKTINFO, 20
        if self.controls is None:
            return Origin(address, ())
        start = slot * CONTROL + CMSG_HEADER
        return Origin(address, [(level, kind, bytes(self.controls[start : start + size]))])


def _request_packet_info(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
