"""Real upstreams: an authoritative Knot by a route of its own, and a validating Unbound for the rest."""

from __future__ import annotations

from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from resolver.wire.messages import Transport
from tests.resolver.forward.daemons import KNOT_ZONE, running_knot, running_unbound
from tests.resolver.forward.liar import CHAIN, LARGE, lying, small
from tests.resolver.forward.shell import Client, forwarding
from tests.resolver.forward.test_answers import data, rdata_of
from tests.resolver.messages import error_text


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_knot(tmp_path_factory.mktemp("knot")) as address:
        yield address


@pytest.fixture(scope="module")
def unbound(tmp_path_factory: pytest.TempPathFactory, knot: str) -> Iterator[str]:
    with running_unbound(tmp_path_factory.mktemp("unbound"), knot) as address:
        yield address


@pytest.fixture(params=["knot", "unbound"])
def upstream(request: pytest.FixtureRequest) -> str:
    route: str = request.getfixturevalue(request.param)
    return f"{KNOT_ZONE}={route}"


CHAINED = tuple(line.replace("net.", KNOT_ZONE) for line in CHAIN)


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "expected"),
    [
        ("small", "A", "NOERROR", ("192.0.2.1",)),
        ("small", "MX", "NOERROR", (f"10 mail.{KNOT_ZONE}",)),
        ("large", "A", "NOERROR", tuple(sorted(data(LARGE)))),
        ("chain", "A", "NOERROR", data(CHAINED)),
        ("x.wild", "A", "NOERROR", ("192.0.2.3",)),
        ("x.old", "A", "NOERROR", (f"x.new.{KNOT_ZONE}", "192.0.2.4")),
        ("small", "AAAA", "NOERROR", ()),
        ("nosuch", "A", "NXDOMAIN", ()),
    ],
)
async def test_what_clients_are_told(
    upstream: str, name: str, rtype: str, rcode: str, expected: tuple[str, ...], transport: Transport
) -> None:
    async with forwarding(upstream) as client:
        for _ in range(2):
            answer = await ask_whole(client, f"{name}.{KNOT_ZONE}", rtype, transport)
            assert dns.rcode.to_text(answer.rcode()) == rcode
            given = rdata_of(answer)
            assert (tuple(sorted(given)) if name == "large" else given) == expected
            assert bool(answer.authority) is not bool(expected)
            assert not answer.additional
            assert answer.flags & dns.flags.RA
        assert client.forwarder.counts.misses == 1


async def ask_whole(client: Client, name: str, rtype: str, transport: Transport) -> dns.message.Message:
    answer = await client.ask(name, rtype, transport=transport)
    return await client.ask(name, rtype, transport=Transport.TCP) if answer.flags & dns.flags.TC else answer


async def test_signatures_are_passed_on_and_so_is_what_unbound_thinks_of_them(unbound: str) -> None:
    async with forwarding(unbound) as client:
        for name, types in (
            ("small", ["A", "RRSIG"]),
            ("x.wild", ["A", "RRSIG"]),
            ("x.old", ["DNAME", "RRSIG", "CNAME", "A", "RRSIG"]),
        ):
            answer = await client.ask(f"{name}.{KNOT_ZONE}", dnssec_ok=True, transport=Transport.TCP)
            assert [dns.rdatatype.to_text(rrset.rdtype) for rrset in answer.answer] == types
            assert answer.flags & dns.flags.AD
            proofs = {dns.rdatatype.to_text(rrset.rdtype) for rrset in answer.authority}
            assert proofs == ({"NSEC", "RRSIG"} if name == "x.wild" else set())
        nothing = await client.ask(f"nosuch.{KNOT_ZONE}", dnssec_ok=True, transport=Transport.TCP)
        assert {dns.rdatatype.to_text(rrset.rdtype) for rrset in nothing.authority} == {"SOA", "NSEC", "RRSIG"}
        assert nothing.flags & dns.flags.AD
        assert not (await client.ask(f"small.{KNOT_ZONE}")).flags & dns.flags.AD


async def test_where_an_authority_ends_others_go_on(knot: str) -> None:
    async with lying(always=small) as rest, forwarding(f"{KNOT_ZONE}={knot}", rest) as client:
        answer = await client.ask(f"leads.{KNOT_ZONE}")
        assert rdata_of(answer) == ("elsewhere.example.", "192.0.2.1")
        assert [asked.name for asked in rest.asked] == ["elsewhere.example."]
    async with forwarding(f"{KNOT_ZONE}={knot}") as client:
        for name, reason in (("leads", "there is none"), ("www.sub", "a referral to other servers")):
            answer = await client.ask(f"{name}.{KNOT_ZONE}")
            assert answer.rcode() == dns.rcode.SERVFAIL
            assert reason in error_text(answer)


async def test_what_it_does_not_know_is_a_failure_with_the_reason(unbound: str, knot: str) -> None:
    async with forwarding(unbound) as client:
        answer = await client.ask("www.example.")
        assert answer.rcode() == dns.rcode.SERVFAIL
    async with forwarding(knot) as client:
        answer = await client.ask("www.example.")
        assert (answer.rcode(), "REFUSED" in error_text(answer)) == (dns.rcode.SERVFAIL, True)
