"""Reading and writing DNS messages in tests, with dnspython: another implementation than the one under test."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

ZONE = "railway.internal."


def absolute(name: str) -> str:
    """``name`` below the zone, unless it is absolute; ``@`` is the zone."""
    return ZONE if name == "@" else name if name.endswith(".") else f"{name}.{ZONE}"


def query(
    name: str,
    rtype: str = "AAAA",
    *,
    payload: int | None = None,
    dnssec_ok: bool = False,
    options: list[dns.edns.Option] | None = None,
    id_: int = 4711,
) -> bytes:
    """A query as a client sends it; without EDNS unless ``payload`` is given."""
    message = dns.message.make_query(absolute(name), rtype, use_edns=False, id=id_)
    if payload is not None:
        message.use_edns(0, payload=payload, options=options)
        message.want_dnssec(dnssec_ok)
    return message.to_wire()


def read(packet: bytes | object) -> dns.message.Message:
    """The message in ``packet``, which must be one to the last octet."""
    assert isinstance(packet, bytes)
    return dns.message.from_wire(packet, one_rr_per_rrset=False)


def answers(message: dns.message.Message) -> list[str]:
    """The answer section, a record a line, without TTL and class, below the zone's name."""
    zone = dns.name.from_text(ZONE)
    return [
        f"{rrset.name.relativize(zone)} {dns.rdatatype.to_text(rrset.rdtype)} {rdata.to_text()}"
        for rrset in message.answer
        for rdata in rrset
    ]


def error_text(message: dns.message.Message) -> str:
    """The text of the extended error, or nothing."""
    return next((option.text or "" for option in message.options if isinstance(option, dns.edns.EDEOption)), "")
