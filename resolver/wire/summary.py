"""Replies in words, for the query log and for `interlock query`."""

from __future__ import annotations

from dataclasses import dataclass

from dnslib import DNSError
from dnslib.dns import DNSRecord

from resolver.wire.header import HEADER, OPT, Flag
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

    text: str
    """The whole message as dig would show it."""


def summarize(packet: bytes) -> Summary:
    """The reply ``packet`` in words, for a person.

    Where dnslib cannot read a record, such as a name that is not UTF-8, the summary has only what the header says.
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
