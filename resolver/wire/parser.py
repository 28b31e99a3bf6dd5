"""Queries, from octets to values.

Of a query a server needs the question, octet for octet, and the OPT record; of all further records only where they end.
Compression pointers are never followed: nothing precedes the question that it could point to.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from resolver.wire.header import DNSSEC_OK, HEADER, OPT, Flag, skip_name
from resolver.wire.messages import Drop, Edns, Query, QueryHeader, Rcode, Rejected
from zones.names import MAX_LABEL, Name
from zones.records import RRType

_IXFR = RRType.IXFR.to_bytes(2, "big")
_QUESTION = Struct("!HH")  # type and class, after the name
_RECORD = Struct("!H6xH")  # the type of a record and the length of its data, after its owner
_OPT = Struct("!xHHxBHH")  # the root, type, payload, (extended rcode), version, flags, and the length of the options
_OPTION = Struct("!2xH")  # the length of an option, after its code


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
        opt = _find_opt(packet, end + 4, authorities + additionals) or (None, False)
    except _MalformedError:
        return Rejected(QueryHeader(id_, opcode, recursion_desired, question), Rcode.FORMERR)
    edns, has_options = opt
    header = QueryHeader(id_, opcode, recursion_desired, question, edns, bool(flags & Flag.AD), bool(flags & Flag.CD))
    if edns and edns.version > 0:
        return Rejected(header, Rcode.BADVERS)  # RFC 6891 §6.1.3
    qtype, qclass = _QUESTION.unpack_from(packet, end)
    return Query(header, Name(question[:-4].lower()), qtype, qclass, not has_options)


class _MalformedError(Exception):
    """A record goes beyond the end of its message, or breaks the rules of EDNS."""


_Opt = tuple[Edns, bool]  # what it says, and whether it has options


def _find_opt(packet: bytes, offset: int, count: int) -> _Opt | None:
    """The OPT record among the ``count`` records at ``offset``."""
    opt = None
    for _ in range(count):
        name, offset = offset, _skip_owner(packet, offset)
        if offset + 10 > len(packet):
            raise _MalformedError
        rtype, length = _RECORD.unpack_from(packet, offset)
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


# Clients send only a handful of different OPT records: each is read once. Those that a client makes up, with a cookie
# for instance, only pass through the cache.
@lru_cache(maxsize=1024)
def _parse_opt(record: bytes) -> _Opt:
    _type, payload, version, flags, length = _OPT.unpack_from(record)
    offset = _OPT.size
    # At the end, what is no more than the header of an option is passed over.
    while offset + _OPTION.size < len(record):
        (option,) = _OPTION.unpack_from(record, offset)
        offset += _OPTION.size + option
    if offset > len(record):
        raise _MalformedError
    return Edns(payload, version, bool(flags & DNSSEC_OK)), length > 0
