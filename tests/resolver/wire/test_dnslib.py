"""What is read and written here is what dnslib reads and writes: the same values, and the same octets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.wire.header import Flag
from resolver.wire.messages import Edns, ErrorCode, ExtendedError, Query, QueryHeader, Rcode, Rejected, Reply
from resolver.wire.packer import MAXIMUM_TCP, pack
from resolver.wire.parser import parse
from tests.resolver.wire import dnslib_wire
from zones.addresses import Address
from zones.names import Name
from zones.records import Address4, Opaque, Rdata, RRset, RRType, Soa, Srv, Text

# Few labels, so that names share suffixes in all ways; some hold the octets of others, or no text at all.
_LABELS = st.sampled_from([b"a", b"b", b"railway", b"internal", b"ns", b"x\x01a", b"\xff\0.", b"y" * 63])
NAMES = st.lists(_LABELS, max_size=3).map(Name.of)
NUMBER, WORD = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
OCTETS = st.binary(max_size=40)
RDATA: dict[int, st.SearchStrategy[Rdata]] = {
    RRType.AAAA: st.binary(min_size=16, max_size=16).map(Address),
    RRType.A: st.binary(min_size=4, max_size=4).map(Address4),
    RRType.CNAME: NAMES,
    RRType.NS: NAMES,
    RRType.PTR: NAMES,
    RRType.TXT: st.lists(OCTETS, min_size=1, max_size=3).map(lambda strings: Text(tuple(strings))),
    RRType.SRV: st.builds(Srv, NUMBER, NUMBER, NUMBER, NAMES),
    RRType.SOA: st.builds(Soa, NAMES, NAMES, WORD, WORD, WORD, WORD, WORD),
    65: OCTETS.map(Opaque),
}


@st.composite
def rrsets(draw: st.DrawFn) -> RRset:
    rtype = draw(st.sampled_from(sorted(RDATA)))
    rdatas = draw(st.lists(RDATA[rtype], min_size=1, max_size=12))
    return RRset(draw(NAMES), rtype, draw(st.integers(0, 0x7FFF_FFFF)), tuple(rdatas), draw(st.booleans()))


SECTION = st.lists(rrsets(), max_size=3).map(tuple)
ERRORS = st.none() | st.builds(ExtendedError, st.sampled_from(ErrorCode), st.text(max_size=200))
REPLIES = st.builds(
    Reply,
    st.sampled_from(Rcode),
    SECTION,
    SECTION,
    authoritative=st.booleans(),
    error=ERRORS,
    authentic=st.booleans(),
    checking_disabled=st.booleans(),
)


@st.composite
def headers(draw: st.DrawFn) -> QueryHeader:
    qname = bytes(octet ^ 0x20 if draw(st.booleans()) and chr(octet).isalpha() else octet for octet in draw(NAMES))
    question = qname + draw(NUMBER).to_bytes(2, "big") + b"\0\1"
    edns = draw(st.none() | st.builds(Edns, NUMBER, st.just(0), st.booleans()))
    return QueryHeader(draw(NUMBER), draw(NUMBER), question, edns)


@settings(max_examples=50)  # dnslib takes its time
@given(headers(), REPLIES, st.sampled_from([512, 600, 1232, MAXIMUM_TCP]))
def test_a_reply_has_the_same_octets(header: QueryHeader, reply: Reply, limit: int) -> None:
    packed = pack(header, reply, limit)
    if header.edns is None and packed != dnslib_wire.pack(header, reply, limit):
        # Only a chain of several aliases that does not fit is written otherwise than it is.
        assert [rrset.rtype for rrset in reply.answer[:2]] == [RRType.CNAME] * 2
        assert len(dnslib_wire.pack(header, reply, MAXIMUM_TCP)) > 512
        return
    assert packed == dnslib_wire.pack(header, reply, limit)


def test_a_reply_of_many_names_has_the_same_octets() -> None:
    """Beyond offset 16,383 nothing is pointed to."""
    names = [Name.parse(f"n{number}.{'x' * 50}{number % 7}.example.org") for number in range(1500)]
    rrset = RRset(names[0], RRType.PTR, 5, tuple(names))
    header = QueryHeader(1, Flag.RD, names[-1] + b"\0\x0c\0\1")
    packed = pack(header, Reply(Rcode.NOERROR, (rrset,)), MAXIMUM_TCP)
    assert len(packed) > 20_000
    assert packed == dnslib_wire.pack(header, Reply(Rcode.NOERROR, (rrset,)), MAXIMUM_TCP)


APEX = Name.parse("railway.internal")
TIMES = (1, 3600, 600, 86_400, 1)
BELOW = [
    *(Name.parse(name) for name in ("railway.internal", "a.railway.internal", "a.b.c.railway.internal")),
    # The names of the SOA itself are pointed to where they stand in the question.
    *(Name.parse(f"{name}.railway.internal") for name in ("ns", "a.ns", "hostmaster", "a.hostmaster", "xns")),
    # The octets of the apex, within a label: nothing of it can be pointed to.
    Name.of([b"a" + APEX[:-1]]),
    Name.parse("a.internal"),
]


@pytest.mark.parametrize("owner", [APEX, Name.parse("internal"), Name.parse("arpa"), Name(b"\0")], ids=str)
@pytest.mark.parametrize("qname", BELOW, ids=repr)
@pytest.mark.parametrize("limit", [512, 60, 90])
def test_a_denial_has_the_same_octets(qname: Name, owner: Name, limit: int) -> None:
    """An SOA alone is packed once for all names; one of other names than these is not."""
    for names in ((APEX.child("ns"), APEX.child("hostmaster")), (owner.child("ns"), owner.child("hostmaster"))):
        reply = Reply(Rcode.NXDOMAIN, (), (RRset(owner, RRType.SOA, 1, (Soa(*names, *TIMES),)),), authoritative=True)
        for question in (qname, bytes(qname).upper(), qname):
            if question.lower() == qname:  # some of its lengths would be letters
                header = QueryHeader(1, Flag.RD, question + b"\0\x1c\0\1", Edns(limit, 0, False))
                assert pack(header, reply, limit) == dnslib_wire.pack(header, reply, limit)


_OPTIONS = st.lists(st.tuples(NUMBER, OCTETS), max_size=4).map(
    lambda options: b"".join(code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for code, data in options)
)


@given(NAMES, NUMBER, NUMBER, NUMBER, WORD, _OPTIONS | OCTETS)
def test_an_opt_record_is_read_as_the_same(
    qname: Name, flags: int, qtype: int, payload: int, ttl: int, options: bytes
) -> None:
    flags &= Flag.RD | Flag.AD | Flag.CD
    question = qname + qtype.to_bytes(2, "big") + b"\0\1"
    opt = b"\0\0\x29" + payload.to_bytes(2, "big") + ttl.to_bytes(4, "big") + len(options).to_bytes(2, "big") + options
    read = parse(b"\0\7" + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0\0\1" + question + opt)
    expected = dnslib_wire.read_opt(opt)
    if expected is None:
        assert read == Rejected(QueryHeader(7, flags, question), Rcode.FORMERR)
        return
    edns, number = expected
    assert isinstance(read, Query | Rejected)
    assert read.header == QueryHeader(7, flags, question, edns)
    if edns.version:
        assert read == Rejected(read.header, Rcode.BADVERS)
    else:
        assert read == Query(read.header, qname, qtype, 1, not options)
        assert options or not number
