"""Datagrams by the batch: the wall around ``recvmmsg`` and ``sendmmsg``, which Python's socket module lacks.

For a server as small as this one, most of a query's cost is the system calls of its two datagrams. One call for many
of them is worth a quarter of the whole (docs/decisions/0004). The kernel fills in an array of message headers; a reply
is sent by an array that points to the same peer address and the same packet info, so it leaves from the address that
was asked, also on a socket that listens on all of them, and neither is ever looked at here but for the octets that
say who asks.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

SLOTS = 64  # datagrams a call: beyond this a larger batch gains nothing, and others in the event loop wait longer
LONGEST_QUERY = 4096  # octets; no query that means anything is longer
LONGEST_REPLY = 1280  # octets; what is sent over UDP is at most 1232

_MSG_DONTWAIT = 0x40
_MSG_TRUNC = 0x20
_NAME = 32  # octets a slot for a sockaddr_in6 (28) or sockaddr_in (16), aligned
_CONTROL = 64  # octets a slot for one in6_pktinfo (20) or in_pktinfo (12) with its header, aligned
_HEADER = 64  # octets of a struct mmsghdr on 64-bit Linux: a struct msghdr of 56, msg_len, and padding
_IOVEC = 16

# Where a field of struct mmsghdr is, in units of its own size.
_NAME_POINTER, _NAME_LENGTH, _IOV_POINTER, _IOV_LENGTH, _CONTROL_POINTER, _CONTROL_LENGTH = 0, 2, 2, 3, 4, 5
_FLAGS, _LENGTH = 12, 14

_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50  # <linux/in6.h>; the socket module does not name them everywhere
_IP_PKTINFO = 8  # <linux/in.h>
_CMSG_HEADER = 16

if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
    raise ImportError("the resolver runs on 64-bit Linux")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a datagram came from and which address it was sent to, for a reply that is sent later."""

    address: tuple[str, int] | tuple[str, int, int, int]
    control: Sequence[tuple[int, int, bytes]]


