"""From an upstream's response to the reply for the client."""

from __future__ import annotations

import itertools

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.forward.boundary import Boundary
from resolver.forward.exchange import Question
from resolver.forward.scrubber import LONGEST_NEGATIVE, LONGEST_TTL, MAX_CHAIN, Outcome, Unfinished, Useless, scrub
from resolver.forward.upstream import Routes
from resolver.wire.messages import Rcode, Record, Reply, Response
from resolver.wire.upstream_messages import parse_response
from tests import worlds
from tests.resolver.forward import liar
from zones.names import Name
from zones.records import Opaque, RRType, type_name

QNAME = "www.liar.example."
SIGNATURE = "13 3 300 20300101000000 20200101000000 1 liar.example. AAAA"
SOA = liar.SOA
BOUNDARY = Boundary(worlds.PLATFORM, Routes.parse(("192.0.2.1", "corp.internal=192.0.2.2")))


def scrubbed(
    *answer: str,
    qtype: str = "A",
    authority: tuple[str, ...] = (),
    dnssec_ok: bool = False,
    authentic: bool = False,
    protected: bool = True,
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    recursive: bool = True,
) -> Outcome:
    query = dns.message.make_query(QNAME, qtype, use_edns=False)
    said = liar.reply(query, *answer, authority=authority, rcode=rcode, recursive=recursive, authentic=authentic)
    response = parse_response(liar.wire(said), query.to_wire())
    assert response
    question = Question(Name.parse(QNAME), int(query.question[0].rdtype), dnssec_ok=dnssec_ok)
    return scrub(question, response, BOUNDARY, is_protected=protected)


def lines(outcome: Outcome) -> list[str]:
    assert isinstance(outcome, Reply)
    return [f"{str(rrset.name).split('.')[0]} {type_name(rrset.rtype)} {len(rrset.rdatas)}" for rrset in outcome.answer]


CHAIN = (
    "@ 300 IN CNAME a.liar.example.",
    "a.liar.example. 300 IN CNAME b.liar.example.",
    "b.liar.example. 300 IN A 192.0.2.1",
)


@pytest.mark.parametrize("order", list(itertools.permutations(CHAIN)))
def test_a_chain_is_told_in_its_order(order: tuple[str, ...]) -> None:
    assert lines(scrubbed(*order)) == ["www CNAME 1", "a CNAME 1", "b A 1"]


def test_the_same_record_twice_is_one_and_ttls_are_made_equal() -> None:
    outcome = scrubbed("@ 300 IN A 192.0.2.1", "@ 20 IN A 192.0.2.2", "@ 300 IN A 192.0.2.1")
    assert lines(outcome) == ["www A 2"]
    assert isinstance(outcome, Reply)
    assert outcome.answer[0].ttl == 20


def test_what_was_not_asked_for_is_left_out() -> None:
    extra = ("c.liar.example. 300 IN A 192.0.2.9", "b.liar.example. 300 IN AAAA 2001:db8::1", "evil. 1 IN A 192.0.2.6")
    assert lines(scrubbed(*extra, *CHAIN)) == ["www CNAME 1", "a CNAME 1", "b A 1"]
    chaos = Record(Name.parse(QNAME), RRType.A, 3, 300, Opaque(bytes(4)))
    question, response = Question(Name.parse(QNAME), RRType.A), Response(0, (chaos,), recursive=False)
    assert isinstance(scrub(question, response, BOUNDARY, is_protected=True), Useless)


def test_of_two_aliases_of_one_name_the_first_holds() -> None:
    outcome = scrubbed("@ 300 IN CNAME a.liar.example.", "@ 300 IN CNAME b.liar.example.", *CHAIN[1:])
    assert lines(outcome) == ["www CNAME 1", "a CNAME 1", "b A 1"]


@pytest.mark.parametrize("qtype", ["CNAME", "ANY"])
def test_who_asks_for_the_alias_gets_the_alias(qtype: str) -> None:
    assert lines(scrubbed(*CHAIN, qtype=qtype)) == ["www CNAME 1"]


