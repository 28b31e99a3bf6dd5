"""The Internet of the matrix: one scripted resolver, which also falls silent where it is asked to.

Names below one that it knows are answered as that one is, so that each client can ask for one that no cache has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zonefile

from tests.clients import world

_LINKS = 7
_LONG = "x" * 56  # with this the seven CNAMEs and their end are some 850 octets, as a CDN's may be


def _text() -> str:
    lines = [
        f"small.example. 300 IN A {world.SMALL[0]}",
        f"small.example. 300 IN AAAA {world.SMALL[1]}",
        f"end.chain.example. 300 IN A {world.CHAIN_END[0]}",
        f"end.chain.example. 300 IN AAAA {world.CHAIN_END[1]}",
        'nodata.example. 300 IN TXT "no address"',
    ]
    lines += [f"big.example. 300 IN A {address}" for address in world.BIG_V4]
    names = ["chain.example.", *(f"{n}{_LONG}.{n}{_LONG}.example." for n in range(1, _LINKS)), "end.chain.example."]
    lines += [f"{name} 300 IN CNAME {target}" for name, target in pairwise(names)]
    return "\n".join(lines)


def _read() -> Iterable[dns.rrset.RRset]:
    return dns.zonefile.read_rrsets(_text(), rdclass=None, origin=".", relativize=False)


_SOA = dns.rrset.from_text("example.", 60, "IN", "SOA", "ns.example. hostmaster.example. 1 3600 600 86400 60")
_RECORDS = {(rrset.name, rrset.rdtype): rrset for rrset in _read()}
_NAMES = {name for name, _ in _RECORDS}
_DEAD = dns.name.from_text("dead.example.")


def respond(packet: bytes, *, limit: int) -> bytes | None:
    """The reply to ``packet``, or None: silence, for ``dead.example`` and below it."""
    query = dns.message.from_wire(packet)
    question = query.question[0]
    if question.name.is_subdomain(_DEAD):
        return None
    response = dns.message.make_response(query, recursion_available=True)
    owner = question.name
    name = _known(owner)
    while alias := _RECORDS.get((name, dns.rdatatype.CNAME)):
        response.answer.append(_renamed(alias, owner))
        owner = name = dns.name.from_text(alias[0].to_text())
    if found := _RECORDS.get((name, question.rdtype)):
        response.answer.append(_renamed(found, owner))
    else:
        response.authority.append(_SOA)
        if name not in _NAMES:
            response.set_rcode(dns.rcode.NXDOMAIN)
    wire = response.to_wire(max_size=65535)
    if len(wire) <= max(limit, query.payload or 512):
        return wire
    short = dns.message.make_response(query, recursion_available=True)
    short.flags |= dns.flags.TC
    return short.to_wire()


def _known(name: dns.name.Name) -> dns.name.Name:
    return name.parent() if name not in _NAMES and name.parent() in _NAMES else name


def _renamed(rrset: dns.rrset.RRset, owner: dns.name.Name) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(owner, rrset.ttl, list(rrset))


class _Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if reply := respond(data, limit=512):
            self._transport.sendto(reply, addr)


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while length := await reader.read(2):
            reply = respond(await reader.readexactly(int.from_bytes(length, "big")), limit=65535)
            if reply:
                writer.write(len(reply).to_bytes(2, "big") + reply)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def start(host: str, port: int) -> None:
    """Listens, for as long as the event loop runs."""
    await asyncio.get_running_loop().create_datagram_endpoint(_Datagrams, local_addr=(host, port))
    await asyncio.start_server(_converse, host, port)
