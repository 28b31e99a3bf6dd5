"""Pending names: a query for one waits until its zone is published, and no other query waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import dns.edns
import dns.rcode
import pytest

from resolver.answer import answer
from resolver.net import held
from resolver.pending import has_better_answer
from resolver.server import Resolver
from resolver.wire.header import Flag
from resolver.wire.messages import Query, QueryHeader
from tests import worlds
from tests.resolver.messages import absolute, answers, error_text, query, read
from tests.resolver.servers import DEADLINE, ask_tcp, ask_udp, serving
from tests.waiting import until
from tests.worlds import NOW, PRODUCTION, PRODUCTION_SOURCE, STAGING_SOURCE, UNBOUND_SOURCE
from zones.edits import DeleteService, PutInstance, PutRecord, PutService, SetEnabled, apply
from zones.model import Environment, RecordSet, State
from zones.names import Name
from zones.records import RRType
from zones.zone import Zone

Ask = Callable[..., Awaitable[bytes]]

SERVED = worlds.build(
    "production",
    1,
    PutService("old"),
    PutInstance("old", "o1"),
    PutService("waiting"),
    PutInstance("waiting", "w1", state=State.STARTING),
    PutRecord("alias", "CNAME", RecordSet(60, ("new.railway.internal.",))),
)
PENDING = apply(
    SERVED,
    [
        PutService("new"),
        PutInstance("new", "n1"),
        PutInstance("waiting", "w1", state=State.READY),
        PutRecord("outside", "CNAME", RecordSet(60, ("www.example.com.",))),
        DeleteService("old"),
    ],
    NOW,
)
STAGING = worlds.compiled(worlds.staging())


@pytest.fixture(params=[ask_udp, ask_tcp], ids=["udp", "tcp"])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


@pytest.fixture(autouse=True)
def no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A held query that is answered here was released: its deadline is too late for any test."""
    monkeypatch.setattr(held, "PENDING_HOLD", 10 * DEADLINE)


def zone(environment: Environment = PENDING) -> Zone:
    return worlds.compiled(environment)


async def everything_else_is_answered(resolver: Resolver) -> None:
    """Returns when all queries that were sent before, and need not wait, have their answer."""
    for _ in range(3):  # the server answers in the order of arrival; the clients take some turns of the loop to see it
        for ask in (ask_udp, ask_tcp):
            assert read(await asking(resolver, ask, "nowhere")).rcode() == dns.rcode.NXDOMAIN


async def wait_until_held(resolver: Resolver, number: int) -> None:
    await until(lambda: resolver.counts.held_pending >= number)


@asynccontextmanager
async def announced(*served: Zone, pending: Zone) -> AsyncIterator[Resolver]:
    async with serving(*served) as resolver:
        resolver.announce(pending)
        yield resolver


def asking(resolver: Resolver, ask: Ask, *args: str, source: str = PRODUCTION_SOURCE) -> asyncio.Future[bytes]:
    return asyncio.ensure_future(ask(resolver.addresses[0], query(*args, payload=1232), source))


# Which queries wait


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        ("new", "AAAA", True),
        ("new", "A", True),  # from NXDOMAIN to NODATA: musl believes the first NXDOMAIN of a pair
        ("n1.new", "AAAA", True),
        ("all.new", "AAAA", True),
        ("alias", "AAAA", True),  # by way of a name that is served
        ("alias", "A", True),
        ("alias", "CNAME", False),
        ("outside", "AAAA", True),  # somebody else will know
        ("waiting", "AAAA", True),  # from NODATA to an address
        ("waiting", "A", False),  # NODATA it is and stays
        ("w1.waiting", "AAAA", False),  # answered already
        ("old", "AAAA", False),  # answered still
        ("nowhere", "AAAA", False),  # no, and no
        ("www.example.com.", "AAAA", False),  # not ours
        ("localhost.", "A", False),
        ("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.2.1.d.f.ip6.arpa.", "PTR", False),
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.0.0.0.1.0.0.0.0.0.0.0.2.1.d.f.ip6.arpa.", "PTR", True),
    ],
)
def test_a_query_waits_if_the_pending_zone_has_a_better_answer(name: str, rtype: str, expected: bool) -> None:
    asked = Query(QueryHeader(1, Flag.RD), Name.parse(absolute(name)), RRType[rtype])
    assert has_better_answer(asked, answer(asked, zone(SERVED)), zone()) is expected


def test_an_environment_that_is_switched_on_or_was_not_there_is_waited_for() -> None:
    asked = Query(QueryHeader(1, Flag.RD), Name.parse(absolute("old")), RRType.AAAA)
    off = zone(apply(SERVED, [SetEnabled(False)], NOW))
    assert has_better_answer(asked, answer(asked, off), zone(SERVED))
    assert not has_better_answer(asked, answer(asked, zone(SERVED)), off)


# The same on the wire