@pytest.mark.parametrize(("length", "useless"), [(MAX_CHAIN, False), (MAX_CHAIN + 1, True)])
def test_a_chain_has_an_end(length: int, useless: bool) -> None:
    names = ["@", *(f"n{number}.liar.example." for number in range(length))]
    chain = [f"{names[at]} 300 IN CNAME {names[at + 1]}" for at in range(length)]
    assert isinstance(scrubbed(*chain, f"{names[-1]} 300 IN A 192.0.2.1"), Useless) is useless


def test_a_loop_is_useless() -> None:
    assert isinstance(scrubbed(CHAIN[0], "a.liar.example. 300 IN CNAME www.liar.example."), Useless)


def test_a_chain_without_an_end_goes_on_there() -> None:
    outcome = scrubbed(*CHAIN[:2])
    assert isinstance(outcome, Unfinished)
    assert outcome.target == Name.parse("b.liar.example")
    assert lines(outcome.reply) == ["www CNAME 1", "a CNAME 1"]


class TestDname:
    """RFC 6672 §3.4: a DNAME is followed also where no CNAME comes with it."""

    DNAME = "liar.example. 300 IN DNAME Other.Example."
    END = "www.other.example. 60 IN A 192.0.2.1"

    @pytest.mark.parametrize("order", list(itertools.permutations((DNAME, END))))
    def test_its_cname_is_made_where_it_is_missing(self, order: tuple[str, ...]) -> None:
        outcome = scrubbed(*order)
        assert lines(outcome) == ["www CNAME 1", "www A 1"]
        assert isinstance(outcome, Reply)
        assert str(outcome.answer[0]) == "www.liar.example. 300 IN CNAME www.other.example."

    def test_a_cname_that_was_sent_goes_first(self) -> None:
        sent = "@ 20 IN CNAME sent.other.example.", "sent.other.example. 60 IN A 192.0.2.1"
        outcome = scrubbed(self.DNAME, self.END, *sent)
        assert isinstance(outcome, Reply)
        assert [str(rrset.name) for rrset in outcome.answer] == [QNAME, "sent.other.example."]

    def test_it_says_nothing_of_its_own_name(self) -> None:
        own = "@ 300 IN DNAME other.example."
        assert isinstance(scrubbed(own, "other.example. 60 IN A 192.0.2.1"), Useless)
        assert lines(scrubbed(own, "@ 60 IN A 192.0.2.1")) == ["www A 1"]

    def test_it_leads_to_an_alias_and_an_alias_to_it(self) -> None:
        outcome = scrubbed(
            "@ 300 IN CNAME a.b.third.example.",
            "third.example. 300 IN DNAME fourth.example.",
            "a.b.fourth.example. 300 IN CNAME end.example.",
            "end.example. 300 IN A 192.0.2.1",
        )
        assert lines(outcome) == ["www CNAME 1", "a CNAME 1", "a CNAME 1", "end A 1"]

    def test_who_asks_for_the_alias_gets_the_one_that_was_made(self) -> None:
        assert lines(scrubbed(self.DNAME, qtype="CNAME")) == ["www CNAME 1"]

    def test_who_asks_for_dnssec_gets_the_dname_too(self) -> None:
        signature = f"liar.example. 300 IN RRSIG DNAME {SIGNATURE}"
        outcome = scrubbed(self.DNAME, signature, self.END, dnssec_ok=True)
        assert lines(outcome) == ["liar TYPE39 1", "liar TYPE46 1", "www CNAME 1", "www A 1"]

    def test_without_its_end_the_target_is_asked_for(self) -> None:
        outcome = scrubbed(self.DNAME)
        assert isinstance(outcome, Unfinished)
        assert outcome.target == Name.parse("www.other.example")

    def test_a_loop_of_it_is_useless(self) -> None:
        outcome = scrubbed("liar.example. 300 IN DNAME other.example.", "other.example. 300 IN DNAME liar.example.")
        assert isinstance(outcome, Useless)

    def test_a_name_that_would_be_too_long_is_none(self) -> None:
        long = ".".join(["x" * 62] * 4)
        assert isinstance(scrubbed(f"liar.example. 300 IN DNAME {long}."), Useless)


