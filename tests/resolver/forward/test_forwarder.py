"""What upstreams are asked, counted at the upstreams: questions in flight, the cache, which upstream is asked first."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from ipaddress import ip_network
from itertools import pairwise

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from resolver.forward import cache, forwarder, pool, upstream
from resolver.forward.forwarder import Forwarder
from resolver.forward.pool import ATTEMPTS
from resolver.forward.upstream import Routes, Upstream
from resolver.server import Resolver
from resolver.special import ZONES
from resolver.wire.messages import ErrorCode, Transport
from tests import waiting, worlds
from tests.resolver.forward import shell
from tests.resolver.forward.liar import SERVFAIL, SLOW, lying, nxdomain, says, silent, small
from tests.resolver.forward.shell import Client, Clock, forwarding, isolated, world
from tests.resolver.forward.test_answers import ADDRESS, rdata_of
from tests.resolver.messages import error_text, query
from tests.resolver.servers import DEADLINE
from tests.waiting import until

HOUR = 3600.0
servfail = says(rcode=SERVFAIL)


def extended(answer: dns.message.Message) -> list[int]:
    return [option.code for option in answer.options if isinstance(option, dns.edns.EDEOption)]


@pytest.mark.usefixtures("patience")
class TestInFlight:
    """Equal questions at once are one question to an upstream."""

    async def test_a_hundred_clients_that_ask_the_same_at_once_are_one_query(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A hundred clients in one process may take longer than one may.
        monkeypatch.setattr(shell, "WITHIN", waiting.DEADLINE)
        async with lying() as liar, forwarding(liar) as client:
            asked = [client.ask("slow", transport=list(Transport)[number % 2]) for number in range(100)]
            assert {rdata_of(answer) for answer in await asyncio.gather(*asked)} == {ADDRESS}
            assert liar.count() == 1
            counts = client.forwarder.counts
            assert counts.misses == 1
            assert counts.joined > 20
            assert counts.joined + counts.hits == 99  # the last of the clients come when it is known

    async def test_a_client_that_goes_away_does_not_end_it_for_the_others(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            gone = asyncio.ensure_future(client.ask("late", transport=Transport.TCP))
            await until(lambda: liar.count() == 1)
            gone.cancel()
            assert rdata_of(await client.ask("late")) == ADDRESS
            assert liar.count() == 1

    async def test_two_queries_from_one_port_with_one_id_each_get_their_own_answer(self) -> None:
        """Rule 12: musl may send A and AAAA so."""
        async with lying() as liar, forwarding(liar) as client:
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.bind((worlds.PRODUCTION_SOURCE, 0))
                sock.connect(client.resolver.addresses[0])
                for rtype in ("A", "AAAA", "A"):
                    sock.send(dns.message.make_query("late.liar.example.", rtype, id=7).to_wire())
                async with asyncio.timeout(DEADLINE):
                    answers = [dns.message.from_wire(await loop.sock_recv(sock, 4096)) for _ in range(3)]
            assert {answer.id for answer in answers} == {7}
            asked = sorted(dns.rdatatype.to_text(answer.question[0].rdtype) for answer in answers)
            assert asked == ["A", "A", "AAAA"]
            assert liar.count() == 2


@pytest.mark.usefixtures("patience")
class TestCache:
    async def test_an_answer_is_asked_for_once_in_its_time_and_counted_down(self) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            ttls = []
            for _ in range(4):
                answer = await client.ask("brief")
                ttls.append(answer.answer[0].ttl)
                clock.now += 4
            assert ttls == [10, 6, 2, 10]
            assert liar.count() == 2

    @pytest.mark.parametrize(("label", "seconds"), [("nxdomain", 60), ("nodata", 60), ("briefno", 10)])
    async def test_a_denial_is_cached_for_as_long_as_its_soa_says(self, label: str, seconds: int) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            first = await client.ask(label)
            assert first.authority[0].ttl == seconds
            clock.now += seconds - 1
            assert (await client.ask(label)).authority[0].ttl == 1
            assert liar.count() == 1
            clock.now += 2
            await client.ask(label)
            assert liar.count() == 2

    @pytest.mark.parametrize("label", ["bareno", "barenodata", "zero"])
    async def test_what_must_not_be_kept_is_kept_a_second(self, label: str) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            for expected in (1, 1, 2):
                await client.ask(label)
                assert liar.count() == expected
                clock.now += 0.6

    async def test_a_failure_is_kept_for_a_moment(self) -> None:
        clock = Clock()
        async with lying(always=servfail) as liar, forwarding(liar, clock=clock) as client:
            for _ in range(5):
                assert (await client.ask("small")).rcode() == dns.rcode.SERVFAIL
            asked = liar.count()
            assert asked <= ATTEMPTS
            assert 1 <= cache.FAILURE <= 5
            clock.now += cache.FAILURE
            liar.always = small
            assert rdata_of(await client.ask("small")) == ADDRESS

    async def test_a_failure_never_takes_the_place_of_an_answer(self) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            assert rdata_of(await client.ask("brief")) == ADDRESS
            liar.always = servfail
            clock.now += 11
            for _ in range(3):
                answer = await client.ask("brief")
                assert rdata_of(answer) == ADDRESS
                assert answer.answer[0].ttl == cache.STALE_TTL
                assert extended(answer) == [ErrorCode.STALE_ANSWER]
                assert client.took < 0.2
            asked = liar.count("brief")
            clock.now += cache.FAILURE
            await client.ask("brief")
            assert liar.count("brief") > asked  # it goes on being asked, now and then

    async def test_what_is_in_use_is_fetched_before_it_ends(self) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            for _ in range(3):
                await client.ask("brief")
            clock.now += 9.5
            assert (await client.ask("brief")).answer[0].ttl == 1
            await until(lambda: client.forwarder.counts.prefetched == 1 and liar.count() == 2)
            await until(lambda: not client.forwarder.in_flight)
            assert (await client.ask("brief")).answer[0].ttl == 10
            assert liar.count() == 2

    async def test_what_is_not_in_use_is_not(self) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            await client.ask("brief")
            clock.now += 9.5
            await client.ask("brief")
            assert (client.forwarder.counts.prefetched, liar.count()) == (0, 1)

    async def test_a_prefetch_that_failed_is_not_tried_at_every_query(self) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            for _ in range(3):
                await client.ask("brief")
            liar.always = servfail
            clock.now += 9.5
            for _ in range(5):
                assert rdata_of(await client.ask("brief")) == ADDRESS
                await until(lambda: not client.forwarder.in_flight)
            assert client.forwarder.counts.prefetched == 1

    async def test_flags_that_change_the_answer_are_other_questions(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            for _ in range(2):
                await client.ask("small")
                await client.ask("small", dnssec_ok=True)
                await client.ask("small", flags=dns.flags.AD)
                await client.ask("small", flags=dns.flags.CD)
                await client.ask("small", payload=None)
            assert liar.count() == 4


class TestTimers:
    """RFC 8767 §5: clients wait for the one timer, the look-up goes on until the other."""

    @pytest.mark.parametrize("transport", Transport)
    async def test_a_late_answer_is_kept_for_the_next_who_asks(self, transport: Transport) -> None:
        async with lying() as liar, forwarding(liar) as client:
            first = await client.ask("overdue", transport=transport)
            assert (first.rcode(), extended(first)) == (dns.rcode.SERVFAIL, [ErrorCode.NO_REACHABLE_AUTHORITY])
            assert "ask again" in error_text(first)
            assert client.lasted >= forwarder.RESPONSE_TIMER
            await until(lambda: not client.forwarder.in_flight)
            asked = liar.count()
            assert rdata_of(await client.ask("overdue", transport=transport)) == ADDRESS
            assert client.took < 0.2
            assert (liar.count(), client.forwarder.counts.late) == (asked, 1)

    async def test_who_asks_in_the_meantime_waits_for_the_same_look_up(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            assert (await client.ask("overdue")).rcode() == dns.rcode.SERVFAIL
            assert rdata_of(await client.ask("overdue")) == ADDRESS
            assert client.forwarder.counts.joined == 1
            assert client.health(liar).failures == 0

    async def test_one_that_is_stale_is_given_at_once_while_a_look_up_is_late(self) -> None:
        clock = Clock()
        async with lying(always=small) as liar, forwarding(liar, clock=clock) as client:
            await client.ask("overdue")
            liar.always = None
            clock.now += HOUR
            for least, most in ((forwarder.STALE_AFTER, forwarder.STALE_AFTER + 0.3), (0.0, 0.2)):
                assert extended(await client.ask("overdue")) == [ErrorCode.STALE_ANSWER]
                assert client.lasted >= least
                assert client.took < most
            await until(lambda: not client.forwarder.in_flight)
            assert not extended(await client.ask("overdue"))

    async def test_a_look_up_ends_and_is_then_a_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forwarder, "RESOLUTION_TIMER", 1.2)
        async with lying(always=silent) as liar, forwarding(liar, clock=Clock()) as client:
            await client.ask("small")
            await until(lambda: not client.forwarder.in_flight)
            asked = liar.count()
            answer = await client.ask("small")
            assert (answer.rcode(), liar.count()) == (dns.rcode.SERVFAIL, asked)
            assert client.took < 0.2

    async def test_a_silent_one_is_asked_again_now_and_then(self) -> None:
        """It may be back before the look-up ends: nobody should have to wait for that."""
        async with lying(always=silent) as liar, forwarding(liar) as client:
            await client.ask("small")
            assert liar.count() == ATTEMPTS
            liar.always = None
            await until(lambda: not client.forwarder.in_flight)
            assert liar.count() == ATTEMPTS + 1
            assert rdata_of(await client.ask("small")) == ADDRESS
            assert client.took < 0.2

    async def test_an_answer_late_by_the_first_timer_counts_against_its_upstream(self) -> None:
        async with lying(always=silent) as liar, forwarding(liar) as client:
            await client.ask("small")
            await until(lambda: client.health(liar).failures > 0)
            assert client.forwarder.in_flight

    async def test_late_look_ups_leave_room_for_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forwarder, "MOST_OVERDUE", 2)
        monkeypatch.setattr(forwarder, "MOST_IN_FLIGHT", 5)
        async with lying(always=silent) as liar, forwarding(liar) as client:
            await asyncio.gather(*(client.ask(f"small-{number}") for number in range(5)))
            await until(lambda: client.forwarder.in_flight == 2)
            liar.always = small
            answers = await asyncio.gather(*(client.ask(f"small-other{number}") for number in range(5)))
            assert {rdata_of(answer) for answer in answers} == {ADDRESS}


class TestStale:
    """RFC 8767: the last good answer is better than none."""

    @pytest.mark.parametrize(
        ("label", "rcode", "code"),
        [("small", "NOERROR", ErrorCode.STALE_ANSWER), ("nxdomain", "NXDOMAIN", ErrorCode.STALE_NXDOMAIN_ANSWER)],
    )
    async def test_upstreams_are_dead_for_an_hour(
        self, label: str, rcode: str, code: ErrorCode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forwarder, "RESOLUTION_TIMER", 1.0)
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            before = await client.ask(label)
            liar.always = silent
            clock.now += HOUR
            for transport in Transport:
                answer = await client.ask(label, transport=transport)
                assert dns.rcode.to_text(answer.rcode()) == rcode
                assert rdata_of(answer) == rdata_of(before)
                assert {rrset.ttl for rrset in (*answer.answer, *answer.authority)} == {cache.STALE_TTL}
                assert extended(answer) == [code]
                assert client.took < forwarder.STALE_AFTER + 0.3
            await until(lambda: not client.forwarder.in_flight)
            await client.ask(label)
            assert client.took < 0.1  # the failure is cached, so no client waits for another one
            liar.always = None
            clock.now += cache.FAILURE
            assert not extended(await client.ask(label))

    async def test_a_slow_upstream_is_waited_for_only_so_long(self) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            liar.always = small
            await client.ask("slow")
            liar.always = None
            clock.now += HOUR
            answer = await client.ask("slow")
            assert (rdata_of(answer), extended(answer)) == (ADDRESS, [ErrorCode.STALE_ANSWER])
            assert client.lasted >= forwarder.STALE_AFTER
            assert client.took < forwarder.STALE_AFTER + 0.3
            await until(lambda: not client.forwarder.in_flight)
            assert not extended(await client.ask("slow"))  # the look-up went on and brought the answer

    async def test_after_a_day_it_is_forgotten(self) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            await client.ask("brief")
            liar.always = servfail
            clock.now += 10 + cache.STALE
            assert (await client.ask("brief")).rcode() == dns.rcode.SERVFAIL


class TestOrderOfUpstreams:
    @pytest.mark.usefixtures("patience")
    async def test_a_late_one_is_helped_by_another(self) -> None:
        async with lying() as slow, lying(always=small) as good, forwarding(slow, good) as client:
            assert rdata_of(await client.ask("slow")) == ADDRESS
            assert client.took < 0.5
            assert (slow.count(), good.count()) == (1, 1)

    @pytest.mark.usefixtures("patience")
    async def test_one_that_answers_in_time_is_asked_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upstream, "HEDGE_LEAST", waiting.DEADLINE)
        monkeypatch.setattr(upstream, "HEDGE_MOST", waiting.DEADLINE)
        async with lying() as first, lying() as second, forwarding(first, second) as client:
            client.health(second).round_trip = 1.0  # or the first one is no longer the best, where it is slow
            for number in range(20):
                await client.ask(f"small-{number}")
            assert (first.count(), second.count()) == (20, 0)

    @pytest.mark.usefixtures("patience")
    @pytest.mark.parametrize("behaviour", [silent, servfail], ids=["silent", "servfail"])
    async def test_a_dead_one_is_not_the_first_next_time_and_comes_back(
        self, behaviour: Callable[..., list[object]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upstream, "HEDGE_LEAST", 0.6)  # or another one is asked because the machine is busy
        monkeypatch.setattr(upstream, "HEDGE_MOST", 0.6)
        clock = Clock()
        async with lying() as first, lying() as second, forwarding(first, second, clock=clock) as client:
            client.health(first).round_trip = 0.001
            await client.ask("small")
            assert (first.count(), second.count()) == (1, 0)
            first.always = behaviour  # type: ignore[assignment]
            await client.ask("small-1")
            assert (first.count(), second.count()) == (2, 1)
            for number in range(5):
                await client.ask(f"small-again{number}")
                assert client.took < 0.2
            assert (first.count(), second.count()) == (2, 6)
            first.always = None
            clock.now += 60
            await client.ask("small-2")
            assert (first.count(), second.count()) == (3, 6)
            assert client.health(first).failures == 0

    async def test_a_lone_one_is_asked_again_when_a_packet_is_lost(self) -> None:
        async with lying(always=silent) as liar, forwarding(liar) as client:
            asked = asyncio.ensure_future(client.ask("small"))
            await until(lambda: liar.count() == 1)
            liar.always = None
            assert rdata_of(await asked) == ADDRESS
            assert liar.count() == 2

    async def test_a_lone_slow_one_that_answers_has_not_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert SLOW < pool.LATE  # by little: a busy machine has the answer taken later
        monkeypatch.setattr(pool, "LATE", waiting.DEADLINE)
        monkeypatch.setattr(forwarder, "RESPONSE_TIMER", waiting.DEADLINE)
        async with lying() as liar, forwarding(liar) as client:
            await client.ask("slow")
            assert client.health(liar).failures == 0

    async def test_each_domain_has_its_own(self) -> None:
        async with lying(always=small) as world_wide, lying(always=small) as corp, lying(always=small) as lab:
            routes = (world_wide, f"corp.example={corp}", f"lab.corp.example={lab}")
            async with forwarding(*routes) as client:
                for name in (
                    "www.example.",
                    "corp.example.",
                    "a.b.corp.example.",
                    "lab.corp.example.",
                    "x.lab.corp.example.",
                ):
                    await client.ask(name)
            assert [asked.name for asked in world_wide.asked] == ["www.example."]
            assert [asked.name for asked in corp.asked] == ["corp.example.", "a.b.corp.example."]
            assert [asked.name for asked in lab.asked] == ["lab.corp.example.", "x.lab.corp.example."]

    async def test_where_no_route_leads_nobody_is_asked(self) -> None:
        async with lying() as corp, forwarding(f"corp.example={corp}") as client:
            answer = await client.ask("www.example.")
            assert answer.rcode() == dns.rcode.REFUSED
            assert corp.count() == 0

    @pytest.mark.parametrize("resolvers", [1, 2])
    async def test_a_circle_is_a_failure_and_no_storm(self, resolvers: int) -> None:
        """Upstreams that are ourselves, or ask us: the question meets itself in flight and ends with it."""
        ports = [free_port() for _ in range(resolvers)]
        bindings = {**worlds.BINDINGS, ip_network("127.0.0.1/32"): worlds.PRODUCTION}  # our own queries are heard
        circle = []
        for number, port in enumerate(ports):
            onwards = Forwarder(Routes.parse((f"127.0.0.1:{ports[number - 1]}",)), worlds.PLATFORM)
            circle.append(Resolver(worlds.PLATFORM, [("127.0.0.1", port)], bindings, onwards))
        for resolver in circle:
            await resolver.start()
            resolver.publish(world()[0])
            resolver.loaded()
        assert circle[0].forwarder
        first = Client(circle[0], circle[0].forwarder)
        assert (await first.ask("small")).rcode() == dns.rcode.SERVFAIL
        for resolver in circle:
            await resolver.stop()
        assert sum(sum(resolver.counts.snapshot().values()) for resolver in circle) <= 1 + 2 * resolvers * ATTEMPTS


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.usefixtures("patience")
class TestEnvironments:
    async def test_what_one_asked_the_other_asks_again(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            for _ in range(2):
                for source in (worlds.PRODUCTION_SOURCE, worlds.STAGING_SOURCE):
                    assert rdata_of(await client.ask("small", source=source)) == ADDRESS
            assert liar.count() == 2

    async def test_an_isolated_one_asks_nobody(self) -> None:
        production, staging = world()
        async with lying() as liar, forwarding(liar, zones=[isolated(production), staging]) as client:
            for name, aliases in (("small", 0), ("shop.railway.internal.", 1)):
                for transport in Transport:
                    answer = await client.ask(name, transport=transport)
                    assert answer.rcode() == dns.rcode.NXDOMAIN
                    assert len(answer.answer) == aliases
                    assert extended(answer) == [ErrorCode.BLOCKED]
                    assert "isolated" in error_text(answer)
            assert liar.count() == 0
            assert rdata_of(await client.ask("small", source=worlds.STAGING_SOURCE)) == ADDRESS

    async def test_isolation_holds_at_once_and_also_for_what_is_cached(self) -> None:
        production, staging = world()
        async with lying() as liar, forwarding(liar, zones=[production, staging]) as client:
            await client.ask("small")
            client.resolver.publish(isolated(production))
            assert (await client.ask("small")).rcode() == dns.rcode.NXDOMAIN
            client.resolver.publish(production)
            assert rdata_of(await client.ask("small")) == ADDRESS
            assert liar.count() == 1

    @pytest.mark.parametrize("transport", Transport)
    async def test_an_alias_that_leads_outside_is_followed(self, transport: Transport) -> None:
        async with lying() as liar, forwarding(liar) as client:
            for name, aliases, length in (("shop", 1, 2), ("twice", 2, 3), ("far", 1, 9)):
                answer = await client.ask(f"{name}.railway.internal.", transport=transport, payload=1232)
                assert answer.flags & dns.flags.AA
                assert answer.rcode() == dns.rcode.NOERROR
                owners = [rrset.name.to_text() for rrset in answer.answer]
                assert owners[0] == f"{name}.railway.internal."
                assert len(owners) == length
                assert all(owner.endswith("railway.internal.") for owner in owners[:aliases])
                for alias, owner in zip(answer.answer, owners[1:], strict=False):
                    assert alias[0].to_text() == owner
            assert liar.count() == 2  # `twice` leads to what `shop` has asked for

    async def test_an_alias_to_nothing_or_nobody(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            gone = await client.ask("gone.railway.internal.")
            assert (gone.rcode(), len(gone.answer)) == (dns.rcode.NXDOMAIN, 1)
            assert gone.authority[0].name.to_text() == "liar.example."
            down = await client.ask("down.railway.internal.")
            assert (down.rcode(), len(down.answer)) == (dns.rcode.SERVFAIL, 0)
            home = await client.ask("home.railway.internal.")
            assert (home.rcode(), len(home.answer)) == (dns.rcode.NXDOMAIN, 1)
            assert not liar.count("nas")


@pytest.mark.usefixtures("patience")
class TestLimits:
    async def test_one_client_cannot_take_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forwarder, "MOST_OF_ONE_CLIENT", 5)
        async with lying() as liar, forwarding(liar) as client:
            many = asyncio.gather(*(client.ask(f"late-{number}") for number in range(8)))
            other = client.ask("late-other", source=worlds.STAGING_SOURCE)
            answers, fine = await asyncio.gather(many, other)
            assert rdata_of(fine) == ADDRESS
            refused = [answer for answer in answers if answer.rcode() == dns.rcode.SERVFAIL]
            assert len(refused) == client.forwarder.counts.refused == 3
            assert "try again" in error_text(refused[0])
            assert rdata_of(await client.ask("small")) == ADDRESS

    async def test_all_clients_cannot_take_more_than_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forwarder, "MOST_IN_FLIGHT", 5)
        async with lying() as liar, forwarding(liar) as client:
            answers = await asyncio.gather(*(client.ask(f"late-{number % 8}") for number in range(16)))
            assert (
                sum(rdata_of(answer) == ADDRESS for answer in answers) == 10
            )  # a client that joins a question in flight takes no room
            assert client.forwarder.counts.refused == 6

    async def test_no_more_wait_than_memory_is_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forwarder, "MOST_WAITING", 5)
        async with lying() as liar, forwarding(liar) as client:
            answers = await asyncio.gather(*(client.ask("late") for _ in range(9)))
            assert sum(rdata_of(answer) == ADDRESS for answer in answers) == 5
            assert liar.count() == 1

    async def test_who_is_refused_still_gets_what_is_stale(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            await client.ask("brief")
            monkeypatch.setattr(forwarder, "MOST_OF_ONE_CLIENT", 0)
            clock.now += HOUR
            assert extended(await client.ask("brief")) == [ErrorCode.STALE_ANSWER]

    async def test_nothing_is_left_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forwarder, "RESPONSE_TIMER", 0.5)
        monkeypatch.setattr(forwarder, "RESOLUTION_TIMER", 1.0)
        async with lying(always=silent) as liar, forwarding(liar) as client:
            before = asyncio.all_tasks()
            sockets = open_sockets()
            await asyncio.gather(*(client.ask(f"silent-{number}") for number in range(2)))
            await until(lambda: not client.forwarder.in_flight)
            assert asyncio.all_tasks() == before
            await until(lambda: open_sockets() <= sockets)
            assert client.forwarder.waiting == 0


def open_sockets() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.usefixtures("patience")
class TestFlags:
    @pytest.mark.parametrize(
        ("dnssec_ok", "flags", "protected", "expected"),
        [
            (False, 0, True, False),
            (False, dns.flags.AD, True, True),
            (True, 0, True, True),
            (True, dns.flags.AD, False, False),
            (False, dns.flags.AD, False, False),
        ],
    )
    async def test_ad_is_only_for_who_asked_and_only_where_nobody_could_set_it(
        self, dnssec_ok: bool, flags: int, protected: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upstream, "is_protected", protected)
        async with lying() as liar, forwarding(liar) as client:
            for _ in range(2):
                answer = await client.ask("signed", dnssec_ok=dnssec_ok, flags=flags)
                assert bool(answer.flags & dns.flags.AD) is expected

    async def test_what_an_alias_of_ours_leads_to_is_never_authentic(self) -> None:
        async with lying(always=says("@ 300 IN A 192.0.2.1", authentic=True)) as liar, forwarding(liar) as client:
            assert (await client.ask("small", flags=dns.flags.AD)).flags & dns.flags.AD
            assert not (await client.ask("shop.railway.internal.", flags=dns.flags.AD)).flags & dns.flags.AD

    @pytest.mark.parametrize("label", ["small", "servfail", "nxdomain"])
    async def test_cd_is_passed_on_and_copied(self, label: str) -> None:
        async with lying() as liar, forwarding(liar) as client:
            for _ in range(2):
                assert (await client.ask(label, flags=dns.flags.CD)).flags & dns.flags.CD
            assert liar.asked[0].flags & dns.flags.CD
            assert not (await client.ask(label)).flags & dns.flags.CD
            assert not liar.asked[-1].flags & dns.flags.CD

    async def test_signatures_are_for_who_said_do(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            signed = await client.ask("signed", dnssec_ok=True)
            assert [dns.rdatatype.to_text(rrset.rdtype) for rrset in signed.answer] == ["A", "RRSIG"]
            assert [dns.rdatatype.to_text(rrset.rdtype) for rrset in signed.authority] == ["NSEC"]
            assert signed.ednsflags & dns.flags.DO
            plain = await client.ask("signed")
            assert [dns.rdatatype.to_text(rrset.rdtype) for rrset in plain.answer] == ["A"]
            assert not plain.authority
            assert [asked.dnssec_ok for asked in liar.asked] == [True, False]

    async def test_upstream_is_asked_with_edns_and_recursion(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            await client.ask("small", payload=None)
            assert liar.asked[0].edns == 0
            assert liar.asked[0].flags & dns.flags.RD


@pytest.mark.usefixtures("patience")
async def test_ports_and_ids_cannot_be_guessed() -> None:
    """RFC 5452 §9.2: of 200 queries hardly two share a port or an ID, and neither goes by steps."""
    asyncio.get_running_loop().set_debug(False)  # or making 200 clients takes most of the time
    async with lying() as liar, forwarding(liar) as client:
        for start in range(0, 200, 50):
            await asyncio.gather(*(client.ask(f"small-{number}") for number in range(start, start + 50)))
        assert liar.count() == 200
        for numbers, at_least in ([a.port for a in liar.asked], 190), ([a.id for a in liar.asked], 190):
            assert len(set(numbers)) >= at_least
            steps = [after - before for before, after in pairwise(numbers)]
            assert len(set(steps)) >= 190
            assert max(numbers) - min(numbers) > 10_000


STAYS = [
    *(str(zone) for zone in ZONES),
    *(f"x.{zone}" for zone in ZONES),
    "www.corp.internal.",
    "railway.internal.",
    "nosuch.railway.internal.",
    "metadata.google.internal.",
    "a.b.c.localhost.",
    "_dns.resolver.arpa.",
    "1.0.0.127.in-addr.arpa.",
    "8.8.20.172.in-addr.arpa.",
    "1.0.168.192.in-addr.arpa.",
    "1.0.64.100.in-addr.arpa.",
    "1." + "0." * 27 + "2.1.d.f.ip6.arpa.",
    "1." + "0." * 28 + "0.8.e.f.ip6.arpa."[2:],
    "LOCALHOST.",
    "Printer.LOCAL.",
]


@pytest.mark.parametrize("rtype", ["A", "AAAA", "PTR", "NS", "SOA", "TXT", "DS", "SVCB", "HTTPS", "ANY", "TYPE65280"])
async def test_names_that_never_leave(rtype: str) -> None:
    async with lying(always=nxdomain) as liar, forwarding(liar) as client:
        for name in STAYS:
            packet = query(name, rtype, payload=1232, dnssec_ok=True)
            flags = int.from_bytes((await client.send(packet))[2:4], "big")
            assert flags & dns.flags.AA
            assert flags & 0xF in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
        assert liar.count() == 0
        beside = ("internal.example.", "8.8.8.8.in-addr.arpa.", "1.32.172.in-addr.arpa.", "1.128.100.in-addr.arpa.")
        for name in beside:
            assert (await client.ask(name, rtype)).rcode() == dns.rcode.NXDOMAIN
        assert liar.count() == len(beside)


class TestSpecialRoutes:
    """An operator whose own servers know some of the special names gives those a route of their own."""

    async def test_only_names_with_a_route_of_their_own_leave(self) -> None:
        async with lying(always=small) as general, lying(always=small) as own:
            suffixes = ("local", "home.arpa", "10.in-addr.arpa", "corp.internal")
            routes = (general, f"arpa={general}", *(f"{suffix}={own}" for suffix in suffixes))
            async with forwarding(*routes) as client:
                for suffix in suffixes:
                    assert rdata_of(await client.ask(f"nas.{suffix}.")) == ADDRESS
                    assert rdata_of(await client.ask(f"{suffix}.")) == ADDRESS
                for name in ("nas.test.", "1.168.192.in-addr.arpa.", "other.internal.", "a.localhost.", "internal."):
                    assert (await client.ask(name, "TXT")).authority
            assert (own.count(), general.count()) == (2 * len(suffixes), 0)

    async def test_an_alias_of_ours_may_lead_there(self) -> None:
        async with lying(always=small) as own, forwarding(f"local={own}") as client:
            answer = await client.ask("home.railway.internal.")
            assert [rrset.name.to_text() for rrset in answer.answer] == ["home.railway.internal.", "nas.local."]

    async def test_an_alias_of_an_upstream_may_lead_there(self) -> None:
        behaviour = says("@ 300 IN CNAME nas.local.", recursive=False)
        async with (
            lying(always=behaviour) as first,
            lying(always=small) as own,
            forwarding(first, f"local={own}") as client,
        ):
            assert rdata_of(await client.ask("www.example."))[-1:] == ADDRESS

    async def test_the_platforms_own_names_stay(self) -> None:
        async with lying(always=small) as own, forwarding(f"internal={own}") as client:
            assert (await client.ask("nosuch.railway.internal.")).rcode() == dns.rcode.NXDOMAIN
            assert own.count() == 0

    async def test_an_isolated_environment_asks_nobody(self) -> None:
        production, staging = world()
        async with lying() as own, forwarding(f"local={own}", zones=[isolated(production), staging]) as client:
            assert extended(await client.ask("nas.local.")) == [ErrorCode.BLOCKED]
            assert own.count() == 0


class TestWithoutRecursion:
    """RD=0: the client wants to know what is known here, and no other server asked for it."""

    @staticmethod
    async def ask(client: Client, name: str) -> dns.message.Message:
        packet = bytearray(query(name, "A", payload=1232))
        packet[2] &= ~1
        return dns.message.from_wire(await client.send(bytes(packet)))

    async def test_it_is_not_forwarded(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            for _ in range(2):
                answer = await self.ask(client, "small.liar.example.")
                assert (answer.rcode(), extended(answer)) == (dns.rcode.REFUSED, [ErrorCode.NOT_AUTHORITATIVE])
                assert not answer.flags & dns.flags.RD
            assert liar.count() == 0
            await client.ask("small")
            assert rdata_of(await self.ask(client, "small.liar.example.")) == ADDRESS
            assert liar.count() == 1

    async def test_the_platforms_own_part_of_the_answer_is_given(self) -> None:
        async with lying() as liar, forwarding(liar) as client:
            answer = await self.ask(client, "shop.railway.internal.")
            assert answer.rcode() == dns.rcode.NOERROR
            assert [rrset.name.to_text() for rrset in answer.answer] == ["shop.railway.internal."]
            assert (await self.ask(client, "localhost.")).answer
            assert liar.count() == 0

    async def test_it_fetches_nothing_before_its_time(self) -> None:
        clock = Clock()
        async with lying() as liar, forwarding(liar, clock=clock) as client:
            for _ in range(3):
                await client.ask("brief")
            clock.now += 9.5
            assert rdata_of(await self.ask(client, "brief.liar.example.")) == ADDRESS
            assert (client.forwarder.in_flight, liar.count()) == (0, 1)


class TestStopping:
    @pytest.mark.parametrize("transport", Transport)
    async def test_who_was_heard_is_answered(self, transport: Transport) -> None:
        async with lying() as liar:
            async with forwarding(liar) as client:
                asked = asyncio.ensure_future(client.ask("late", transport=transport))
                await until(lambda: liar.count() == 1)
            assert rdata_of(await asked) == ADDRESS

    @pytest.mark.parametrize("label", ["small", "late"])
    async def test_who_asks_no_more_still_gets_its_answers(self, label: str) -> None:
        """A client may close its half of a TCP connection as soon as it has asked."""
        async with lying() as liar, forwarding(liar) as client:
            reader, writer = await asyncio.open_connection(
                *client.resolver.addresses[0], local_addr=(worlds.PRODUCTION_SOURCE, 0)
            )
            for number in range(3):
                packet = query(f"{label}-{number}.liar.example.", "A")
                writer.write(len(packet).to_bytes(2, "big") + packet)
            writer.write_eof()
            async with asyncio.timeout(DEADLINE):
                stream = await reader.read()
            assert stream.count(socket.inet_aton(ADDRESS[0])) == 3
            writer.close()

    async def test_a_prefetch_is_not_waited_for(self) -> None:
        clock = Clock()
        async with lying() as liar:
            async with forwarding(liar, clock=clock) as client:
                for _ in range(3):
                    await client.ask("brief")
                clock.now += 9.5
                liar.always = silent
                await client.ask("brief")
                assert client.forwarder.in_flight
                started = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - started < 0.5
