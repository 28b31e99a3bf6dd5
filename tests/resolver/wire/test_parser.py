"""Any octets are read: as a query, as a message that is rejected, or as nothing; and what was asked comes back."""

from __future__ import annotations

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.wire.messages import Drop, Query, Rcode, Rejected, Reply, Transport
from resolver.wire.packer import pack, size_limit
from resolver.wire.parser import parse
from tests.resolver.messages import query
from tests.resolver.wire.test_packer import ask

CHAIN = query("api") + b"".join((0xC000 | 12 + 2 * number).to_bytes(2, "big") for number in range(1100))


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(CHAIN, id="chained pointers after the message"),
        pytest.param(CHAIN[:10] + b"\0\1" + CHAIN[12:], id="chained pointers as a record"),
        pytest.param(CHAIN[:4] + b"\0\0\0\1" + CHAIN[8:], id="chained pointers as an answer"),
    ],
)
def test_pointers_are_never_followed(packet: bytes) -> None:
    assert isinstance(parse(packet), Query | Rejected)


@given(st.binary(max_size=600))
def test_any_octets_are_read(packet: bytes) -> None:
    outcome = parse(packet)
    match outcome:
        case Drop():
            return
        case Rejected(header, rcode):
            reply = pack(header, Reply(rcode), size_limit(header, Transport.UDP))
        case Query(header):
            reply = pack(header, Reply(Rcode.NOERROR), size_limit(header, Transport.UDP))
    assert reply[:2] == packet[:2]
    assert len(reply) <= 512
    dns.message.from_wire(reply)


def test_who_asks_for_changes_of_a_zone_says_which_version_it_has() -> None:
    """RFC 1995 §3: the SOA in the authority section. It is refused as a transfer is; no other query has one."""
    for rtype, rcode in (("IXFR", dns.rcode.REFUSED), ("AXFR", dns.rcode.FORMERR), ("SOA", dns.rcode.FORMERR)):
        message = dns.message.make_query("railway.internal.", rtype, payload=1232)
        soa = "ns.railway.internal. hostmaster.railway.internal. 1 3600 600 86400 1"
        message.authority = [dns.rrset.from_text("railway.internal.", 0, "IN", "SOA", soa)]
        reply = dns.message.from_wire(ask(message.to_wire()))
        assert reply.rcode() == rcode
        assert (reply.edns == 0) == (rtype == "IXFR")
    twice = dns.message.make_query("railway.internal.", "IXFR")
    twice.authority = [dns.rrset.from_text(f"{name}.internal.", 0, "IN", "SOA", soa) for name in ("railway", "other")]
    assert dns.message.from_wire(ask(twice.to_wire())).rcode() == dns.rcode.FORMERR


_LABEL = st.binary(min_size=1, max_size=63)


@given(st.lists(_LABEL, max_size=4), st.integers(0, 65535), st.integers(0, 65535))
def test_any_name_type_and_class_come_back_as_they_were(labels: list[bytes], qtype: int, qclass: int) -> None:
    name = b"".join(bytes([len(label)]) + label for label in labels if sum(map(len, labels)) < 240)
    question = name + b"\0" + qtype.to_bytes(2, "big") + qclass.to_bytes(2, "big")
    packet = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + question
    reply = ask(packet)
    assert reply[:2] == packet[:2]
    assert reply[12 : 12 + len(question)] == question