async def test_a_pending_name_is_answered_when_its_zone_is_published(ask: Ask) -> None:
    async with announced(zone(SERVED), pending=(pending := zone())) as resolver:
        asked = asking(resolver, ask, "new")
        await wait_until_held(resolver, 1)
        await everything_else_is_answered(resolver)
        assert not asked.done()
        resolver.publish(pending)
        assert answers(read(await asked)) == ["new AAAA fd12:0:1:3::1"]
        assert (resolver.counts.held_pending, resolver.counts.pending_timeouts, resolver.counts.held_loading) == (
            1,
            0,
            0,
        )


async def test_the_pair_that_musl_sends_waits_together(ask: Ask) -> None:
    async with announced(zone(SERVED), pending=(pending := zone())) as resolver:
        pair = [asking(resolver, ask, "new", rtype) for rtype in ("A", "AAAA")]
        await wait_until_held(resolver, 2)
        assert not any(asked.done() for asked in pair)
        resolver.publish(pending)
        nodata, address = [read(await asked) for asked in pair]
        assert (nodata.rcode(), answers(nodata)) == (dns.rcode.NOERROR, [])
        assert answers(address) == ["new AAAA fd12:0:1:3::1"]


async def test_what_takes_too_long_is_a_failure_and_never_a_denial(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "PENDING_HOLD", 0.15)
    async with announced(zone(SERVED), pending=zone()) as resolver:
        message = read(await asking(resolver, ask, "new"))
        assert message.rcode() == dns.rcode.SERVFAIL
        [option] = message.options
        assert isinstance(option, dns.edns.EDEOption)
        assert option.code == dns.edns.EDECode.NOT_READY
        assert "no path to it yet" in error_text(message)
        assert (resolver.counts.held_pending, resolver.counts.pending_timeouts) == (1, 1)


@pytest.mark.parametrize(
    ("name", "rcode"), [("nowhere", "NXDOMAIN"), ("old", "NOERROR"), ("w1.waiting", "NOERROR"), ("x.old", "NXDOMAIN")]
)
async def test_all_else_is_answered_at_once(ask: Ask, name: str, rcode: str) -> None:
    async with announced(zone(SERVED), pending=zone()) as resolver:
        message = read(await asking(resolver, ask, name))
        assert dns.rcode.to_text(message.rcode()) == rcode
        assert resolver.counts.held_pending == 0


async def test_a_denial_in_the_packet_cache_is_not_given(ask: Ask) -> None:
    """Neither one that was packed before, nor one from before an announcement of the same name."""
    async with serving(zone(SERVED)) as resolver:
        for _ in range(3):
            assert read(await asking(resolver, ask, "new")).rcode() == dns.rcode.NXDOMAIN
        assert resolver.counts.packet_cache_hits == 1  # a denial is kept from the second time on
        pending = zone()
        resolver.announce(pending)
        asked = [asking(resolver, ask, "new") for _ in range(3)]
        await wait_until_held(resolver, 3)
        await everything_else_is_answered(resolver)
        assert not any(one.done() for one in asked)
        resolver.publish(pending)
        assert all(answers(read(packet)) for packet in await asyncio.gather(*asked))


async def test_other_environments_do_not_notice(ask: Ask) -> None:
    async with announced(zone(SERVED), STAGING, pending=(pending := zone())) as resolver:
        asked = asking(resolver, ask, "new")
        await wait_until_held(resolver, 1)
        theirs = asking(resolver, ask, "new", source=STAGING_SOURCE)
        assert read(await theirs).rcode() == dns.rcode.NXDOMAIN
        resolver.publish(worlds.compiled(worlds.staging()))
        await everything_else_is_answered(resolver)
        assert not asked.done()
        resolver.publish(pending)
        assert answers(read(await asked))
        assert resolver.counts.held_pending == 1


async def test_no_other_query_waits_meanwhile(ask: Ask) -> None:
    async with announced(zone(SERVED), pending=(pending := zone())) as resolver:
        waiting = [asking(resolver, ask, "new") for _ in range(20)]
        await wait_until_held(resolver, 20)
        for _ in range(50):
            assert answers(read(await asking(resolver, ask, "old")))
        assert not any(asked.done() for asked in waiting)
        resolver.publish(pending)
        await asyncio.gather(*waiting)


# Environments that are not served yet


async def test_a_pending_environment_is_waited_for(ask: Ask) -> None:
    """Its clients are known by a binding. A name that is not in the pending zone is refused at once."""
    async with announced(STAGING, pending=(pending := zone())) as resolver:
        no = read(await asking(resolver, ask, "nowhere"))
        assert no.rcode() == dns.rcode.REFUSED
        assert "on its way" in error_text(no)
        asked = asking(resolver, ask, "new")
        forwarded = asking(resolver, ask, "www.example.com.")
        await wait_until_held(resolver, 2)
        resolver.publish(pending)
        assert answers(read(await asked))
        assert "forwarding is not configured" in error_text(read(await forwarded))


async def test_a_pending_environment_that_is_withdrawn(ask: Ask) -> None:
    async with announced(STAGING, pending=zone()) as resolver:
        asked = asking(resolver, ask, "new")
        await wait_until_held(resolver, 1)
        resolver.withdraw(PRODUCTION)
        message = read(await asked)
        assert message.rcode() == dns.rcode.REFUSED
        assert "does not exist" in error_text(message)
        assert read(await asking(resolver, ask, "new")).rcode() == dns.rcode.REFUSED


