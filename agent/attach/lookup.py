"""A real look-up from inside a workload: A and AAAA in one go, as musl sends them, without EDNS.

It is what tells a workload's owner that the network is there, so it goes the whole way: out by the workload's link, to
the host's resolver, and back. Of a reply only what matters here is read: whose it is, and the addresses in it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import Failed
from agent.system.namespaces import call_inside
from zones.addresses import Address
from zones.names import Name

PORT = 53
PATIENCE = 3.0  # seconds for all of it; the resolver itself holds a query for 1.5 s at most
AGAIN = 0.5  # seconds without an answer until a query is sent again

_A, _AAAA, _IN = 1, 28, 1
_RECURSION_DESIRED = 0x0100
_RCODES = {2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


@dataclass(frozen=True, slots=True)
class Question:
    """One name and type, under an ID of its own."""

    id: int
    name: Name
    rtype: int

    @property
    def packet(self) -> bytes:
        """The query (RFC 1035 §4.1)."""
        return struct.pack("!HHHHHH", self.id, _RECURSION_DESIRED, 1, 0, 0, 0) + self._section

    def reads(self, reply: bytes) -> list[Address] | None:
        """The AAAA addresses in ``reply``; None where it is not a reply to this. Raises `Failed`."""
        if len(reply) < 12 or reply[12 : 12 + len(self._section)].lower() != self._section:
            return None
        id_, flags, _, answers, _, _ = struct.unpack_from("!HHHHHH", reply)
        if id_ != self.id or not flags & 0x8000:
            return None
        if rcode := flags & 0xF:
            raise Failed(f"the resolver of this host answers {self.name} with {_RCODES.get(rcode, f'rcode {rcode}')}")
        return _addresses(reply, 12 + len(self._section), answers)

    @property
    def _section(self) -> bytes:
        return bytes(self.name) + struct.pack("!HH", self.rtype, _IN)


async def look_up(namespace: int, resolver: Address, service: Name, instance: Name, address: Address) -> None:
    """Returns when ``resolver`` has answered inside ``namespace``: ``instance`` with ``address``, ``service`` with any.

    Raises `Failed`.
    """
    wanted = [(service, _A), (service, _AAAA), (instance, _A), (instance, _AAAA)]
    questions = [Question(secrets.randbelow(0x10000), name, rtype) for name, rtype in wanted]
    sock = await call_inside(
        namespace, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    )
    with sock:
        try:
            sock.connect((str(resolver), PORT))
            found = await _ask(sock, questions)
        except OSError as error:
            raise Failed(
                f"{resolver} cannot be asked from inside: {error.strerror}: does a resolver run here?"
            ) from None
    if found[questions[3]] != [address]:
        told = ", ".join(map(str, found[questions[3]])) or "nothing"
        raise Failed(f"the resolver of this host answers {instance} with {told}, not with {address}")
    if not found[questions[1]]:
        raise Failed(f"the resolver of this host answers {service} with no address")


async def _ask(sock: socket.socket, questions: Sequence[Question]) -> dict[Question, list[Address]]:
    loop = asyncio.get_running_loop()
    found: dict[Question, list[Address]] = {}
    deadline = loop.time() + PATIENCE
    while len(found) < len(questions):
        if loop.time() >= deadline:
            missing = next(question.name for question in questions if question not in found)
            raise Failed(
                f"nobody has answered {missing} from inside for {PATIENCE:g} s: does a resolver run on this host?"
            )
        for question in questions:
            if question not in found:
                await loop.sock_sendall(sock, question.packet)
        try:
            async with asyncio.timeout(AGAIN):
                while len(found) < len(questions):
                    reply = await loop.sock_recv(sock, 512)
                    for question in questions:
                        if (addresses := question.reads(reply)) is not None:
                            found[question] = addresses
        except TimeoutError:
            continue
    return found


def _addresses(reply: bytes, offset: int, count: int) -> list[Address]:
    found = []
    try:
        for _ in range(count):
            offset = _skip_name(reply, offset)
            rtype, rclass, _, length = struct.unpack_from("!HHIH", reply, offset)
            offset += 10
            if (rtype, rclass, length) == (_AAAA, _IN, 16):
                found.append(Address(reply[offset : offset + 16]))
            offset += length
    except (IndexError, struct.error):
        raise Failed("the resolver of this host sends replies that cannot be read") from None
    return found


def _skip_name(reply: bytes, offset: int) -> int:
    while length := reply[offset]:
        if length >= 0xC0:  # a pointer ends the name (RFC 1035 §4.1.4)
            return offset + 2
        offset += 1 + length
    return offset + 1
