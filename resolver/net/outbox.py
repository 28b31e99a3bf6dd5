"""Sending replies, up to `SLOTS` with one system call."""

from __future__ import annotations

import errno
import socket
from array import array

from resolver.counts import QueryCounts
from resolver.net.inbox import DISTANCE, Datagram, Inbox
from resolver.net.mmsg import (
    CONTROL,
    CONTROL_LENGTH,
    HEADER,
    MSG_DONTWAIT,
    NAME,
    SLOTS,
    get_errno,
    libc,
    make_headers,
    make_iovecs,
    pointers,
    slices,
)  # fmt: skip

LONGEST_REPLY = 1280  # octets; what is sent over UDP is at most 1232
ID = 2  # octets


class Outbox:
    """Replies in slots, to be sent through ``sock``.

    For each slot, ``names`` has the socket address of the client, ``controls`` the packet info with the address that
    was asked (None where ``sock`` is bound to one), and ``ids`` the ID of the query, ``distance`` after that of the
    slot before. All of it is sent from where it lies.
    """

    def __init__(
        self, sock: socket.socket, names: bytearray, controls: bytearray | None, ids: bytearray, distance: int
    ) -> None:
        self._fd = sock.fileno()
        octets = bytearray(SLOTS * LONGEST_REPLY)
        self._bodies = slices(octets, LONGEST_REPLY)
        iovecs = make_iovecs((ids, distance, ID), (octets, LONGEST_REPLY, LONGEST_REPLY))
        self._lengths = memoryview(iovecs).cast("Q")[3::4]
        headers = make_headers(names, sock.family, iovecs, controls)
        # So that they are not freed: the kernel has only their addresses.
        self._pointed_to = names, controls, ids, iovecs, headers
        # A datagram's ancillary data is one packet info and nothing else, so a reply's always has the same length.
        used = 0 if controls is None else socket.CMSG_SPACE(20 if sock.family == socket.AF_INET6 else 12)
        control_lengths = memoryview(headers).cast("Q")[CONTROL_LENGTH :: HEADER // 8]
        control_lengths[:] = memoryview(array("Q", [used] * SLOTS))
        self._headers = pointers(headers, HEADER)

    @classmethod
    def of(cls, inbox: Inbox, sock: socket.socket) -> Outbox:
        """An outbox for the replies to the datagrams in ``inbox``, each in the slot of its query."""
        return cls(sock, inbox.names, inbox.controls, inbox.octets, DISTANCE)

    def put(self, slot: int, body: bytes) -> None:
        """Makes ``body`` the reply in ``slot``, but for its ID."""
        length = len(body)
        self._bodies[slot][:length] = body
        self._lengths[slot] = length

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


class LateOutbox:
    """Replies to queries that are not in the inbox any more. They are sent by `flush`, or when it is full."""

    def __init__(self, sock: socket.socket, is_wildcard: bool, counts: QueryCounts) -> None:
        names, ids = bytearray(SLOTS * NAME), bytearray(SLOTS * ID)
        controls = bytearray(SLOTS * CONTROL)
        self._names, self._controls, self._ids = slices(names, NAME), slices(controls, CONTROL), slices(ids, ID)
        self._outbox = Outbox(sock, names, controls if is_wildcard else None, ids, ID)
        self._counts = counts
        self._used = 0

    def put(self, datagram: Datagram, reply: bytes) -> None:
        """Adds ``reply``, ID and all, to ``datagram``."""
        slot = self._used
        self._names[slot][:] = datagram.name
        if datagram.control:
            self._controls[slot][:] = datagram.control
        self._ids[slot][:] = reply[:ID]
        self._outbox.put(slot, reply[ID:])
        self._used += 1
        if self._used == SLOTS:
            self.flush()

    def flush(self) -> None:
        """Sends the replies that were added."""
        if self._used:
            self._counts.unsent += self._outbox.send(0, self._used)
            self._used = 0
