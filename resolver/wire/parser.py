"""Queries, from octets to values.

dnslib reads the OPT record, and nothing else: it trusts its input more than a server can. It follows compression
pointers by recursion (1,100 of them overrun the stack), takes a label of 64 octets that it cannot write, makes up a
question where there is none, and refuses labels that are not UTF-8 (RFC 2181 §11 allows any octet).
"""

from __future__ import annotations

from functools import lru_cache
from struct import unpack_from

from dnslib import DNSError
from dnslib.dns import RR
from dnslib.label import DNSBuffer

from resolver.wire.header import HEADER, OPT, Flag, skip_name
from resolver.wire.messages import Drop, Edns, Query, QueryHeader, Rcode, Rejected
from zones.names import MAX_LABEL, Name
from zones.records import RRType

_IXFR = RRType.IXFR.to_bytes(2, "big")


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
    # RFC 9619 §4: a query has exactly one question. Nothing that asks has an answer.
    if questions != 1 or answers:
        return Rejected(header, Rcode.FORMERR)
    end = skip_name(packet, HEADER.size)
    if end is None or end + 4 > len(packet):
        return Rejected(header, Rcode.FORMERR)
    question = packet[HEADER.size : end + 4]
    # RFC 1995 §3: in its authority section, who asks for changes of a zone says which version it has. No other has one.
    if authorities > (question[-4:-2] == _IXFR):
        return Rejected(header, Rcode.FORMERR)
    try:
        opt = _find_opt(packet, end + 4, authorities + additionals)
    except _MalformedError:
        return Rejected(QueryHeader(id_, opcode, recursion_desired, question), Rcode.FORMERR)
    edns = Edns(opt.rclass, opt.edns_ver, bool(opt.edns_do)) if opt else None
    header = QueryHeader(id_, opcode, recursion_desired, question, edns, bool(flags & Flag.AD), bool(flags & Flag.CD))
    if edns and edns.version > 0:
        return Rejected(header, Rcode.BADVERS)  # RFC 6891 §6.1.3
    repeats = not (opt and opt.rdata)
    qtype, qclass = unpack_from("!HH", question, len(question) - 4)
    return Query(header, Name(question[:-4].lower()), qtype, qclass, repeats)


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


# Clients send only a handful of different OPT records, and dnslib takes longer over them than all else takes here: so
# each is read once. Those that a client makes up, with a cookie for instance, only pass through the cache.
@lru_cache(maxsize=1024)
def _parse_opt(record: bytes) -> RR:
    try:
        return RR.parse(DNSBuffer(record))
    except DNSError:
        raise _MalformedError from None
