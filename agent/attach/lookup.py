"""The look-up that ends an attach: queries from inside a workload, for A and AAAA at once as musl sends them, no EDNS.

It proves that the workload's network works, so the queries take the path that the workload's own take: out by its link,
to the host's resolver, and back. Of a reply this module reads only which query it answers, and its AAAA addresses.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import Failed
from zones.addresses import Address
from zones.names import Name

PORT = 53
LOOKUP_DEADLINE = 3.0  # seconds for all queries together; the resolver holds a query back for 1.5 s at most
# Seconds without a reply until a query is sent again for the first time. The kernel lets a link's packets through some
# time after the link has come up, which is tens of milliseconds while it removes other links: what was sent is lost.
RESEND_FIRST = 0.03
RESEND_LAST = 0.5  # the same later on: a resolver that holds a query back, or is busy, is not asked ever more

_A, AAAA, _IN = 1, 28, 1  # numbers of types and the class (RFC 1035 §3.2.2, RFC 3596 §2.1)
_RECURSION_DESIRED = 0x0100
_RCODES = {2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


@dataclass(frozen=True, slots=True)
class LookupQuery:
    """A query for one name and type, with a random ID."""

    id: int
    """The message's ID, 16 bits."""
    name: Name
    """The queried name."""
    rtype: int
    """The number of the queried type."""

    @property
    def packet(self) -> bytes:
        """The query as it is sent (RFC 1035 §4.1)."""
        return struct.pack("!HHHHHH", self.id, _RECURSION_DESIRED, 1, 0, 0, 0) + self._section

    def read_reply(self, reply: bytes) -> list[Address] | None:
        """The AAAA addresses in ``reply``; None if it answers another query. Raises `Failed` for an rcode."""
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


async def look_up(sock: socket.socket, resolver: Address, service: Name, instance: Name, address: Address) -> None:
    """Asks ``resolver`` by ``sock``, which is inside a workload, for the addresses of ``service`` and of ``instance``.

    Raises `Failed` unless ``instance`` has ``address`` alone, and ``service`` at least one.
    """
    wanted = [(service, _A), (service, AAAA), (instance, _A), (instance, AAAA)]
    queries = [LookupQuery(secrets.randbelow(0x10000), name, rtype) for name, rtype in wanted]
    try:
        sock.connect((str(resolver), PORT))
        found = await exchange(sock, queries, LOOKUP_DEADLINE, RESEND_FIRST)
    except OSError as error:
        raise Failed(
            f"{resolver} cannot be asked from inside the workload: {error.strerror}: does a resolver run here?"
        ) from None
    if missing := [query.name for query in queries if query not in found]:
        raise Failed(
            f"no reply to the query for {missing[0]} from inside the workload in {LOOKUP_DEADLINE:g} s: "
            "does a resolver run on this host?"
        )
    if found[queries[3]] != [address]:
        answered = ", ".join(map(str, found[queries[3]])) or "nothing"
        raise Failed(f"the resolver of this host answers {instance} with {answered}, not with {address}")
    if not found[queries[1]]:
        raise Failed(f"the resolver of this host answers {service} with no address")


async def exchange(
    sock: socket.socket, queries: Sequence[LookupQuery], seconds: float, resend: float
) -> dict[LookupQuery, list[Address]]:
    """The AAAA addresses that each of ``queries`` is answered with over ``sock``, a connected socket.

    Returns when all are answered, or after ``seconds``, without those that are not; each is sent again when nothing has
    come for ``resend`` seconds, and then after pauses that double. Raises `Failed` for an rcode, and ``OSError``.
    """
    loop = asyncio.get_running_loop()
    found: dict[LookupQuery, list[Address]] = {}
    deadline = loop.time() + seconds
    while len(found) < len(queries) and loop.time() < deadline:
        for query in queries:
            if query not in found:
                await loop.sock_sendall(sock, query.packet)
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + resend)):
                while len(found) < len(queries):
                    reply = await loop.sock_recv(sock, 512)
                    for query in queries:
                        if (addresses := query.read_reply(reply)) is not None:
                            found[query] = addresses
        except TimeoutError:
            resend = min(2 * resend, RESEND_LAST)
    return found


def _addresses(reply: bytes, offset: int, count: int) -> list[Address]:
    found = []
    try:
        for _ in range(count):
            offset = _skip_name(reply, offset)
            rtype, rclass, _, length = struct.unpack_from("!HHIH", reply, offset)
            offset += 10
            if (rtype, rclass, length) == (AAAA, _IN, 16):
                found.append(Address(reply[offset : offset + 16]))
            offset += length
    except (IndexError, struct.error):
        raise Failed("the resolver of this host sent a reply that cannot be read") from None
    return found


def _skip_name(reply: bytes, offset: int) -> int:
    while length := reply[offset]:
        if length >= 0xC0:  # a pointer ends the name (RFC 1035 §4.1.4)
            return offset + 2
        offset += 1 + length
    return offset + 1