@pytest.mark.parametrize("authority", [(SOA,), (SOA, "liar.example. 300 IN NS ns.liar.example.")])
def test_a_chain_to_nothing_ends_with_the_soa(authority: tuple[str, ...]) -> None:
    outcome = scrubbed(*CHAIN[:2], authority=authority)
    assert lines(outcome) == ["www CNAME 1", "a CNAME 1"]
    assert isinstance(outcome, Reply)
    assert [(rrset.rtype, rrset.ttl) for rrset in outcome.authority] == [(RRType.SOA, 60)]


@pytest.mark.parametrize(
    ("ttl", "minimum", "expected"),
    [(600, 60, 60), (30, 60, 30), (0, 60, 1), (600, 0, 1), (86_400, 86_400, LONGEST_NEGATIVE), (2**31, 60, 1)],
)
def test_a_no_holds_for_the_lesser_of_two_times(ttl: int, minimum: int, expected: int) -> None:
    """RFC 2308 §5."""
    soa = f"liar.example. {ttl % 2**31} IN SOA ns.liar.example. h.liar.example. 1 2 3 4 {minimum}"
    outcome = scrubbed(authority=(soa,), rcode=dns.rcode.NXDOMAIN)
    assert isinstance(outcome, Reply)
    assert (outcome.rcode, outcome.authority[0].ttl) == (Rcode.NXDOMAIN, expected)


def test_the_soa_of_a_stranger_says_nothing() -> None:
    outcome = scrubbed(authority=("other.example. 300 IN SOA ns.x. h.x. 1 2 3 4 60",), rcode=dns.rcode.NXDOMAIN)
    assert isinstance(outcome, Reply)
    assert outcome.authority == ()


@pytest.mark.parametrize(("ttl", "expected"), [(0, 1), (1, 1), (300, 300), (2**31 - 1, LONGEST_TTL)])
def test_ttls_have_bounds(ttl: int, expected: int) -> None:
    outcome = scrubbed(f"@ {ttl} IN A 192.0.2.1")
    assert isinstance(outcome, Reply)
    assert outcome.answer[0].ttl == expected


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (scrubbed(rcode=dns.rcode.SERVFAIL), "SERVFAIL"),
        (scrubbed(rcode=dns.rcode.YXDOMAIN), "RCODE6"),
        (scrubbed(recursive=False), "does not look any further"),
        (scrubbed(authority=("liar.example. 300 IN NS ns.liar.example.",), recursive=False), "a referral"),
        (scrubbed(authority=("liar.example. 300 IN NS ns.liar.example.",)), "a referral"),
        (scrubbed("other.example. 300 IN A 192.0.2.1"), "not asked for"),
    ],
)
def test_what_is_no_answer(outcome: Outcome, reason: str) -> None:
    assert isinstance(outcome, Useless)
    assert reason in outcome.reason


SIGNED = (
    f"b.liar.example. 300 IN RRSIG A {SIGNATURE}",
    f"@ 300 IN RRSIG CNAME {SIGNATURE}",
    f"a.liar.example. 300 IN RRSIG CNAME {SIGNATURE}",
    f"b.liar.example. 300 IN RRSIG AAAA {SIGNATURE}",
    *reversed(CHAIN),
)
PROOF = (
    "liar.example. 300 IN NS ns.liar.example.",
    f"liar.example. 300 IN RRSIG NS {SIGNATURE}",
    SOA,
    f"liar.example. 300 IN RRSIG SOA {SIGNATURE}",
    "z.liar.example. 300 IN NSEC liar.example. A RRSIG NSEC",
    f"z.liar.example. 300 IN RRSIG NSEC {SIGNATURE}",
)


