"""Reading records that somebody else made: any octets are read or refused, and what is read is what was meant."""

from __future__ import annotations

import time
from struct import pack

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolver.wire.header import Flag
from resolver.wire.messages import QueryHeader, Rcode, Record, Reply
from resolver.wire.packer import pack as pack_reply
from resolver.wire.records import MAX_JUMPS, MalformedRecord, RecordReader
from resolver.wire.upstream_messages import pack_query, parse_response
from zones.names import Name
from zones.records import Opaque, RRset, RRType, Soa

QNAME = "www.example.com."
DATA = {
    "A": ["192.0.2.1", "192.0.2.2"],
    "AAAA": ["2001:db8::1"],
    "NS": ["ns1.example.com.", "ns2.example.net."],
    "CNAME": ["other.example.com."],
    "PTR": ["host.example.com."],
    "DNAME": ["other.example.com."],
    "SOA": ["ns1.example.com. hostmaster.example.com. 4294967295 3600 600 86400 60"],
    "MX": ["10 mail.example.com.", "20 mail.example.net."],
    "TXT": ['"one" "two"', '""', r'"\000\255"'],
    "SRV": ["0 5 443 www.example.com."],
    "NAPTR": ['100 10 "u" "sip+E2U" "!^.*$!sip:info@example.com!" .', '100 50 "s" "" "" _sip._udp.example.com.'],
    "RP": ["admin.example.com. info.example.com."],
    "AFSDB": ["1 afs.example.com."],
    "RT": ["1 relay.example.com."],
    "PX": ["1 map.example.com. x400.example.com."],
    "KX": ["1 kx.example.com."],
    "HTTPS": ["1 . alpn=h2,h3 ipv4hint=192.0.2.1", "0 svc.example.com."],
    "SVCB": ["16 www.example.com. port=8443 key65333=abc"],
    "CAA": ['0 issue "letsencrypt.org"'],
    "DS": ["60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"],
    "DNSKEY": ["257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ=="],
    "RRSIG": ["A 13 3 300 20300101000000 20200101000000 1 example.com. AAAA"],
    "NSEC": ["z.example.com. A RRSIG NSEC"],
    "NSEC3": ["1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX DNSKEY NS SOA NSEC3PARAM RRSIG"],
    "LOC": ["52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000.00m 10.00m"],
    "TLSA": ["3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"],
    "SSHFP": ["1 1 450c7d19d5da9a3a5b7c19992d1fbde15d8dad34"],
    "HINFO": ['"PC" "Linux"'],
    "TYPE65280": [r"\# 4 C00C0001"],
}


def read(packet: bytes, count: int, offset: int = 12) -> list[Record]:
    return RecordReader(packet, offset).read(count)


@pytest.mark.parametrize("rtype", DATA)
def test_what_dnspython_wrote_compressed_comes_back_from_us_as_it_was(rtype: str) -> None:
    """Read here, packed again by `wire` for a client, and read by dnspython: the same records."""
    query = dns.message.make_query(QNAME, rtype, use_edns=False)
    said = dns.message.make_response(query, recursion_available=True)
    said.answer = [dns.rrset.from_text_list(QNAME, 300, "IN", rtype, DATA[rtype])]
    packet = said.to_wire()
    response = parse_response(packet, query.to_wire())
    assert response
    assert {record.ttl for record in response.answer} == {300}
    number = int(query.question[0].rdtype)
    rrset = RRset(Name.parse(QNAME), number, 300, tuple(record.rdata for record in response.answer))
    header = QueryHeader(query.id, Flag.RD, query.to_wire()[12:])
    ours = dns.message.from_wire(pack_reply(header, Reply(Rcode.NOERROR, (rrset,)), 65535))
    assert ours.answer == said.answer
    assert len(ours.answer[0]) == len(DATA[rtype])


def test_a_whole_message_of_many_types_is_read_to_its_last_octet() -> None:
    query = dns.message.make_query(QNAME, "ANY", use_edns=0)
    said = dns.message.make_response(query)
    for section in (said.answer, said.authority, said.additional):
        section.extend(dns.rrset.from_text_list(QNAME, 300, "IN", rtype, data) for rtype, data in DATA.items())
    packet = said.to_wire(max_size=65535)
    end = 12 + len(QNAME) + 1 + 4
    records = read(packet, 3 * sum(map(len, DATA.values())) + 1, end)
    assert records[-1].rtype == dns.rdatatype.OPT
    with pytest.raises(MalformedRecord):
        read(packet, len(records) + 1, end)


def test_names_are_in_lower_case_and_addresses_are_octets() -> None:
    packet = bytes(12) + b"\3WwW\7ExAmPlE\0" + pack("!HHIH", 5, 1, 9, 4) + b"\1A\xc0\x10"
    assert read(packet, 1) == [Record(Name.parse("www.example"), 5, 1, 9, Name.parse("a.example"))]
    packet = bytes(12) + b"\0" + pack("!HHIH", 1, 1, 9, 4) + bytes([192, 0, 2, 1])
    assert read(packet, 1) == [Record(Name.parse("."), 1, 1, 9, Opaque(bytes([192, 0, 2, 1])))]


def record(rtype: int, data: bytes, owner: bytes = b"\0", length: int | None = None) -> bytes:
    return bytes(12) + owner + pack("!HHIH", rtype, 1, 1, len(data) if length is None else length) + data


LONGEST = b"".join(bytes([63]) + bytes([97 + n]) * 63 for n in range(3)) + bytes([61]) + b"d" * 61 + b"\0"


