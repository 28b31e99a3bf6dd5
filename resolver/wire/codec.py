"""Messages as octets: the wall around dnslib.

dnslib reads and writes names, records and options well, but it trusts its input more than a server can. So:

- `parse` walks a message itself and hands dnslib only the OPT record. dnslib follows compression pointers by
  recursion (1,100 of them overrun the stack), takes a label of 64 octets that it cannot write, makes up a question
  where there is none, and refuses labels that are not UTF-8 (RFC 2181 §11 allows any octet).
- `pack` writes in lower case and then lays the question over it as it was sent. So every name finds its suffix to
  point to, whatever letters the client chose, and the client gets its own question back (0x20).
- `_Buffer` does not point beyond offset 16,383, which dnslib would write as a wrong pointer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from struct import pack_into, unpack_from

from dnslib import CNAME, EDNS0, NS, PTR, RD, SOA, DNSError, DNSLabel, EDNSOption
from dnslib.dns import RR, DNSRecord
from dnslib.label import DNSBuffer

from resolver.wire.header import HEADER, OPT, Flag, skip_name
from resolver.wire.messages import (
    CLASS_IN,
    MAX_ERROR_TEXT,
    Drop,
    Edns,
    ExtendedError,
    Query,
    QueryHeader,
    Rcode,
    Rejected,
    Reply,
    Transport,
)
from zones.addresses import Address
from zones.names import MAX_LABEL, Name
from zones.records import Address4, Opaque, Rdata, RRset, RRType, Soa, Srv, Text

MINIMUM_UDP = 512  # octets that every client takes (RFC 1035 §2.3.4)
MAXIMUM_UDP = 1232  # octets that no path on the Internet fragments (RFC 9715 §3.2)
MAXIMUM_TCP = 65535
MAXIMUM_POINTER = 0x3FFF  # RFC 1035 §4.1.4: fourteen bits

_EXTENDED_ERROR = 15  # RFC 8914 §2


def parse(packet: bytes) -> Query | Rejected | Drop:
    """What ``packet`` asks. Never raises, and takes time in proportion to its length."""
    if len(packet) < HEADER.size:
        return Drop("short")
    id_, flags, questions, answers, authorities, additionals = HEADER.unpack_from(packet)
    if flags & Flag.QR:
        return Drop("response")  # answering a response could make two servers talk for ever
    opcode, recursion_desired = flags >> 11 & 0xF, bool(flags & Flag.RD)
    header = QueryHeader(id_, opcode, recursion_desired)
    if opcode != 0:
        return Rejected(header, Rcode.NOTIMP)  # RFC 8906 §3.1.5: an unknown opcode, all sections empty
    # RFC 9619 §4: a query has exactly one question. Nothing that asks has an answer or an authority.
    if questions != 1 or answers or authorities:
        return Rejected(header, Rcode.FORMERR)
    end = skip_name(packet, HEADER.size)
    if end is None or end + 4 > len(packet):
        return Rejected(header, Rcode.FORMERR)
    question = packet[HEADER.size : end + 4]
    try:
        opt = _find_opt(packet, end + 4, additionals)
    except _MalformedError:
        return Rejected(QueryHeader(id_, opcode, recursion_desired, question), Rcode.FORMERR)
    edns = Edns(opt.rclass, opt.edns_ver, bool(opt.edns_do)) if opt else None
    header = QueryHeader(id_, opcode, recursion_desired, question, edns, bool(flags & Flag.AD), bool(flags & Flag.CD))
    if edns and edns.version > 0:
        return Rejected(header, Rcode.BADVERS)  # RFC 6891 §6.1.3
    repeats = not (opt and opt.rdata)
    qtype, qclass = unpack_from("!HH", question, len(question) - 4)
    return Query(header, Name(question[:-4].lower()), qtype, qclass, repeats)


def limit(header: QueryHeader, transport: Transport) -> int:
    """How many octets a reply to ``header`` may have."""
    if transport is Transport.TCP:
        return MAXIMUM_TCP
    if header.edns is None:
        return MINIMUM_UDP
    return min(max(MINIMUM_UDP, header.edns.payload), MAXIMUM_UDP)  # RFC 6891 §6.2.3: less than 512 means 512


def pack(header: QueryHeader, reply: Reply, limit: int) -> bytes:
    """``reply`` to ``header`` in at most ``limit`` octets.

    Where not all fits, as many whole records as do, and TC (RFC 2181 §9) unless any part is a whole answer. A client
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
    flags |= (Flag.TC if truncated or cut else 0) | (Flag.AD if reply.authentic else 0)
    flags |= Flag.CD if reply.checking_disabled else 0
    HEADER.pack_into(buffer.data, 0, header.id, flags, bool(header.question), answers, authorities, bool(opt))
    buffer.data[HEADER.size : HEADER.size + len(header.question)] = header.question
    return bytes(buffer.data), not (truncated or cut)


