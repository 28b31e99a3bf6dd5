"""Whatever an upstream does, each client gets the right answer within a second, over UDP and over TCP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from resolver.wire.messages import Transport
from tests.resolver.forward.liar import CHAIN, LARGE, SLOW, SMALL, ZONE, lying, small
from tests.resolver.forward.shell import Client, forwarding
from tests.resolver.messages import error_text, query

ADDRESS = ("192.0.2.1",)
NOT_IN_TIME = "no upstream resolver has answered in time"


@dataclass(frozen=True, slots=True)
class Case:
    """What a client is told of the liar's name ``label``: the data of the answer in its order, and whose SOA."""

    label: str
    rcode: str = "NOERROR"
    answer: tuple[str, ...] = ()
    soa: str = ""
    error: str = ""

    def __str__(self) -> str:
        return self.label


def failure(label: str, error: str) -> Case:
    return Case(label, "SERVFAIL", error=error)


def data(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line.rpartition(" ")[2] for line in lines)


GOOD = (
    Case("small", answer=ADDRESS),
    Case("large", answer=data(LARGE)),
    Case("partial", answer=data(LARGE)),
    Case("chain", answer=data(CHAIN)),
    Case("nxdomain", "NXDOMAIN", soa="liar.example."),
    Case("bareno", "NXDOMAIN"),
    Case("nodata", soa="liar.example."),
    Case("barenodata"),
    Case("alias", answer=("gone.other.example.",), soa="other.example."),
    Case("noalias", "NXDOMAIN", ("gone.other.example.",), soa="other.example."),
    Case("late", answer=ADDRESS),
    Case("slow", answer=ADDRESS),
    Case("wrongfirst", answer=ADDRESS),
    Case("flood", answer=ADDRESS),
    Case("guesses", answer=ADDRESS),
    Case("formerr", answer=ADDRESS),
    Case("headless", answer=ADDRESS),
    Case("notimp", answer=ADDRESS),
    Case("shuffled", answer=("b.other.example.", "c.other.example.", "192.0.2.9", "192.0.2.8")),
    Case("zero", answer=ADDRESS),
    Case("halfway", answer=("far.other.example.", "small.other.example.", "192.0.2.1")),
    failure("spiral", "which is never asked of an upstream"),
    failure("inward", "at nas.corp.internal., which is never asked of an upstream"),
)
"""What one upstream is enough for."""

USELESS = (
    failure("referral", "a referral to other servers"),
    failure("upward", "a referral to other servers"),
    failure("lame", "does not look any further"),
    failure("servfail", "SERVFAIL"),
    failure("refused", "REFUSED"),
    failure("silent", NOT_IN_TIME),
    failure("garbage", NOT_IN_TIME),
    failure("broken", NOT_IN_TIME),
    failure("wrongid", NOT_IN_TIME),
    failure("wrongquestion", NOT_IN_TIME),
    failure("cut", "it closed the connection"),
    failure("cuttwice", "truncated even over TCP"),
    failure("foreign", "names that were not asked for"),
    failure("loop", "a loop of them"),
)
"""Responses that are no answer: another upstream is asked; without one, the client gets a failure with its reason."""


ANSWERED = [case for case in (*GOOD, *USELESS) if case.error != NOT_IN_TIME]


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("case", ANSWERED, ids=str)
async def test_one_upstream(case: Case) -> None:
    async with lying() as liar, forwarding(liar) as client:
        await check_both(client, case)


@pytest.mark.parametrize("case", [case for case in USELESS if case not in ANSWERED], ids=str)
async def test_one_upstream_that_has_not_answered_in_time(case: Case) -> None:
    await test_one_upstream(case)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("case", GOOD[:4], ids=str)
async def test_one_upstream_that_speaks_ipv6(case: Case) -> None:
    async with lying(host="::1") as liar, forwarding(liar) as client:
        await check_both(client, case)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("case", USELESS, ids=str)
async def test_what_is_no_answer_is_asked_of_another(case: Case) -> None:
    async with lying() as liar, lying(always=small) as good, forwarding(liar, good) as client:
        await check_both(client, Case(case.label, answer=ADDRESS))
        assert liar.count()
        assert good.count()


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("case", [failure("large", "Connection refused"), Case("small", answer=ADDRESS)], ids=str)
async def test_an_upstream_that_refuses_tcp(case: Case) -> None:
    async with lying(with_tcp=False) as liar:
        async with forwarding(liar) as client:
            await check_both(client, case)
            assert client.took < 0.5
        async with lying() as good, forwarding(liar, good) as client:
            label = case.label
            await check_both(client, next(case for case in GOOD if case.label == label))


@pytest.mark.usefixtures("patience")
async def test_a_name_of_ours_is_not_asked_for_because_a_stranger_says_so() -> None:
    async with lying() as liar, forwarding(liar) as client:
        await client.ask("inward")
        assert (liar.count("inward"), liar.count()) == (1, 1)


