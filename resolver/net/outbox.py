"""Sending replies, up to `SLOTS` with one system call, or one by itself."""

from __future__ import annotations

import errno
import socket
from array import array

from resolver.net.inbox import Inbox, Origin
from resolver.net.mmsg import (
    CONTROL_LENGTH,
    HEADER,
    MSG_DONTWAIT,
    SLOTS,
    get_errno,
    libc,
    make_headers,
    make_iovecs,
    pointers,
    slices,
)  # fmt: skip

LONGEST_REPLY = 1280  # octets; what is sent over UDP is at most 1232


class Outbox:
    """The replies to the datagrams in ``inbox``, each in the slot of its query, to be sent through ``sock``."""

    def __init__(self, sock: socket.socket, inbox: Inbox) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        octets = bytearray(SLOTS * LONGEST_REPLY)
        self._packets = slices(octets, LONGEST_REPLY)
        self._iovecs = make_iovecs(octets, LONGEST_REPLY)
        self._lengths = memoryview(self._iovecs).cast("Q")
        headers = make_headers(inbox.names, sock.family, self._iovecs, inbox.controls)
        self._pointed_to = inbox, headers  # so that they are not freed: the kernel has only their addresses
        # A datagram's ancillary data is one packet info and nothing else, so a reply's always has the same length.
        used = socket.CMSG_SPACE(20 if sock.family == socket.AF_INET6 else 12) if inbox.is_wildcard else 0
        control_lengths = memoryview(headers).cast("Q")[CONTROL_LENGTH :: HEADER // 8]
        control_lengths[:] = memoryview(array("Q", [used] * SLOTS))
        self._headers = pointers(headers, HEADER)

    def put(self, slot: int, reply: bytes) -> None:
        """Makes ``reply`` the reply to the datagram in ``slot``."""
        self._packets[slot][: len(reply)] = reply
        self._lengths[slot * 2 + 1] = len(reply)

    def send(self, first: int, end: int) -> int:
        """Sends the replies in the slots from ``first`` until ``end``; gives how many could not be sent."""
        unsent = 0
        while first < end:
            count = libc.sendmmsg(self._fd, self._headers[first], end - first, MSG_DONTWAIT)
            if count > 0:
                first += count
            elif get_errno() in (errno.EAGAIN, errno.ENOBUFS):
                return unsent + end - first  # the send buffer is full: clients ask again
            elif get_errno() != errno.EINTR:
                first += 1  # this one client cannot be reached; the others can
                unsent += 1
        return unsent

    def send_one(self, origin: Origin, reply: bytes) -> bool:
        """Sends ``reply`` to ``origin`` from the address that was asked; gives whether it could be sent."""
        try:
            self._sock.sendmsg([reply], origin.control, MSG_DONTWAIT, origin.address)
        except OSError:
            return False
        return True
