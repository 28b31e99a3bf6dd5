"""The adapter around ``recvmmsg`` and ``sendmmsg``, which Python's socket module lacks: their structures, by ctypes.

For a server as small as this one, most of a query's cost is the system calls of its two datagrams. One call for many
of them is worth a quarter of the whole (docs/decisions/0004). `inbox` receives, `outbox` sends.
"""

from __future__ import annotations

import ctypes
import socket
import sys

SLOTS = 64  # datagrams a call: beyond this a larger batch gains nothing, and others in the event loop wait longer

MSG_DONTWAIT = 0x40
MSG_TRUNC = 0x20
NAME = 32  # octets a slot for a sockaddr_in6 (28) or sockaddr_in (16), aligned
CONTROL = 64  # octets a slot for one in6_pktinfo (20) or in_pktinfo (12) with its header, aligned
HEADER = 64  # octets of a struct mmsghdr on 64-bit Linux: a struct msghdr of 56, msg_len, and padding
IOVEC = 16  # octets of a struct iovec: a pointer and a length

# Where a field of struct mmsghdr is, in units of its own size.
NAME_POINTER, NAME_LENGTH, IOV_POINTER, IOV_LENGTH, CONTROL_POINTER, CONTROL_LENGTH = 0, 2, 2, 3, 4, 5
FLAGS, LENGTH = 12, 14

IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50  # <linux/in6.h>; the socket module does not name them everywhere
IP_PKTINFO = 8  # <linux/in.h>
CMSG_HEADER = 16  # octets of a struct cmsghdr

if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
    raise ImportError("the resolver runs on 64-bit Linux")

libc = ctypes.CDLL(None, use_errno=True)
get_errno = ctypes.get_errno


def slices(buffer: bytearray, size: int) -> list[memoryview]:
    """``buffer`` in parts of ``size`` octets."""
    whole = memoryview(buffer)
    return [whole[start : start + size] for start in range(0, len(buffer), size)]


def pointers(buffer: bytearray, size: int) -> list[ctypes.c_void_p]:
    """The addresses of the parts of ``buffer``, each of ``size`` octets."""
    return [ctypes.c_void_p(_address(buffer) + start) for start in range(0, len(buffer), size)]


def make_iovecs(*pieces: tuple[bytearray, int, int]) -> bytearray:
    """For each slot a struct iovec for each of ``pieces``, of which a datagram is made.

    A piece is a buffer, how many octets of it belong to a slot, and how many of these, from the first on, to its
    datagram.
    """
    vectors = bytearray(SLOTS * len(pieces) * IOVEC)
    words = memoryview(vectors).cast("Q")
    for slot in range(SLOTS):
        for number, (buffer, distance, size) in enumerate(pieces, slot * len(pieces)):
            words[number * 2] = _address(buffer) + slot * distance
            words[number * 2 + 1] = size
    return vectors


def make_headers(
    names: bytearray, family: socket.AddressFamily, iovecs: bytearray, controls: bytearray | None
) -> bytearray:
    """A struct mmsghdr for each slot, with its ``iovecs``. Without ``controls``, no packet info is received or sent."""
    headers = bytearray(SLOTS * HEADER)
    words, halves = memoryview(headers).cast("Q"), memoryview(headers).cast("I")
    pieces = len(iovecs) // (SLOTS * IOVEC)
    for slot in range(SLOTS):
        words[slot * 8 + NAME_POINTER] = _address(names) + slot * NAME
        halves[slot * 16 + NAME_LENGTH] = 28 if family == socket.AF_INET6 else 16
        words[slot * 8 + IOV_POINTER] = _address(iovecs) + slot * pieces * IOVEC
        words[slot * 8 + IOV_LENGTH] = pieces
        if controls is not None:
            words[slot * 8 + CONTROL_POINTER] = _address(controls) + slot * CONTROL
            words[slot * 8 + CONTROL_LENGTH] = CONTROL
    return headers


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
