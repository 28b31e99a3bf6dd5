"""Messages exchanged with an upstream: our query as octets, and its response as a value, if it is one to our query."""

from __future__ import annotations

from struct import pack

from resolver.wire.header import DNSSEC_OK, HEADER, MAXIMUM_UDP, OPT, Flag, skip_name
from resolver.wire.messages import CLASS_IN, Rcode, Response
from resolver.wire.records import MalformedRecord, RecordReader
from zones.names import Name


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
    """A query of ours; ``authentic`` sets AD and ``unchecked`` CD. DO is set only with EDNS."""
    flags = Flag.RD | (Flag.AD if authentic else 0) | (Flag.CD if unchecked else 0)
    question = qname + pack("!HH", qtype, CLASS_IN)
    opt = b"\0" + pack("!HHIH", OPT, MAXIMUM_UDP, DNSSEC_OK if dnssec_ok else 0, 0) if edns else b""
    return HEADER.pack(id_, flags, 1, 0, 0, int(edns)) + question + opt


def parse_response(packet: bytes, query: bytes) -> Response | None:
    """The upstream's response to our ``query``; None where ``packet`` is no response to it, or cannot be read.

    ID and question must be those of ``query`` (RFC 5452 §9.1). Names are read in lower case.
    """
    if len(packet) < HEADER.size or packet[:2] != query[:2]:
        return None
    _, flags, questions, *counts = HEADER.unpack_from(packet)
    if not flags & Flag.QR:
        return None
    if len(packet) == HEADER.size and flags & 0xF in (Rcode.FORMERR, Rcode.NOTIMP):
        return Response(flags & 0xF)  # a server that does not know EDNS may not repeat the question (RFC 6891 §7)
    if questions != 1:
        return None
    end = skip_name(query, HEADER.size)
    assert end is not None
    if packet[HEADER.size : end].lower() != query[HEADER.size : end] or packet[end : end + 4] != query[end : end + 4]:
        return None
    rcode, truncated = flags & 0xF, bool(flags & Flag.TC)
    try:
        reader = RecordReader(packet, end + 4)
        answer, authority, additional = ([] if truncated else reader.read(count) for count in counts)
    except MalformedRecord:
        return None
    rcode |= next((record.ttl >> 24 << 4 for record in additional if record.rtype == OPT), 0)
    return Response(rcode, tuple(answer), tuple(authority), bool(flags & Flag.AD), bool(flags & Flag.RA), truncated)