async def test_before_all_are_loaded_a_pending_environment_is_answered_when_published(ask: Ask) -> None:
    async with serving(loaded=False) as resolver:
        resolver.announce(pending := zone())
        asked, other = asking(resolver, ask, "new"), asking(resolver, ask, "new", source=UNBOUND_SOURCE)
        await wait_until_held(resolver, 1)
        resolver.publish(pending)
        assert answers(read(await asked))
        await everything_else_is_answered(resolver)
        assert not other.done()
        resolver.loaded()
        assert read(await other).rcode() == dns.rcode.REFUSED
        assert (resolver.counts.held_loading, resolver.counts.held_pending) == (1, 1)


async def test_a_network_changes_hands_when_its_new_environment_is_published(ask: Ask) -> None:
    heir = zone(worlds.build("heir", 1, PutService("mine"), PutInstance("mine", "m1")))
    moved = zone(worlds.build("production", 9, PutService("new"), PutInstance("new", "n1")))
    async with announced(zone(SERVED), pending=heir) as resolver:
        resolver.announce(moved)
        assert answers(read(await asking(resolver, ask, "old")))
        assert read(await asking(resolver, ask, "mine")).rcode() == dns.rcode.NXDOMAIN
        resolver.withdraw(PRODUCTION)
        resolver.publish(heir)
        resolver.publish(moved)
        assert answers(read(await asking(resolver, ask, "new"))) == ["new AAAA fd12:0:9:1::1"]


# One pending zone after another


async def test_the_newest_zone_is_waited_for_though_an_older_one_is_published_first(ask: Ask) -> None:
    """Until its own deadline: waiting for another zone does not begin anew."""
    older = zone(apply(SERVED, [PutService("between"), PutInstance("between", "b1")], NOW))
    newer = zone(apply(older.environment, [PutService("new"), PutInstance("new", "n1")], NOW))
    async with announced(zone(SERVED), pending=older) as resolver:
        between = asking(resolver, ask, "between")
        await wait_until_held(resolver, 1)
        resolver.announce(newer)
        new = asking(resolver, ask, "new")
        await wait_until_held(resolver, 2)
        resolver.publish(older)
        assert answers(read(await between))
        await everything_else_is_answered(resolver)
        assert not new.done()
        late = asking(resolver, ask, "new")
        await wait_until_held(resolver, 3)
        resolver.publish(newer)
        assert answers(read(await new))
        assert answers(read(await late))
        assert read(await asking(resolver, ask, "nowhere")).rcode() == dns.rcode.NXDOMAIN


async def test_waiting_again_keeps_the_deadline(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "PENDING_HOLD", 0.4)
    async with announced(zone(SERVED), pending=zone()) as resolver:
        began = asyncio.get_running_loop().time()
        asked = asking(resolver, ask, "new")
        await wait_until_held(resolver, 1)
        for _ in range(10):
            resolver.publish(zone(SERVED))
            await asyncio.sleep(0.02)
        assert not asked.done()
        assert read(await asked).rcode() == dns.rcode.SERVFAIL
        assert asyncio.get_running_loop().time() - began < 0.6
        assert (resolver.counts.held_pending, resolver.counts.pending_timeouts) == (1, 1)


async def test_a_name_that_is_no_longer_pending_is_denied(ask: Ask) -> None:
    """A newer revision without the name, or an older one from a restored store, comes in its stead."""
    async with announced(zone(SERVED), pending=zone()) as resolver:
        asked = asking(resolver, ask, "new")
        await wait_until_held(resolver, 1)
        without = zone(SERVED)
        resolver.announce(without)
        resolver.publish(without)
        assert read(await asked).rcode() == dns.rcode.NXDOMAIN
        assert read(await asking(resolver, ask, "new")).rcode() == dns.rcode.NXDOMAIN


async def test_only_so_many_queries_are_held(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MOST_HELD", 2)
    async with announced(zone(SERVED), pending=(pending := zone())) as resolver:
        asked = [asking(resolver, ask, "new") for _ in range(2)]
        await wait_until_held(resolver, 2)
        over = asking(resolver, ask, "new")
        await wait_until_held(resolver, 3)
        if ask is ask_tcp:
            assert read(await over).rcode() == dns.rcode.SERVFAIL
        else:
            assert resolver.counts.dropped["held_too_many"] == 1
            over.cancel()
        resolver.publish(pending)
        assert all(answers(read(packet)) for packet in await asyncio.gather(*asked))
        more = zone(apply(PENDING, [PutService("more"), PutInstance("more", "m1")], NOW))
        resolver.announce(more)
        asked = [asking(resolver, ask, "more") for _ in range(2)]  # there is room again
        await wait_until_held(resolver, 5)
        resolver.publish(more)
        assert all(answers(read(packet)) for packet in await asyncio.gather(*asked))