async def test_upstreams_that_are_not_there_are_told_of_at_once() -> None:
    async with forwarding("127.0.0.1:9", "127.0.0.2:9", "127.0.0.3:9") as client:
        answer = await client.ask("small")
        assert answer.rcode() == dns.rcode.SERVFAIL
        assert client.took < 0.2
        assert sum(client.forwarder.pool.queries.values()) == 3
        await client.ask("small")
        assert sum(client.forwarder.pool.queries.values()) == 3


async def check_both(client: Client, case: Case) -> None:
    """Over UDP and TCP at once, each of a name of its own, so that neither profits from the other."""
    udp = Client(client.resolver, client.forwarder)
    checks = (check(udp, case, Transport.UDP), check(client, case, Transport.TCP))
    await asyncio.gather(*checks)
    client.took = max(client.took, udp.took)


async def check(client: Client, case: Case, transport: Transport) -> None:
    name = f"{case.label}-{transport.value}"
    answer = await client.ask(name, transport=transport)
    if answer.flags & dns.flags.TC:
        assert transport is Transport.UDP
        assert answer.answer
        answer = await client.ask(name, transport=Transport.TCP)
    assert dns.rcode.to_text(answer.rcode()) == case.rcode
    assert rdata_of(answer) == case.answer
    assert [(rrset.name.to_text(), rrset.rdtype) for rrset in answer.authority] == (
        [(case.soa, dns.rdatatype.SOA)] if case.soa else []
    )
    assert answer.flags & dns.flags.RA
    assert not answer.flags & (dns.flags.AA | dns.flags.AD | dns.flags.CD | dns.flags.TC)
    assert all(rrset.ttl >= 1 for rrset in answer.answer)
    assert case.error in error_text(answer)


def rdata_of(answer: dns.message.Message) -> tuple[str, ...]:
    return tuple(rdata.to_text() for rrset in answer.answer for rdata in rrset)


@pytest.mark.usefixtures("patience")
class TestSize:
    """Rules 19, 20 and 24: cached whole, sized for each client."""

    @pytest.mark.parametrize(
        ("label", "payload", "fits"), [("chain", 1232, True), ("large", 512, False), ("large", 4096, False)]
    )
    async def test_a_client_gets_as_much_as_it_takes(self, label: str, payload: int, fits: bool) -> None:
        async with lying() as liar, forwarding(liar) as client:
            expected = data(CHAIN if label == "chain" else LARGE)
            for _ in range(2):  # from the upstream, then from the cache
                answer = await client.ask(label, payload=payload)
                assert len(answer.to_wire()) <= payload
                given = rdata_of(answer)
                assert given == (expected if fits else expected[: len(given)])
                assert len(given) > 20 or fits
                assert bool(answer.flags & dns.flags.TC) is not fits
                whole = await client.ask(label, payload=payload, transport=Transport.TCP)
                assert rdata_of(whole) == expected
                assert not whole.flags & dns.flags.TC
            assert client.forwarder.counts.misses == 1

    async def test_a_client_without_edns_gets_what_stands_at_the_end_of_a_long_chain(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            for transport in Transport:
                answer = await client.ask("chain", payload=None, transport=transport)
                assert rdata_of(answer) == data(CHAIN)[-2:]
                assert len(answer.to_wire()) <= 512
                assert not answer.flags & dns.flags.TC
            assert liar.count() == 1

    async def test_a_client_without_edns_gets_as_many_records_as_fit(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            answer = await client.ask("large", payload=None)
            assert 400 < len(answer.to_wire()) <= 512
            assert answer.flags & dns.flags.TC
            assert rdata_of(answer) == data(LARGE)[: len(answer.answer[0])]

    async def test_the_chain_is_as_long_as_the_scenario_says(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            packet = query(f"chain.{ZONE}", "A", payload=1232)
            assert len(await client.send(packet)) == pytest.approx(850, abs=15)


@pytest.mark.usefixtures("patience")
class TestNames:
    """The client gets what the upstream answered, whatever its type and letters."""

    async def test_compressed_data_is_whole_in_our_reply(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            assert rdata_of(await client.ask("mail", "MX")) == ("10 mail.liar.example.", "20 mail2.liar.example.")

    async def test_letters_make_no_other_question(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            for name in ("sMaLL", "small", "SMALL"):
                assert rdata_of(await client.ask(name)) == ADDRESS
            assert liar.count() == 1

    async def test_any_is_answered_with_what_is_there(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            assert rdata_of(await client.ask("small", "ANY")) == ADDRESS


@pytest.mark.usefixtures("patience")
async def test_slow_is_slow_for_the_first_only() -> None:
    async with lying() as liar, forwarding(liar) as client:
        await client.ask("slow")
        assert client.lasted >= SLOW
        await client.ask("slow")
        assert client.took < 0.1


@pytest.mark.usefixtures("patience")
async def test_a_forged_answer_is_counted() -> None:
    async with lying() as liar, forwarding(liar) as client:
        await client.ask("wrongfirst")
        assert client.forwarder.pool.forged == 2
        assert SMALL[0].endswith(rdata_of(await client.ask("guesses"))[0])
        assert {asked.transport for asked in liar.asked if asked.name.startswith("guesses")} == set(Transport)