def pack_query(
    id_: int,
    qname: Name,
    qtype: int,
    *,
    dnssec_ok: bool = False,
    authentic: bool = False,
    unchecked: bool = False,
    edns: bool = True,
) -> bytes:
    """A query of ours; ``authentic`` sets AD and ``unchecked`` CD. DO is said only with EDNS."""
    flags = Flag.RD | (Flag.AD if authentic else 0) | (Flag.CD if unchecked else 0)
    buffer = DNSBuffer()
    buffer.append(HEADER.pack(id_, flags, 1, 0, 0, int(edns)))
    buffer.encode_name(_label(qname))
    buffer.pack("!HH", qtype, CLASS_IN)
    if edns:
        EDNS0(DNSLabel([]), flags="do" if dnssec_ok else "", udp_len=MAXIMUM_UDP).pack(buffer)
    return bytes(buffer.data)


def is_truncated(packet: bytes) -> bool:
    """Whether the reply ``packet`` says that more would have been said over TCP."""
    return len(packet) >= HEADER.size and bool(HEADER.unpack_from(packet)[1] & Flag.TC)


@dataclass(frozen=True, slots=True)
class Summary:
    """A reply in words: its rcode, its answers and the targets of its CNAMEs in presentation form, and whether AA."""

    rcode: str
    answers: tuple[str, ...]
    aliases: tuple[str, ...]
    authoritative: bool
    text: str


def summarize(packet: bytes) -> Summary:
    """What the reply ``packet`` says, for a person who wants to know.

    Where dnslib cannot read a record, such as a name that is not UTF-8, only the header is told.
    """
    flags = HEADER.unpack_from(packet)[1]
    try:
        record = DNSRecord.parse(packet)
    except (DNSError, RecursionError) as error:
        return Summary(_rcode_name(flags & 0xF), (), (), bool(flags & Flag.AA), f";; not shown: {error}")
    extended = next((rr.edns_rcode << 4 for rr in record.ar if rr.rtype == OPT), 0)
    return Summary(
        _rcode_name(flags & 0xF | extended),
        tuple(str(rr) for rr in record.rr),
        tuple(str(rr.rdata) for rr in record.rr if rr.rtype == RRType.CNAME),
        bool(flags & Flag.AA),
        str(record),
    )


def _rcode_name(rcode: int) -> str:
    return Rcode(rcode).name if rcode in set(Rcode) else f"RCODE{rcode}"


class _Buffer(DNSBuffer):  # type: ignore[misc] # dnslib has no types
    def encode_name(self, name: DNSLabel) -> None:
        super().encode_name(name)
        if self.offset > MAXIMUM_POINTER:
            near = {labels: at for labels, at in self.names.items() if at <= MAXIMUM_POINTER}
            self.names: dict[tuple[bytes, ...], int] = near


class _MalformedError(Exception):
    """A record goes beyond the end of its message, or breaks the rules of EDNS."""


def _find_opt(packet: bytes, offset: int, count: int) -> RR | None:
    """The OPT record among the ``count`` records at ``offset``."""
    opt = None
    for _ in range(count):
        name, offset = offset, _skip_owner(packet, offset)
        if offset + 10 > len(packet):
            raise _MalformedError
        rtype, length = unpack_from("!H6xH", packet, offset)
        end = offset + 10 + length
        if end > len(packet):
            raise _MalformedError
        if rtype == OPT:
            if opt is not None or packet[name]:
                raise _MalformedError  # RFC 6891 §6.1.1: one OPT, and its owner is the root
            opt = _parse_opt(packet[name:end])
        offset = end
    return opt


def _skip_owner(packet: bytes, offset: int) -> int:
    while offset < len(packet):
        length = packet[offset]
        if length >= 0xC0:
            return offset + 2
        if length > MAX_LABEL:
            break
        offset += 1 + length
        if length == 0:
            return offset
    return len(packet)


# The OPT records that clients send, and those that we send back, are a handful: dnslib takes longest over them, so each
# is read and packed once. What a client makes up, such as a cookie, only turns over the cache.
@lru_cache(maxsize=1024)
def _parse_opt(record: bytes) -> RR:
    try:
        return RR.parse(DNSBuffer(record))
    except DNSError:
        raise _MalformedError from None


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
    return EDNSOption(_EXTENDED_ERROR, error.code.to_bytes(2, "big") + text)


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
