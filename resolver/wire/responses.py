"""What an upstream answers, from octets to values, and whether it is an answer to our question at all."""

from __future__ import annotations

from resolver.wire.header import HEADER, OPT, Flag, skip_name
from resolver.wire.messages import Rcode, Response
from resolver.wire.records import MalformedRecord, RecordReader


def parse_response(packet: bytes, query: bytes) -> Response | None:
    """What an upstream answers to our ``query``; None where ``packet`` is not its answer or cannot be read.

    ID and question must be ours (RFC 5452 §9.1). Names are read in lower case.
    """
    if len(packet) < HEADER.size or packet[:2] != query[:2]:
        return None
    _, flags, questions, *counts = HEADER.unpack_from(packet)
    if not flags & Flag.QR:
        return None
    if len(packet) == HEADER.size and flags & 0xF in (Rcode.FORMERR, Rcode.NOTIMP):
        return Response(flags & 0xF)  # who does not understand us may not repeat the question (RFC 6891 §7)
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
