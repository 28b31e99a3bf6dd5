"""Records: their data from presentation form and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zones.addresses import Address
from zones.errors import Invalid
from zones.names import Name
from zones.records import Address4, RRset, RRType, Soa, Srv, Text, parse_rdata

PARSED = [
    # type, text, as it is written back
    (RRType.A, "192.0.2.1", "192.0.2.1"),
    (RRType.AAAA, "2001:DB8::0:1", "2001:db8::1"),
    (RRType.AAAA, "::192.0.2.1", "::192.0.2.1"),
    (RRType.CNAME, "API.railway.internal.", "api.railway.internal."),
    (RRType.CNAME, ".", "."),
    (RRType.TXT, "hello", '"hello"'),
    (RRType.TXT, "", '""'),
    (RRType.TXT, 'say "hi" \\ ü\n', r'"say \"hi\" \\ \195\188\010"'),
    (RRType.SRV, "10 5 5060 api.railway.internal.", "10 5 5060 api.railway.internal."),
    (RRType.SRV, "0 0 65535 .", "0 0 65535 ."),
    (RRType.SRV, "  1\t2  3  a.b. ", "1 2 3 a.b."),
]

REFUSED = [
    (RRType.A, "192.0.2", "is not an IPv4 address"),
    (RRType.A, "192.0.2.256", "is not an IPv4 address"),
    (RRType.A, "::1", "is not an IPv4 address"),
    (RRType.A, "1.2.3.4\0", "is not an IPv4 address"),
    (RRType.AAAA, "192.0.2.1", "is not an IPv6 address"),
    (RRType.AAAA, "::ffff:192.0.2.1", "IPv4 address in IPv6 form"),
    (RRType.CNAME, "api", "final dot"),
    (RRType.CNAME, "", "final dot"),
    (RRType.CNAME, "a..b.", "empty label"),
    (RRType.TXT, "x" * 4097, "4097 octets: use at most 4096"),
    (RRType.TXT, "ü" * 2049, "4098 octets"),
    (RRType.TXT, "\udcff", "UTF-8"),
    (RRType.SRV, "1 2 3", "'priority weight port target.'"),
    (RRType.SRV, "1 2 3 a b.", "'priority weight port target.'"),
    (RRType.SRV, "-1 2 3 a.", "priority '-1'"),
    (RRType.SRV, "1 65536 3 a.", "weight '65536'"),
    (RRType.SRV, "1 2 http a.", "port 'http'"),
    (RRType.SRV, "1 2 ² a.", "port '²'"),
    (RRType.SRV, "1 2 3 a", "final dot"),
    (RRType.NS, "ns.example.", "cannot be set"),
    (RRType.SOA, "", "cannot be set"),
]


@pytest.mark.parametrize(("rtype", "text", "written"), PARSED)
def test_data_is_parsed(rtype: RRType, text: str, written: str) -> None:
    assert str(parse_rdata(rtype, text)) == written


@pytest.mark.parametrize(("rtype", "text", "fragment"), REFUSED)
def test_bad_data_is_refused(rtype: RRType, text: str, fragment: str) -> None:
    with pytest.raises(Invalid, match=fragment):
        parse_rdata(rtype, text)


@given(st.sampled_from(["A", "AAAA", "CNAME", "TXT", "SRV"]), st.text())
def test_any_text_is_data_or_is_refused(rtype: str, text: str) -> None:
    try:
        data = parse_rdata(RRType[rtype], text)
    except Invalid:
        return
    assert isinstance(data, Address | Address4 | Name | Text | Srv)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_a_text_is_cut_into_strings_and_loses_nothing(text: str) -> None:
    strings = Text.of(text).strings
    assert b"".join(strings).decode() == text
    assert strings
    assert all(len(string) == 255 for string in strings[:-1])
    assert len(strings[-1]) <= 255


def test_a_set_is_written_a_record_a_line() -> None:
    name = Name.parse("a.railway.internal")
    rdatas = (Address.parse("fd12::1"), Address.parse("fd12::2"))
    assert str(RRset(name, RRType.AAAA, 5, rdatas)) == (
        "a.railway.internal. 5 IN AAAA fd12::1\na.railway.internal. 5 IN AAAA fd12::2"
    )


def test_an_soa_is_written_as_in_a_zone_file() -> None:
    soa = Soa(Name.parse("ns.a"), Name.parse("hostmaster.a"), 7, 1, 2, 3, 4)
    assert str(soa) == "ns.a. hostmaster.a. 7 1 2 3 4"
