"""A generic netlink family of the kernel: one socket, one request after the other, each with a deadline.

It is for families whose messages are many or large; `agent.system.netlink` uses pyroute2 for everything else. The
socket blocks, so it is used in a thread. It belongs to the network namespace of the thread that created it.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from struct import Struct, pack
from sys import byteorder

_GENERIC_PROTOCOL = 16  # NETLINK_GENERIC, which the socket module does not name
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 0x10, 3, 1, 2  # linux/genetlink.h
_ERROR, _DONE = 2, 3  # linux/netlink.h: NLMSG_ERROR, NLMSG_DONE
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300  # NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: the state changed during the dump
_MESSAGE = Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_GENERIC = Struct("=BBxx")  # struct genlmsghdr: command, version
_HEADERS = _MESSAGE.size + _GENERIC.size
_RECEIVE = 1 << 16  # octets; the kernel fills at most 32 KiB of a dump at once
_BUFFER = 1 << 20  # octets of the socket's own buffer


class NetlinkRefused(OSError):
    """The kernel refused a request; ``errno`` says why."""


class Interrupted(Exception):
    """The state changed during the dump, so the dump may mix two states: ask again."""


class GenericNetlink:
    """The family ``name`` in ``version``. Methods raise `NetlinkRefused`, and ``TimeoutError`` past the deadline.

    A deadline is a time of ``time.monotonic``, in seconds.
    """

    def __init__(self, name: str, version: int) -> None:
        self._version = version
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _GENERIC_PROTOCOL)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, 0))
        self._name = name
        self._family = 0

    def close(self) -> None:
        self._socket.close()

    def dump(self, command: int, attributes: bytes, deadline: float) -> list[bytes]:
        """The attributes of each message in the kernel's answer to ``command``. Raises `Interrupted`."""
        return list(self._ask(self._family_id(deadline), command, attributes, _DUMP, deadline))

    def change(self, command: int, attributes: bytes, deadline: float) -> None:
        """Returns when the kernel has carried out ``command``."""
        for _ in self._ask(self._family_id(deadline), command, attributes, _ACK, deadline):
            pass

    def _family_id(self, deadline: float) -> int:
        if not self._family:
            name = self._name.encode() + b"\0"
            request = pack("=HH", 4 + len(name), _FAMILY_NAME) + name + bytes(-len(name) % 4)
            for answer in self._ask(_CONTROLLER, _GET_FAMILY, request, _ACK, deadline):
                at = 0
                while at + 4 <= len(answer):
                    length, kind = Struct("=HH").unpack_from(answer, at)
                    if kind == _FAMILY_ID:
                        self._family = int.from_bytes(answer[at + 4 : at + 6], byteorder)
                    at += max(4, length + (-length % 4))
        return self._family

    def _ask(self, family: int, command: int, attributes: bytes, flags: int, deadline: float) -> Iterator[bytes]:
        self._sequence += 1
        generic = _GENERIC.pack(command, self._version)
        length = _HEADERS + len(attributes)
        header = _MESSAGE.pack(length, family, _REQUEST | flags, self._sequence, 0)
        self._limit(deadline)
        self._socket.send(header + generic + attributes)
        is_interrupted = False
        while True:
            self._limit(deadline)
            received = self._socket.recv(_RECEIVE)
            at = 0
            while at + _MESSAGE.size <= len(received):
                size, kind, flags_received, sequence, _ = _MESSAGE.unpack_from(received, at)
                if size < _MESSAGE.size:
                    raise NetlinkRefused(errno.EPROTO, "the kernel sent a message without a length")
                if sequence == self._sequence:  # else it is the answer to an earlier request that missed its deadline
                    is_interrupted |= bool(flags_received & _INTERRUPTED)
                    if kind == _ERROR:
                        self._check(received, at)
                        return
                    if kind == _DONE:
                        self._check(received, at)
                        if is_interrupted:
                            raise Interrupted
                        return
                    yield received[at + _HEADERS : at + size]
                at += size + (-size % 4)

    def _limit(self, deadline: float) -> None:
        rest = deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        self._socket.settimeout(rest)

    @staticmethod
    def _check(received: bytes, at: int) -> None:
        """Raises the error whose number starts the message's body; 0 is an acknowledgement."""
        (number,) = _ERROR_NUMBER.unpack_from(received, at + _MESSAGE.size)
        if number:
            raise NetlinkRefused(-number, os.strerror(-number))


_ERROR_NUMBER = Struct("=i")
