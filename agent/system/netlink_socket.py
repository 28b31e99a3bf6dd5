"""A netlink socket: requests and answers as octets (netlink(7)), one request after the other, each with a deadline.

The kernel carries a request out while it is sent, so a call takes no longer than the kernel does. A library that makes
an object of each attribute takes up to a millisecond for a message, and an attach sends some thirty of them. A socket
belongs to the network namespace of the thread that created it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator, Sequence
from struct import Struct

ACK, DUMP = 0x4, 0x300  # NLM_F_ACK, NLM_F_DUMP
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400  # NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE
NESTED = 0x8000  # NLA_F_NESTED, of an attribute's type

_REQUEST = 0x1  # NLM_F_REQUEST
_ERROR, _DONE = 2, 3  # linux/netlink.h: NLMSG_ERROR, NLMSG_DONE
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: the state changed during the dump
_MESSAGE = Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = Struct("=HH")  # struct nlattr: length, type
_NUMBER = Struct("=i")
_TYPE_BITS = 0x3FFF  # NLA_TYPE_MASK
_RECEIVE = 1 << 16  # octets; the kernel fills at most 32 KiB of a dump at once
_BUFFER = 1 << 20  # octets of the socket's own buffers
_SNDBUFFORCE = 32  # SO_SNDBUFFORCE, beyond the system's limit: a transaction must be sent whole
_STRICT, _NETLINK = 12, 270  # NETLINK_GET_STRICT_CHK, SOL_NETLINK: the kernel passes over what a dump does not ask for


class NetlinkRefused(OSError):
    """The kernel refused a request; ``errno`` says why."""


class Interrupted(Exception):
    """The state changed during the dump, so the dump may mix two states: ask again."""


class NetlinkSocket:
    """A socket of ``protocol``. Methods raise `NetlinkRefused`, and ``TimeoutError`` past the deadline.

    A deadline is a time of ``time.monotonic``, in seconds.
    """

    def __init__(self, protocol: int, *, is_strict: bool = False) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if is_strict:
            with contextlib.suppress(OSError):  # Linux before 4.20 sends all there is
                self._socket.setsockopt(_NETLINK, _STRICT, 1)
        self._sequence = 0

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor, for what is asked by ioctl(2)."""
        return self._socket.fileno()

    def ask(self, kind: int, flags: int, body: bytes, deadline: float) -> Iterator[bytes]:
        """The bodies of the kernel's answers to the request ``kind``. Raises `Interrupted`."""
        self._sequence += 1
        self._socket.send(_message(kind, flags, body, self._sequence))
        return self._answers(flags, deadline)

    def _answers(self, flags: int, deadline: float) -> Iterator[bytes]:
        is_interrupted = False
        while True:
            for kind, received_flags, sequence, body in _split(self._receive(deadline)):
                if sequence != self._sequence:
                    continue  # the answer to an earlier request that missed its deadline
                is_interrupted |= bool(received_flags & _INTERRUPTED)
                if kind in (_ERROR, _DONE):
                    if refusal := _refusal(body):
                        raise refusal
                    if is_interrupted:
                        raise Interrupted
                    return
                yield body
                if not flags & (DUMP | ACK):
                    return

    def ask_together(self, requests: Sequence[tuple[int, int, bytes]], deadline: float) -> list[NetlinkRefused | None]:
        """Sends ``requests``, each of a kind, flags with `ACK`, and a body, at once; gives the refusal of each.

        The kernel carries them out in their order. One that it refuses does not keep it from the next one.
        """
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(b"".join(_message(*one, number) for number, one in enumerate(requests, first)))
        outcomes: dict[int, NetlinkRefused | None] = {}
        while len(outcomes) < len(requests):
            for kind, _, sequence, body in _split(self._receive(deadline)):
                if kind == _ERROR and sequence >= first:
                    outcomes[sequence] = _refusal(body)
        return [outcomes[number] for number in range(first, first + len(requests))]

    def transact(self, messages: Sequence[tuple[int, int, bytes]]) -> None:
        """Sends ``messages``, each of a kind, flags and a body, at once. Raises the first refusal of one of them.

        The kernel has carried them out when they have been sent, and has answered those that it refuses.
        """
        first = self._sequence + 1
        octets = b"".join(_message(*one, number) for number, one in enumerate(messages, first))
        self._sequence += len(messages)
        if len(octets) > _BUFFER // 4:
            self._socket.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, 2 * len(octets))
        self._socket.send(octets)
        refusal: NetlinkRefused | None = None
        while True:
            try:
                received = self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            for kind, _, sequence, body in _split(received):
                if kind == _ERROR and sequence >= first:
                    refusal = refusal or _refusal(body)
        if refusal:
            raise refusal

    def _receive(self, deadline: float) -> bytes:
        try:
            # The answer is there: the request was carried out while it was sent. A timeout would cost two system calls.
            return self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        rest = deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        self._socket.settimeout(rest)
        try:
            return self._socket.recv(_RECEIVE)
        finally:
            self._socket.settimeout(None)


def attribute(kind: int, value: bytes) -> bytes:
    """The attribute ``kind`` with ``value``, as it stands in a message."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """The attribute ``kind`` whose value is ``attributes``."""
    return attribute(NESTED | kind, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """The attribute ``kind`` with the string ``value``."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """The attribute ``kind`` with ``value``, a 32 bit number."""
    return attribute(kind, _NUMBER.pack(value))


def attributes(octets: bytes) -> dict[int, bytes]:
    """The values of the attributes in ``octets``, by their types; of several of one type the last."""
    return dict(each_attribute(octets))


def each_attribute(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute in ``octets``, in order."""
    at = 0
    while at + _ATTRIBUTE.size <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, at)
        yield kind & _TYPE_BITS, octets[at + _ATTRIBUTE.size : at + length]
        at += max(_ATTRIBUTE.size, length + (-length % 4))


def _message(kind: int, flags: int, body: bytes, sequence: int) -> bytes:
    return _MESSAGE.pack(_MESSAGE.size + len(body), kind, _REQUEST | flags, sequence, 0) + body + bytes(-len(body) % 4)


def _split(received: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, sequence and body of each message in ``received``."""
    at = 0
    while at + _MESSAGE.size <= len(received):
        size, kind, flags, sequence, _ = _MESSAGE.unpack_from(received, at)
        if size < _MESSAGE.size:
            raise NetlinkRefused(errno.EPROTO, "the kernel sent a message without a length")
        yield kind, flags, sequence, received[at + _MESSAGE.size : at + size]
        at += size + (-size % 4)


def _refusal(body: bytes) -> NetlinkRefused | None:
    """The error whose number starts ``body``; None for 0, which is an acknowledgement."""
    (found,) = _NUMBER.unpack_from(body)
    return NetlinkRefused(-found, os.strerror(-found)) if found else None