@pytest.mark.parametrize(
    "packet",
    [
        bytes(12),
        bytes(12) + b"\0",
        bytes(12) + b"\3ww",
        bytes(12) + b"\x40" + b"a" * 64 + b"\0" + bytes(10),
        bytes(12) + b"\x80\0" + bytes(10),
        bytes(12) + b"\xc0",
        record(1, b"abc"),
        record(1, b"abcde"),
        record(28, bytes(4)),
        record(1, b"abcd", length=5),
        record(5, b"\1a\0\0"),
        record(5, b"\1a"),
        record(5, b""),
        record(15, b"\0"),
        record(15, b"\0\1"),
        record(35, b""),
        record(35, bytes(4) + b"\xffabc"),
        record(35, bytes(4) + b"\1a\1b\1c"),
        record(6, b"\0\0" + bytes(19)),
        record(6, b"\0\0" + bytes(21)),
        record(5, b"\xc0\x17"),  # to itself
        record(5, b"\1a\xc0\x17"),  # to where it began
        record(5, b"\xc0\xff"),  # forward
        record(5, b"\1a\xc0\x00\0", owner=b"\xc0\x0c"),
        bytes(12) + b"\xc0\x0e\xc0\x0c" + bytes(10),  # to each other
        record(99, b"", owner=b"\1x" + LONGEST),
    ],
)
def test_what_is_malformed_is_refused(packet: bytes) -> None:
    with pytest.raises(MalformedRecord):
        read(packet, 1)


def test_a_label_may_end_in_a_zero_octet() -> None:
    packet = bytes(12) + b"\7example\0" + pack("!HHIH", 99, 1, 1, 0) + b"\2a\0\xc0\x0c" + pack("!HHIH", 99, 1, 1, 0)
    assert [r.name for r in read(packet, 2)] == [Name.parse("example"), Name.of([b"a\0", b"example"])]


def test_the_longest_name_is_a_name() -> None:
    assert read(record(99, b"", owner=LONGEST), 1)[0].name == LONGEST


def ladder(rungs: int) -> tuple[bytes, int]:
    """A packet whose last record's data is a ladder of pointers, and where its top is."""
    packet = record(99, b"", length=3 + 2 * rungs)
    at = len(packet)
    packet += b"\1a\0"
    for rung in range(rungs):
        packet += (0xC000 | (at + 1 + 2 * rung if rung else at)).to_bytes(2, "big")
    return packet, len(packet) - 2


@pytest.mark.parametrize(("rungs", "is_read"), [(1, True), (MAX_JUMPS - 1, True), (MAX_JUMPS + 1, False)])
def test_a_ladder_of_pointers_has_only_so_many_rungs(rungs: int, is_read: bool) -> None:
    packet, top = ladder(rungs)
    packet += (0xC000 | top).to_bytes(2, "big") + pack("!HHIH", 99, 1, 1, 0)
    if is_read:
        assert read(packet, 2)[1].name == Name.parse("a")
    else:
        with pytest.raises(MalformedRecord):
            read(packet, 2)


def test_the_worst_packet_takes_time_in_proportion_to_its_octets() -> None:
    """Thousands of records that each point to the top of a ladder; read rung by rung they would take 100 times this."""
    packet, top = ladder(MAX_JUMPS - 1)
    one = (0xC000 | top).to_bytes(2, "big") + pack("!HHIH", 99, 1, 1, 0)
    honest = bytes(12) + b"\1a\0" + pack("!HHIH", 99, 1, 1, 0)
    plain = b"\xc0\x0c" + pack("!HHIH", 99, 1, 1, 0)
    count = (65535 - len(packet)) // len(one)

    def best(octets: bytes) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            read(octets, count + 1)
            times.append(time.process_time() - started)
        return min(times)

    assert best(packet + one * count) < 4 * best(honest + plain * count)


@given(st.binary(max_size=600), st.integers(0, 40))
@example(bytes(12) + b"\xc0\x0c", 1)
def test_any_octets_are_read_or_refused(octets: bytes, count: int) -> None:
    for offset in (0, 12):
        try:
            records = read(octets, count, offset)
        except MalformedRecord:
            continue
        assert len(records) == count


PIECES = st.one_of(
    st.sampled_from([b"\0", b"\1a", b"\3www\7example\0", b"\xc0\x0c", b"\xc0\x10", b"\xc0\x20", b"\xc0\x80", b"\x3f"]),
    st.sampled_from(sorted({1, 2, 5, 6, 12, 15, 16, 17, 28, 33, 35, 39, 41, 46, 65})).flatmap(
        lambda rtype: st.integers(0, 30).map(lambda length: pack("!HHIH", rtype, 1, 1, length))
    ),
    st.binary(max_size=12),
)


@given(st.lists(PIECES, max_size=60).map(b"".join), st.integers(0, 12))
def test_anything_like_records_is_read_or_refused(octets: bytes, count: int) -> None:
    try:
        records = read(bytes(12) + octets, count)
    except MalformedRecord:
        return
    for one in records:
        assert len(one.name) <= 255
        assert one.name == one.name.lower()
        assert isinstance(one.rdata, Name | Soa | Opaque)
        assert isinstance(one.rdata, Name) is (one.rtype in (RRType.NS, RRType.CNAME, RRType.PTR))


@given(st.lists(PIECES, max_size=60).map(b"".join), st.lists(st.integers(0, 5), min_size=3, max_size=3))
def test_any_response_is_read_or_passed_over(octets: bytes, counts: list[int]) -> None:
    query = pack_query(7, Name.parse("a.example"), 1)
    question = query[12 : 12 + 11 + 4]
    packet = pack("!HHHHHH", 7, 0x8180, 1, *counts) + question + octets
    response = parse_response(packet, query)
    assert response is None or len(response.answer) == counts[0]