class Batch:
    """Up to `SLOTS` datagrams received from ``sock``, and the replies to them.

    ``sources`` holds the octets of each slot's source address, ``destinations`` those of the address that was asked
    where the socket listens on all addresses.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._is_wildcard = _listens_on_all(sock)
        if self._is_wildcard:
            _ask_for_packet_info(sock)
        inbox, outbox = bytearray(SLOTS * LONGEST_QUERY), bytearray(SLOTS * LONGEST_REPLY)
        names, controls = bytearray(SLOTS * _NAME), bytearray(SLOTS * _CONTROL)
        self._names = memoryview(names)
        self._controls = memoryview(controls)
        self._inbox = _slices(inbox, LONGEST_QUERY)
        self._outbox = _slices(outbox, LONGEST_REPLY)
        is_v6 = sock.family == socket.AF_INET6
        self.sources = [slot[8:24] if is_v6 else slot[4:8] for slot in _slices(names, _NAME)]
        info = _CMSG_HEADER if is_v6 else _CMSG_HEADER + 8
        size = 16 if is_v6 else 4
        self.destinations = [slot[info : info + size] for slot in _slices(controls, _CONTROL)]
        self._in_iovecs = _iovecs(inbox, LONGEST_QUERY)
        self._out_iovecs = _iovecs(outbox, LONGEST_REPLY)
        self._out_lengths = memoryview(self._out_iovecs).cast("Q")
        name_length = 28 if is_v6 else 16
        control = controls if self._is_wildcard else None
        self._in_headers = _headers(names, name_length, self._in_iovecs, control)
        self._out_headers = _headers(names, name_length, self._out_iovecs, control)
        self._in_halves = memoryview(self._in_headers).cast("I")
        self._in_control_lengths = memoryview(self._in_headers).cast("Q")[_CONTROL_LENGTH :: _HEADER // 8]
        self._unused_lengths = memoryview(array("Q", [_CONTROL] * SLOTS))
        self._used = 0
        out_control_lengths = memoryview(self._out_headers).cast("Q")[_CONTROL_LENGTH :: _HEADER // 8]
        # What comes with a datagram is one packet info and nothing else, so what goes with a reply has its length.
        used = socket.CMSG_SPACE(20 if is_v6 else 12)
        out_control_lengths[:] = memoryview(array("Q", [used if self._is_wildcard else 0] * SLOTS))
        self._in_pointer = _address(self._in_headers)
        self._out_pointer = _address(self._out_headers)

    def receive(self) -> int:
        """Takes in what is waiting, without waiting; gives the number of datagrams, 0 if there are none."""
        if self._is_wildcard:  # the kernel has written over the lengths what it used
            self._in_control_lengths[: self._used] = self._unused_lengths[: self._used]
        count: int = _libc.recvmmsg(self._fd, ctypes.c_void_p(self._in_pointer), SLOTS, _MSG_DONTWAIT, None)
        # An error is an empty socket, or an ICMP message about a reply of ours to a client that is gone.
        self._used = max(count, 0)
        return self._used

    def packet(self, slot: int) -> bytes:
        """The datagram in ``slot``; empty if it was longer than `LONGEST_QUERY`."""
        halves = self._in_halves
        if halves[slot * 16 + _FLAGS] & _MSG_TRUNC:
            return b""
        return bytes(self._inbox[slot][: halves[slot * 16 + _LENGTH]])

    def origin(self, slot: int) -> Origin:
        """Where the datagram in ``slot`` came from, to be used after the batch is gone."""
        name = bytes(self._names[slot * _NAME : (slot + 1) * _NAME])
        port = int.from_bytes(name[2:4], "big")
        if self._sock.family == socket.AF_INET:
            address: tuple[str, int] | tuple[str, int, int, int] = (socket.inet_ntop(socket.AF_INET, name[4:8]), port)
            level, kind, size = socket.IPPROTO_IP, _IP_PKTINFO, 12
        else:
            scope = int.from_bytes(name[24:28], sys.byteorder)
            address = (socket.inet_ntop(socket.AF_INET6, name[8:24]), port, 0, scope)
            level, kind, size = socket.IPPROTO_IPV6, _IPV6_PKTINFO, 20
        if not self._is_wildcard:
            return Origin(address, ())
        start = slot * _CONTROL + _CMSG_HEADER
        return Origin(address, [(level, kind, bytes(self._controls[start : start + size]))])

    def put(self, slot: int, reply: bytes) -> None:
        """Makes ``reply`` the answer to the datagram in ``slot``."""
        self._outbox[slot][: len(reply)] = reply
        self._out_lengths[slot * 2 + 1] = len(reply)

    def send(self, first: int, end: int) -> int:
        """Sends the replies in the slots from ``first`` until ``end``; gives how many could not be sent."""
        unsent = 0
        while first < end:
            pointer = ctypes.c_void_p(self._out_pointer + first * _HEADER)
            count = _libc.sendmmsg(self._fd, pointer, end - first, _MSG_DONTWAIT)
            if count > 0:
                first += count
            elif ctypes.get_errno() in (errno.EAGAIN, errno.ENOBUFS):
                return unsent + end - first  # the send buffer is full: clients ask again
            elif ctypes.get_errno() != errno.EINTR:
                first += 1  # this one client cannot be reached; the others can
                unsent += 1
        return unsent


def send_later(sock: socket.socket, origin: Origin, reply: bytes) -> bool:
    """Sends ``reply`` to ``origin`` from the address that was asked; gives whether it could be sent."""
    try:
        sock.sendmsg([reply], origin.control, _MSG_DONTWAIT, origin.address)
    except OSError:
        return False
    return True


def _listens_on_all(sock: socket.socket) -> bool:
    return not any(socket.inet_pton(sock.family, sock.getsockname()[0]))


def _ask_for_packet_info(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _slices(buffer: bytearray, size: int) -> list[memoryview]:
    whole = memoryview(buffer)
    return [whole[start : start + size] for start in range(0, len(buffer), size)]


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _iovecs(buffer: bytearray, size: int) -> bytearray:
    vectors = bytearray(SLOTS * _IOVEC)
    words = memoryview(vectors).cast("Q")
    for slot in range(SLOTS):
        words[slot * 2] = _address(buffer) + slot * size
        words[slot * 2 + 1] = size
    return vectors


def _headers(names: bytearray, name_length: int, iovecs: bytearray, controls: bytearray | None) -> bytearray:
    headers = bytearray(SLOTS * _HEADER)
    words, halves = memoryview(headers).cast("Q"), memoryview(headers).cast("I")
    for slot in range(SLOTS):
        words[slot * 8 + _NAME_POINTER] = _address(names) + slot * _NAME
        halves[slot * 16 + _NAME_LENGTH] = name_length
        words[slot * 8 + _IOV_POINTER] = _address(iovecs) + slot * _IOVEC
        words[slot * 8 + _IOV_LENGTH] = 1
        if controls is not None:
            words[slot * 8 + _CONTROL_POINTER] = _address(controls) + slot * _CONTROL
            words[slot * 8 + _CONTROL_LENGTH] = _CONTROL
    return headers
