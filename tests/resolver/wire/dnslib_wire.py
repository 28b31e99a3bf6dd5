"""The same messages by dnslib: what `resolver/wire` must read and write, by another implementation.

Two things of it are guarded, for which dnslib alone is wrong: names are written in lower case and the question is laid
over them as it was sent, so that every name finds its suffix; and nothing points beyond offset 16,383.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack_into

from dnslib import CNAME, EDNS0, NS, PTR, RD, SOA, DNSError, DNSLabel, EDNSOption
from dnslib.dns import RR
from dnslib.label import DNSBuffer

from resolver.wire.header import EXTENDED_ERROR, HEADER, MAXIMUM_UDP, Flag
from resolver.wire.messages import CLASS_IN, MAX_ERROR_TEXT, Edns, QueryHeader, Reply
from resolver.wire.packer import MAXIMUM_POINTER, MAXIMUM_TCP
from zones.addresses import Address
from zones.names import Name
from zones.records import Address4, Opaque, Rdata, RRset, RRType, Soa, Srv, Text


def read_opt(record: bytes) -> tuple[Edns, int] | None:
    """The OPT record and the number of its options; None if it is malformed."""
    try:
        opt = RR.parse(DNSBuffer(record))
    except DNSError:
        return None
    return Edns(opt.rclass, opt.edns_ver, bool(opt.edns_do)), len(opt.rdata)


def pack(header: QueryHeader, reply: Reply, limit: int) -> bytes:
    """``reply`` to ``header`` in at most ``limit`` octets, as many whole records as do."""
    buffer = _Buffer()
    buffer.append(bytes(HEADER.size))
    buffer.encode_name(_label(Name(header.question[:-4].lower())))
    buffer.append(header.question[-4:])
    opt = _pack_opt(header.edns, reply) if header.edns else b""
    answers, truncated = _pack_section(buffer, reply.answer, limit - len(opt))
    authorities, cut = _pack_section(buffer, reply.authority, limit - len(opt)) if not truncated else (0, False)
    buffer.append(opt)
    flags = Flag.QR | header.flags & (Flag.OPCODE | Flag.RD) | Flag.RA | reply.rcode & 0xF
    flags |= Flag.AA if reply.authoritative else 0
    flags |= (Flag.TC if (truncated or cut) and limit < MAXIMUM_TCP else 0) | (Flag.AD if reply.authentic else 0)
    flags |= Flag.CD if reply.checking_disabled else 0
    HEADER.pack_into(buffer.data, 0, header.id, flags, 1, answers, authorities, bool(opt))
    buffer.data[HEADER.size : HEADER.size + len(header.question)] = header.question
    return bytes(buffer.data)


def _pack_section(buffer: _Buffer, rrsets: Sequence[RRset], room: int) -> tuple[int, bool]:
    count = 0
    for rrset in rrsets:
        for position, rdata in enumerate(rrset.rdatas):
            start = buffer.offset
            buffer.encode_name(_label(rrset.name))
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


def _pack_opt(edns: Edns, reply: Reply) -> bytes:
    options = []
    if reply.error:
        text = reply.error.text.encode()[:MAX_ERROR_TEXT].decode(errors="ignore").encode()
        options = [EDNSOption(EXTENDED_ERROR, reply.error.code.to_bytes(2, "big") + text)]
    flags = "do" if edns.dnssec_ok else ""
    opt = EDNS0(DNSLabel([]), ext_rcode=reply.rcode >> 4, flags=flags, udp_len=MAXIMUM_UDP, opts=options)
    buffer = DNSBuffer()
    opt.pack(buffer)
    return bytes(buffer.data)


def _rdata(rtype: int, rdata: Rdata) -> RD:
    match rdata:
        case Address():
            return RD(bytes(rdata))
        case Address4(octets) | Opaque(octets):
            return RD(octets)
        case Text(strings):
            return RD(b"".join(bytes([len(string)]) + string for string in strings))
        case Srv(priority, weight, port, target):
            return RD(b"".join(number.to_bytes(2, "big") for number in (priority, weight, port)) + target)
        case Soa(mname, rname, serial, refresh, retry, expire, minimum):
            return SOA(_label(mname), _label(rname), (serial, refresh, retry, expire, minimum))
        case Name():
            return _NAME_RDATA[rtype](_label(rdata))


_NAME_RDATA: dict[int, type[RD]] = {RRType.CNAME: CNAME, RRType.NS: NS, RRType.PTR: PTR}


def _label(name: Name) -> DNSLabel:
    return DNSLabel(name.labels)
