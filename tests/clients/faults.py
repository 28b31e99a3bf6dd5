"""Servers that are wrong on purpose: a relay before the real one, which spoils its replies in one way each.

They prove that the matrix sees what it says it sees: each fault must make those clients fail that it is known to hurt.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from resolver.wire.messages import Transport
from tests.clients import world

Spoil = Callable[[dns.message.Message, bytes, Transport], bytes | None]
"""From the real reply, parsed and as octets, to what is sent in its place; None for silence."""

_PATIENCE = 5.0  # seconds for the real server
_HEADER = 12
_STRANGE_ADDRESS = "192.0.2.99"
SIXTY_FOUR = tuple(f"2001:db8::6:{number:x}" for number in range(1, 65))


@dataclass(frozen=True, slots=True)
class Fault:
    """``tells`` says what is wrong.

    ``source`` is where UDP replies leave from. ``tcp`` says whether there is TCP; ``closes``, that a connection ends
    after one answer.
    """

    tells: str
    spoil: Spoil
    source: str = world.RESOLVER
    tcp: bool = True
    closes: bool = False


def _asked(reply: dns.message.Message) -> str:
    return dns.rdatatype.to_text(reply.question[0].rdtype)


def _empty(reply: dns.message.Message) -> None:
    reply.answer.clear()
    reply.authority.clear()


def _nxdomain_for_a(reply: dns.message.Message, wire: bytes, _: Transport) -> bytes | None:
    if _asked(reply) == "A":
        _empty(reply)
        reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()
    return wire


def _refused(reply: dns.message.Message, wire: bytes, _: Transport) -> bytes | None:
    _empty(reply)
    reply.set_rcode(dns.rcode.REFUSED)
    return reply.to_wire()


def _aaaa_dropped(reply: dns.message.Message, wire: bytes, _: Transport) -> bytes | None:
    # All clients that send a pair send A first; so it is the AAAA that is lost, or for those that ask for it alone.
    return None if _asked(reply) == "AAAA" else wire


def _lame_nodata(reply: dns.message.Message, wire: bytes, _: Transport) -> bytes | None:
    if reply.answer or reply.rcode() != dns.rcode.NOERROR:
        return wire
    _empty(reply)
    reply.flags &= ~(dns.flags.AA | dns.flags.RA)
    return reply.to_wire()


def _authentic(reply: dns.message.Message, wire: bytes, _: Transport) -> bytes | None:
    reply.flags |= dns.flags.AD
    return reply.to_wire()


def _truncated_empty(reply: dns.message.Message, wire: bytes, transport: Transport) -> bytes | None:
    if transport is Transport.TCP:
        return wire
    _empty(reply)
    reply.flags |= dns.flags.TC
    return reply.to_wire()


def _address_first(reply: dns.message.Message, wire: bytes, _: Transport) -> bytes | None:
    reply.answer.reverse()
    return reply.to_wire()


def _opt_in_answer(reply: dns.message.Message, wire: bytes, _: Transport) -> bytes | None:
    # Root owner, type 41, payload 1232, nothing else; before all other answers, where a reader meets it first.
    record = b"\0" + (41).to_bytes(2, "big") + (1232).to_bytes(2, "big") + bytes(6)
    end = wire.index(b"\0", _HEADER) + 5  # of the question, whose name is not compressed
    count = int.from_bytes(wire[6:8], "big") + 1
    return wire[:6] + count.to_bytes(2, "big") + wire[8:end] + record + wire[end:]


def _many_records(reply: dns.message.Message, wire: bytes, transport: Transport) -> bytes | None:
    if transport is Transport.UDP:
        return _truncated_empty(reply, wire, transport)
    if _asked(reply) == "AAAA":
        _empty(reply)
        reply.answer.append(dns.rrset.from_text(reply.question[0].name, 5, "IN", "AAAA", *SIXTY_FOUR))
        return reply.to_wire()
    return wire


def _foreign_family(reply: dns.message.Message, wire: bytes, _: Transport) -> bytes | None:
    if _asked(reply) == "AAAA":
        reply.answer.append(dns.rrset.from_text(reply.question[0].name, 5, "IN", "A", _STRANGE_ADDRESS))
        return reply.to_wire()
    return wire


def _true(reply: dns.message.Message, wire: bytes, _: Transport) -> bytes | None:
    return wire


FAULTS = {
    "nxdomain-for-a": Fault("NXDOMAIN for A, where only AAAA exists", _nxdomain_for_a),
    "refused": Fault("REFUSED to everything", _refused),
    "aaaa-dropped": Fault("no reply to the second query of the pair", _aaaa_dropped),
    "lame-nodata": Fault("NODATA with RA=0 and AA=0, without SOA", _lame_nodata),
    "authentic": Fault("AD=1 though the query did not ask for it", _authentic),
    "empty-tc": Fault("TC=1 and no records; TCP works", _truncated_empty),
    "tc-without-tcp": Fault("TC=1, and TCP is refused", _truncated_empty, tcp=False),
    "address-first": Fault("the address before its CNAME", _address_first),
    "opt-in-answer": Fault("OPT in the answer section", _opt_in_answer),
    "64-records": Fault("64 records in one reply, over TCP", _many_records),
    "other-source": Fault("the reply comes from another address", _true, source=world.OTHER_ADDRESS),
    "tcp-closed": Fault("TC=1, and TCP is closed after one answer", _truncated_empty, closes=True),
    "a-in-aaaa": Fault("an A record in an AAAA answer", _foreign_family),
}


async def start(name: str, behind: tuple[str, int]) -> None:
    """Relays what comes to the resolver's address to the real server at ``behind``, as the fault ``name`` says."""
    fault = FAULTS[name]
    sock = _socket(world.RESOLVER)
    sender = sock if fault.source == world.RESOLVER else _socket(fault.source)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: _Datagrams(fault, behind, sender), sock=sock)
    if fault.tcp:
        await asyncio.start_server(functools.partial(_converse, fault, behind), world.RESOLVER, 53)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, fault: Fault, behind: tuple[str, int], sender: socket.socket) -> None:
        self._fault = fault
        self._behind = behind
        self._sender = sender
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.create_task(self._relay(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, packet: bytes, address: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(self._behind)
            sock.send(packet)
            async with asyncio.timeout(_PATIENCE):
                reply = await loop.sock_recv(sock, 65535)
        spoilt = self._fault.spoil(dns.message.from_wire(reply), reply, Transport.UDP)
        if spoilt:
            self._sender.sendto(spoilt, address)


async def _converse(
    fault: Fault, behind: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    real_reader, real_writer = await asyncio.open_connection(*behind)
    try:
        while length := await reader.readexactly(2):
            real_writer.write(length + await reader.readexactly(int.from_bytes(length, "big")))
            reply = await real_reader.readexactly(int.from_bytes(await real_reader.readexactly(2), "big"))
            spoilt = fault.spoil(dns.message.from_wire(reply), reply, Transport.TCP)
            if spoilt:
                writer.write(len(spoilt).to_bytes(2, "big") + spoilt)
                await writer.drain()
            if fault.closes:
                break
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the client has gone
    finally:
        writer.close()
        real_writer.close()


def _socket(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((address, 53))
    return sock
