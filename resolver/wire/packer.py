"""Replies, from values to octets.

dnslib writes names, records and options, with two guards around it:

- `pack` writes in lower case and then lays the question over it as it was sent. So every name finds its suffix to
  point to, whatever letters the client chose, and the client gets its own question back (0x20).
- `_Buffer` does not point beyond offset 16,383, which dnslib would write as a wrong pointer.

**A new record type** whose data `zones.records` holds as values is written in `_rdata`, at the end of this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from struct import pack_into

from dnslib import CNAME, EDNS0, NS, PTR, RD, SOA, DNSLabel, EDNSOption
from dnslib.label import DNSBuffer

from resolver.wire.header import EXTENDED_ERROR, HEADER, MAXIMUM_UDP, Flag
from resolver.wire.messages import (
    CLASS_IN,
    MAX_ERROR_TEXT,
    ExtendedError,
    QueryHeader,
    Reply,
    Transport,
)
from zones.addresses import Address
from zones.names import Name
from zones.records import Address4, Opaque, Rdata, RRset, RRType, Soa, Srv, Text

MINIMUM_UDP = 512  # octets that every client takes (RFC 1035 §2.3.4)
MAXIMUM_TCP = 65535
MAXIMUM_POINTER = 0x3FFF  # RFC 1035 §4.1.4: fourteen bits


def size_limit(header: QueryHeader, transport: Transport) -> int:
    """How many octets a reply to ``header`` may have."""
    if transport is Transport.TCP:
        return MAXIMUM_TCP
    if header.edns is None:
        return MINIMUM_UDP
    return min(max(MINIMUM_UDP, header.edns.payload), MAXIMUM_UDP)  # RFC 6891 §6.2.3: less than 512 means 512


def pack(header: QueryHeader, reply: Reply, limit: int) -> bytes:
    """``reply`` to ``header`` in at most ``limit`` octets.

    Where not all fits, as many whole records as do, and TC (RFC 2181 §9) unless any part is a whole answer. Over TCP
    there is never TC: it could only make the client ask again, for no message is longer (RFC 1035 §4.2.2). A client
    without EDNS for which a chain of CNAMEs is too long gets one that leads to the chain's end at once [20]: what it
    wants to know stands there, and it may have no TCP (musl 1.2.3), or read but 768 octets of it (musl 1.2.4).
    """
    packed, is_whole = _pack(header, reply, limit)
    if header.edns is None and not (is_whole and len(packed) <= MINIMUM_UDP) and _aliases(reply.answer) > 1:
        return _pack(header, _shorten(reply), limit)[0]
    return packed


def _aliases(answer: Sequence[RRset]) -> int:
    """How many CNAMEs ``answer`` begins with."""
    return next((n for n, rrset in enumerate(answer) if rrset.rtype != RRType.CNAME), len(answer))


def _shorten(reply: Reply) -> Reply:
    count = _aliases(reply.answer)
    chain = reply.answer[:count]
    alias = replace(chain[0], ttl=min(rrset.ttl for rrset in chain), rdatas=chain[-1].rdatas)
    return replace(reply, answer=(alias, *reply.answer[count:]))


def _pack(header: QueryHeader, reply: Reply, limit: int) -> tuple[bytes, bool]:
    """The octets, and whether all of ``reply`` is in them."""
    buffer = _Buffer()
    buffer.append(bytes(HEADER.size))
    if header.question:
        buffer.encode_name(_label(Name(header.question[:-4].lower())))
        buffer.append(header.question[-4:])
    opt = _pack_opt(header.edns.dnssec_ok, reply.rcode >> 4, reply.error) if header.edns else b""
    room = limit - len(opt)
    answers, truncated = _pack_section(buffer, reply.answer, room)
    authorities, cut = _pack_section(buffer, reply.authority, room) if not truncated else (0, False)
    buffer.append(opt)
    flags = Flag.QR | header.opcode << 11 | Flag.RA | reply.rcode & 0xF
    flags |= (Flag.AA if reply.authoritative else 0) | (Flag.RD if header.recursion_desired else 0)
    flags |= (Flag.TC if (truncated or cut) and limit < MAXIMUM_TCP else 0) | (Flag.AD if reply.authentic else 0)
    flags |= Flag.CD if reply.checking_disabled else 0
    HEADER.pack_into(buffer.data, 0, header.id, flags, bool(header.question), answers, authorities, bool(opt))
    buffer.data[HEADER.size : HEADER.size + len(header.question)] = header.question
    return bytes(buffer.data), not (truncated or cut)


def _pack_section(buffer: _Buffer, rrsets: Sequence[RRset], room: int) -> tuple[int, bool]:
    """Appends as many records as end within ``room`` octets; gives their number and whether some are missed."""
    count = 0
    for rrset in rrsets:
        owner = _label(rrset.name)
        for position, rdata in enumerate(rrset.rdatas):
            start = buffer.offset
            buffer.encode_name(owner)
            buffer.pack("!HHIH", rrset.rtype, CLASS_IN, rrset.ttl, 0)
            before = buffer.offset
            _rdata(rrset.rtype, rdata).pack(buffer)
            if buffer.offset > room:
                del buffer.data[start:]
                buffer.offset = start
                return count, not (rrset.any_part and position)
            pack_into("!H", buffer.data, before - 2, buffer.offset - before)
            count += 1
    return count, False


class _Buffer(DNSBuffer):  # type: ignore[misc] # dnslib has no types
    def encode_name(self, name: DNSLabel) -> None:
        super().encode_name(name)
        if self.offset > MAXIMUM_POINTER:
            near = {labels: at for labels, at in self.names.items() if at <= MAXIMUM_POINTER}
            self.names: dict[tuple[bytes, ...], int] = near


# There is only a handful of different OPT records in replies, and dnslib takes longest over them: each is packed once.
@lru_cache(maxsize=1024)
def _pack_opt(dnssec_ok: bool, extended_rcode: int, error: ExtendedError | None) -> bytes:
    opt = EDNS0(
        DNSLabel([]),
        ext_rcode=extended_rcode,
        flags="do" if dnssec_ok else "",
        udp_len=MAXIMUM_UDP,
        opts=[_pack_error(error)] if error else [],
    )
    buffer = DNSBuffer()
    opt.pack(buffer)
    return bytes(buffer.data)


def _pack_error(error: ExtendedError) -> EDNSOption:
    text = error.text.encode()[:MAX_ERROR_TEXT].decode(errors="ignore").encode()
    return EDNSOption(EXTENDED_ERROR, error.code.to_bytes(2, "big") + text)


def _rdata(rtype: int, rdata: Rdata) -> RD:
    match rdata:
        case Address():
            return RD(bytes(rdata))
        case Address4(octets) | Opaque(octets):
            return RD(octets)
        case Text(strings):
            return RD(b"".join(bytes([len(string)]) + string for string in strings))
        case Srv(priority, weight, port, target):
            # RFC 2782: the target is not compressed.
            return RD(b"".join(number.to_bytes(2, "big") for number in (priority, weight, port)) + target)
        case Soa(mname, rname, serial, refresh, retry, expire, minimum):
            return SOA(_label(mname), _label(rname), (serial, refresh, retry, expire, minimum))
        case Name():
            return _NAME_RDATA[rtype](_label(rdata))


_NAME_RDATA: dict[int, type[RD]] = {RRType.CNAME: CNAME, RRType.NS: NS, RRType.PTR: PTR}


def _label(name: Name) -> DNSLabel:
    return DNSLabel(name.labels)