class TestSigned:
    def test_each_rrset_is_followed_by_its_signatures(self) -> None:
        outcome = scrubbed(*SIGNED, dnssec_ok=True)
        assert lines(outcome) == ["www CNAME 1", "www TYPE46 1", "a CNAME 1", "a TYPE46 1", "b A 1", "b TYPE46 1"]
        assert lines(scrubbed(*SIGNED)) == ["www CNAME 1", "a CNAME 1", "b A 1"]

    def test_an_alias_to_nothing_keeps_its_soa_and_the_proof(self) -> None:
        outcome = scrubbed(*SIGNED[1:3], *CHAIN[:2], authority=PROOF, dnssec_ok=True)
        assert isinstance(outcome, Reply)
        assert [rrset.rtype for rrset in outcome.authority] == [6, 46, 47, 46]
        plain = scrubbed(*SIGNED[1:3], *CHAIN[:2], authority=PROOF)
        assert isinstance(plain, Reply)
        assert [rrset.rtype for rrset in plain.authority] == [6]

    @pytest.mark.parametrize("dnssec_ok", [True, False])
    def test_who_asks_for_any_or_for_signatures_gets_each_once(self, dnssec_ok: bool) -> None:
        outcome = scrubbed(*SIGNED, qtype="ANY", dnssec_ok=dnssec_ok)
        assert sorted(lines(outcome)) == ["www CNAME 1", "www TYPE46 1"]
        assert lines(scrubbed(*SIGNED, qtype="RRSIG", dnssec_ok=dnssec_ok)) == ["www TYPE46 1"]

    @pytest.mark.parametrize(("dnssec_ok", "protected"), list(itertools.product([True, False], repeat=2)))
    def test_authentic(self, dnssec_ok: bool, protected: bool) -> None:
        outcome = scrubbed("@ 300 IN A 192.0.2.1", authentic=True, dnssec_ok=dnssec_ok, protected=protected)
        assert isinstance(outcome, Reply)
        assert outcome.authentic is (dnssec_ok and protected)


NAMES = ("@", "a.liar.example.", "b.liar.example.", "evil.example.")
RECORD = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES[1:])).map(
        lambda names: f"{names[0]} 300 IN CNAME {names[1]}"
    ),
    st.tuples(st.sampled_from(NAMES), st.integers(0, 3)).map(lambda it: f"{it[0]} 300 IN A 192.0.2.{it[1]}"),
    st.sampled_from(NAMES).map(lambda name: f"{name} 300 IN AAAA 2001:db8::1"),
    st.sampled_from(NAMES).map(lambda name: f"liar.example. 300 IN DNAME {name.replace('@', 'www.example.')}"),
    st.sampled_from(NAMES).map(lambda name: f"{name} 300 IN RRSIG A {SIGNATURE}"),
)


@given(records=st.lists(RECORD, max_size=10), dnssec_ok=st.booleans(), recursive=st.booleans())
def test_whatever_is_said_clients_are_told_a_chain_and_its_end(
    records: list[str], dnssec_ok: bool, recursive: bool
) -> None:
    outcome = scrubbed(*records, dnssec_ok=dnssec_ok, recursive=recursive)
    if isinstance(outcome, Useless):
        return
    answer = outcome.reply.answer if isinstance(outcome, Unfinished) else outcome.answer
    name = Name.parse(QNAME)
    for rrset in answer:
        assert rrset.name == name or rrset.rtype in (39, 46)
        assert rrset.rtype in ((1, 5, 39, 46) if dnssec_ok else (1, 5))
        if rrset.rtype == RRType.CNAME:
            assert len(rrset.rdatas) == 1
            target = rrset.rdatas[0]
            assert isinstance(target, Name)
            name = target
    assert len({(rrset.name, rrset.rtype, rrset.rdatas) for rrset in answer}) == len(answer)


