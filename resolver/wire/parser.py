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
    if flags & Flag.OPCODE:
        return Rejected(QueryHeader(id_, flags), Rcode.NOTIMP)  # RFC 8906 §3.1.5: all sections empty
    end = skip_name(packet, HEADER.size)
    # RFC 9619 §4: a query has exactly one question. Nothing that asks has an answer.
    if questions != 1 or answers or end is None or end + _QUESTION.size > len(packet):
        return Rejected(QueryHeader(id_, flags), Rcode.FORMERR)
    qtype, qclass = _QUESTION.unpack_from(packet, end)
    # RFC 1995 §3: in its authority section, who asks for changes of a zone says which version it has. No other has one.
    if authorities and (authorities > 1 or qtype != RRType.IXFR):
        return Rejected(QueryHeader(id_, flags), Rcode.FORMERR)
    qname, after = Name(packet[HEADER.size : end].lower()), end + _QUESTION.size
    question, records = packet[HEADER.size : after], authorities + additionals
    try:
        edns, has_options = _find_opt(packet, after, records) if records else _NO_OPT
    except _MalformedError:
        return Rejected(QueryHeader(id_, flags, question), Rcode.FORMERR)
    header = QueryHeader(id_, flags, question, edns)
    if edns and edns.version > 0:
        return Rejected(header, Rcode.BADVERS)  # RFC 6891 §6.1.3
    return Query(header, qname, qtype, qclass, not has_options)


class _MalformedError(Exception):
    """A record goes beyond the end of its message, or breaks the rules of EDNS."""


_Opt = tuple[Edns | None, bool]  # what it says, and whether it has options
_NO_OPT: _Opt = None, False


def _find_opt(packet: bytes, offset: int, count: int) -> _Opt:
    """The OPT record among the ``count`` records at ``offset``; `_NO_OPT` where there is none."""
    opt = _NO_OPT
    for _ in range(count):
        name, offset = offset, _skip_owner(packet, offset)
        if offset + 10 > len(packet):
            raise _MalformedError
        rtype, length = _RECORD.unpack_from(packet, offset)
        end = offset + 10 + length
        if end > len(packet):
            raise _MalformedError
        if rtype == OPT:
            if opt is not _NO_OPT or packet[name]:
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
