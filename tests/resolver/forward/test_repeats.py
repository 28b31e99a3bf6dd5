"""Replies that repeat: the same as if each had been decided anew, and not one longer than it is right."""

from __future__ import annotations

from collections.abc import AsyncIterator

import dns.flags
import dns.rcode
import pytest
import pytest_asyncio

from resolver.forward import cache
from resolver.wire.messages import ErrorCode, Transport
from tests import worlds
from tests.resolver.forward.liar import Liar, lying
from tests.resolver.forward.shell import Client, Clock, forwarding, isolated, world
from tests.resolver.forward.test_forwarder import extended, servfail
from tests.waiting import until


@pytest_asyncio.fixture
async def liar() -> AsyncIterator[Liar]:
    async with lying() as liar:
        yield liar


@pytest_asyncio.fixture
async def client(liar: Liar) -> AsyncIterator[Client]:
    async with forwarding(liar, clock=Clock()) as client:
        yield client


def clock_of(client: Client) -> Clock:
    clock = client.forwarder._clock
    assert isinstance(clock, Clock)
    return clock


def hits(client: Client) -> int:
    """How many replies came from the packet cache."""
    return client.resolver.counts.packet_cache_hits


async def ttl(client: Client, name: str = "brief", **options: object) -> int:
    message = await client.ask(name, **options)  # type: ignore[arg-type]
    return int(message.answer[-1].ttl)


@pytest.mark.parametrize("transport", Transport)
async def test_the_ttl_counts_down_and_nothing_is_parsed(client: Client, liar: Liar, transport: Transport) -> None:
    clock = clock_of(client)
    assert [await ttl(client, transport=transport) for _ in range(2)] == [10, 10]
    before = hits(client)
    for seconds in range(1, 9):
        clock.now += 0.9
        assert await ttl(client, transport=transport) == 10 - int(seconds * 0.9)
    assert hits(client) == before + 8
    assert liar.count("brief") == 1
    assert client.forwarder.counts.hits == 9


@pytest.mark.parametrize("options", [{"payload": None}, {"dnssec_ok": True}, {"flags": dns.flags.CD}])
async def test_another_query_has_another_reply(client: Client, options: dict[str, object]) -> None:
    for _ in range(3):
        plain, other = await client.ask("small"), await client.ask("small", **options)  # type: ignore[arg-type]
        assert (plain.edns, bool(plain.flags & dns.flags.CD)) == (0, False)
        assert other.edns == (-1 if options.get("payload", 0) is None else 0)
        assert bool(other.flags & dns.flags.CD) == ("flags" in options)
        assert bool(other.ednsflags & dns.flags.DO) == ("dnssec_ok" in options)
    # Of each question the first was sent upstream, and the next one was packed.
    assert hits(client) == (3 if "payload" in options else 2)


async def test_it_ends_with_the_ttl(client: Client, liar: Liar) -> None:
    for _ in range(3):
        await client.ask("brief")
    clock_of(client).now += 10
    assert await ttl(client) == 10
    assert liar.count("brief") == 2


async def test_an_answer_that_is_used_within_one_second_alone_is_in_use(client: Client, liar: Liar) -> None:
    for _ in range(4):
        await client.ask("brief")
    clock_of(client).now += 9.5
    assert await ttl(client) == 1
    await until(lambda: client.forwarder.counts.prefetched == 1 and not client.forwarder.in_flight)
    assert [await ttl(client) for _ in range(3)] == [10] * 3
    assert liar.count("brief") == 2


async def test_a_stale_answer_is_decided_anew_each_time(client: Client, liar: Liar) -> None:
    for _ in range(3):
        await client.ask("brief")
    liar.always = servfail
    clock_of(client).now += 11
    before = hits(client)
    for _ in range(3):
        answer = await client.ask("brief")
        assert answer.answer[0].ttl == cache.STALE_TTL
        assert extended(answer) == [ErrorCode.STALE_ANSWER]
    assert hits(client) == before


async def test_an_alias_of_the_environment_keeps_its_own_ttl(client: Client) -> None:
    """It is the environment's record, which does not age as what an upstream has said."""
    clock = clock_of(client)
    for _ in range(4):
        message = await client.ask("shop.railway.internal.")
        assert message.flags & dns.flags.AA
        assert [rrset.ttl for rrset in message.answer] == [60, 300 - int(clock.now - 10_000)]
        clock.now += 0.5
    assert hits(client) == 1  # it is packed anew each second


async def test_what_the_cache_has_dropped_is_not_given_from_then_on(client: Client, liar: Liar) -> None:
    for _ in range(3):
        await client.ask("brief")
    client.forwarder._cache._entries.clear()
    clock_of(client).now += 1
    assert await ttl(client) == 10
    assert liar.count("brief") == 2


async def test_it_belongs_to_one_environment_and_ends_when_that_is_isolated(client: Client, liar: Liar) -> None:
    for _ in range(3):
        await client.ask("brief")
    await client.ask("brief", source=worlds.STAGING_SOURCE)
    assert liar.count("brief") == 2
    client.resolver.publish(isolated(world()[0]))
    assert (await client.ask("brief")).rcode() == dns.rcode.NXDOMAIN
    assert (await client.ask("brief", source=worlds.STAGING_SOURCE)).rcode() == dns.rcode.NOERROR
