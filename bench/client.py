"""A DNS client that costs little: a connected socket, and packets that are made beforehand."""

from __future__ import annotations

import socket
from types import TracebackType

from bench.processes import LOOPBACK
from bench.worlds import APEX

AAAA = 28
SERVFAIL = 2
_HEADER = bytes.fromhex("0100000100000000 0000")  # RD, one question
_RCODE = 0x0F


class Client:
    """Sends queries to the server on ``port`` over UDP."""

    def __init__(self, port: int, timeout: float = 2.0, server: str = LOOPBACK) -> None:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.settimeout(timeout)
        self.sock.connect((server, port))
        self._id = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.sock.close()

    def ask(self, question: bytes) -> bytes | None:
        """The reply to ``question`` (see `pack_question`); None if none came in time, or no server listens."""
        id_ = self.send(question).to_bytes(2, "big")
        while reply := self.receive():
            if reply[:2] == id_:
                return reply
        return None

    def send(self, question: bytes) -> int:
        """Sends ``question`` without waiting for the reply; gives its ID, or 0 where no server listens."""
        self._id = self._id % 0xFFFF + 1
        try:
            self.sock.send(self._id.to_bytes(2, "big") + question)
        except ConnectionRefusedError:
            return 0
        return self._id

    def receive(self) -> bytes | None:
        """The next reply; None if none came in time, or no server listens."""
        try:
            return self.sock.recv(65535)
        except (TimeoutError, ConnectionRefusedError):
            return None


def pack_question(name: str, rtype: int = AAAA, *, absolute: bool = False) -> bytes:
    """A query for ``name``, which is below the zone unless it is ``absolute``, without its ID."""
    labels = (name if absolute else f"{name}.{APEX}" if name else APEX).split(".")
    packed = b"".join(len(label).to_bytes(1, "big") + label.encode() for label in labels)
    return _HEADER + packed + b"\0" + rtype.to_bytes(2, "big") + b"\0\x01"


def rcode(reply: bytes) -> int:
    return reply[3] & _RCODE


def has_answer(reply: bytes | None) -> bool:
    """Whether ``reply`` is NOERROR with records in its answer."""
    return reply is not None and rcode(reply) == 0 and reply[6:8] != b"\0\0"
