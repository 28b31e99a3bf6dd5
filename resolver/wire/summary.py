"""Replies in words, for the query log and for `interlock query`."""

from __future__ import annotations

from dataclasses import dataclass

from dnslib import DNSError
from dnslib.dns import DNSRecord

from resolver.wire.header import EXTENDED_ERROR, HEADER, OPT, Flag
from resolver.wire.messages import Rcode
from zones.records import RRType


@dataclass(frozen=True, slots=True)
class Summary:
    """A reply in words."""

    rcode: str

    answers: tuple[str, ...]
    """The records of the answer section, in presentation form."""

    aliases: tuple[str, ...]
    """The targets of the CNAMEs among them."""

    authoritative: bool
    """The AA bit."""

    truncated: bool
    """The TC bit."""

    repeats_question: bool
    """Whether it has the question; a reply that is made after a fault has none."""

    error: str
    """The text of the extended error (RFC 8914); empty where there is none."""

    text: str
    """The whole message as dig would show it."""


def summarize(packet: bytes) -> Summary:
    """The reply ``packet`` in words, for a person.

    Where dnslib cannot read a record, such as a name that is not UTF-8, the summary has only what the header says.
    """
    _id, flags, questions, *_counts = HEADER.unpack_from(packet)
    header = bool(flags & Flag.AA), bool(flags & Flag.TC), bool(questions)
    try:
        record = DNSRecord.parse(packet)
    except (DNSError, RecursionError) as error:
        return Summary(_rcode_name(flags & 0xF), (), (), *header, "", f";; not shown: {error}")
    extended = next((rr.edns_rcode << 4 for rr in record.ar if rr.rtype == OPT), 0)
    return Summary(
        _rcode_name(flags & 0xF | extended),
        tuple(str(rr) for rr in record.rr),
        tuple(str(rr.rdata) for rr in record.rr if rr.rtype == RRType.CNAME),
        *header,
        _extended_error(record),
        str(record),
    )


def _extended_error(record: DNSRecord) -> str:
    options = (option for rr in record.ar if rr.rtype == OPT for option in rr.rdata)
    data = next((option.data for option in options if option.code == EXTENDED_ERROR), b"")
    text: str = data[2:].decode(errors="replace")
    return text or (f"extended error {int.from_bytes(data[:2], 'big')}" if data else "")


def _rcode_name(rcode: int) -> str:
    return Rcode(rcode).name if rcode in set(Rcode) else f"RCODE{rcode}"