INWARD = (
    "api.railway.internal.",
    "localhost.",
    "db.localhost.",
    "nas.corp.internal.",  # of other upstreams than those that said so
    "printer.local.",
    "1.0.0.127.in-addr.arpa.",
    "1.0.0.0.2.1.d.f.ip6.arpa.",
)


@pytest.mark.parametrize("target", INWARD)
@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN], ids=dns.rcode.to_text)
def test_what_is_said_of_a_name_that_is_answered_elsewhere_is_left_out(target: str, rcode: dns.rcode.Rcode) -> None:
    for aliases in (
        (f"@ 300 IN CNAME {target}",),
        ("@ 300 IN CNAME a.liar.example.", f"a.liar.example. 300 IN CNAME {target}"),
        (f"liar.example. 300 IN DNAME {target}",),
    ):
        is_dname = "DNAME" in aliases[0]
        end = f"www.{target}" if is_dname else target
        outcome = scrubbed(*aliases, f"{end} 300 IN AAAA 2001:db8::666", qtype="AAAA", rcode=rcode, authority=(SOA,))
        assert isinstance(outcome, Unfinished)
        assert str(outcome.target) == end
        assert [rrset.rtype for rrset in outcome.reply.answer] == [RRType.CNAME] * len(outcome.reply.answer)


def test_the_upstreams_of_a_special_name_are_believed_about_it() -> None:
    query = dns.message.make_query("www.corp.internal.", "A", use_edns=False)
    said = liar.reply(
        query, "@ 300 IN CNAME nas.corp.internal.", "nas.corp.internal. 300 IN A 10.0.0.1", authority=(), recursive=True
    )
    response = parse_response(liar.wire(said), query.to_wire())
    assert response
    question = Question(Name.parse("www.corp.internal."), RRType.A)
    assert lines(scrub(question, response, BOUNDARY, is_protected=True)) == ["www CNAME 1", "nas A 1"]


HINTED = "@ 300 IN HTTPS 1 . alpn=h2 ipv6hint=fd12:5b1e:90c4:1::1"
UNHINTED = "@ 300 IN HTTPS 1 . alpn=h2 ipv6hint=2001:db8::1"


@pytest.mark.parametrize(
    ("qtype", "records", "left"),
    [
        ("AAAA", ("@ 300 IN AAAA fd12:5b1e:90c4:1::1", "@ 300 IN AAAA 2001:db8::1"), ["www AAAA 1"]),
        ("AAAA", ("@ 300 IN AAAA fd12:5b1e:90c4:1::1",), []),
        ("AAAA", ("@ 300 IN AAAA fd12::10",), []),
        ("AAAA", ("@ 300 IN AAAA fd11:ffff::1", "@ 300 IN AAAA fd13::1"), ["www AAAA 2"]),
        ("ANY", ("@ 300 IN AAAA fd12:5b1e:90c4:1::1", "@ 300 IN A 192.0.2.1"), ["www A 1"]),
        ("HTTPS", (HINTED,), []),
        ("HTTPS", (HINTED, UNHINTED), ["www HTTPS 1"]),
    ],
)
def test_addresses_of_the_platform_are_left_out(qtype: str, records: tuple[str, ...], left: list[str]) -> None:
    outcome = scrubbed(*records, qtype=qtype)
    assert isinstance(outcome, Reply)
    assert [line.replace("TYPE65", "HTTPS") for line in lines(outcome)] == left


@given(st.binary(max_size=60))
def test_any_octets_of_an_svcb_record_are_passed_on_or_left_out(octets: bytes) -> None:
    record = Record(Name.parse(QNAME), 65, 1, 300, Opaque(octets))
    outcome = scrub(Question(Name.parse(QNAME), 65), Response(0, (record,)), BOUNDARY, is_protected=True)
    assert isinstance(outcome, Reply)
