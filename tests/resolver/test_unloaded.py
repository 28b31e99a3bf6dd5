"""What is answered before any environment is loaded, and while what is served is from a snapshot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.edns
import dns.message
import dns.rcode
import pytest

from resolver import server as servers
from resolver.counts import QueryCounts, ReplyCounter
from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import Routes
from resolver.net import held
from resolver.packet_cache import PacketCaches, make_entry
from resolver.responder import ForwardedQuery, Responder
from resolver.scope import ScopeTable
from resolver.server import Resolver
from resolver.wire.messages import Hold, Transport
from tests import worlds
from tests.resolver.forward.liar import lying
from tests.resolver.messages import answers, error_text, query, read
from tests.resolver.servers import ask_tcp, ask_udp, serving
from tests.waiting import scaled, until
from zones.addresses import Address
from zones.edits import SetIsolated, apply

PRODUCTION = worlds.compiled(worlds.production())
SOURCE = worlds.PRODUCTION_SOURCE
INSIDE = bytes(Address.parse("fd12:5b1e:90c4:1::1"))  # an instance of production
RESOLVER = bytes(Address.parse("fd12::10"))
OUTSIDE = "small.liar.example."  # a name that the test's upstream has


@asynccontextmanager
async def unloaded() -> AsyncIterator[Resolver]:
    """A resolver with an upstream, and no environments yet."""
    async with (
        lying() as upstream,
        serving(loaded=False, forwarder=Forwarder(Routes.parse((str(upstream),)), worlds.PLATFORM)) as resolver,
    ):
        yield resolver


async def ask(resolver: Resolver, name: str, rtype: str = "AAAA", source: str = SOURCE) -> dns.message.Message:
    return read(await ask_udp(resolver.addresses[0], query(name, rtype, payload=1232), source))


def error_code(reply: dns.message.Message) -> int | None:
    codes = [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)]
    return codes[0] if codes else None


# Nothing is loaded, and the source does not answer


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        ("localhost.", "A", "localhost. A 127.0.0.1"),
        ("1.0.0.127.in-addr.arpa.", "PTR", "1.0.0.127.in-addr.arpa. PTR localhost."),
        ("printer.local.", "AAAA", None),
        ("4.3.2.10.in-addr.arpa.", "PTR", None),
        ("other.internal.", "AAAA", None),
    ],
)
async def test_special_names_are_answered_at_once(name: str, rtype: str, expected: str | None) -> None:
    async with unloaded() as resolver:
        reply = await ask(resolver, name, rtype)
        assert reply.rcode() == (dns.rcode.NOERROR if expected else dns.rcode.NXDOMAIN)
        assert [f"{rrset.name} {rrset.to_text().split()[3]} {rrset[0]}" for rrset in reply.answer] == (
            [expected] if expected else []
        )
        assert resolver.counts.held_loading == 0


async def test_the_outside_world_is_forwarded_while_the_source_is_away() -> None:
    async with unloaded() as resolver:
        resolver.source_away()
        for asked in (ask_udp, ask_tcp):
            reply = read(await asked(resolver.addresses[0], query(OUTSIDE, "A"), SOURCE))
            assert reply.rcode() == dns.rcode.NOERROR
            assert reply.answer
        assert resolver.counts.held_loading == 0


async def test_a_query_that_waits_is_forwarded_when_the_source_turns_out_to_be_away() -> None:
    async with unloaded() as resolver:
        asked = asyncio.ensure_future(ask(resolver, OUTSIDE, "A"))
        await until(lambda: resolver.counts.held_loading == 1)
        resolver.source_away()
        assert (await asked).answer


async def test_an_environment_that_turns_out_to_be_isolated_has_nothing_forwarded() -> None:
    """While the source answers, it is known in a moment which environments forward nothing."""
    async with unloaded() as resolver:
        asked = asyncio.ensure_future(ask(resolver, OUTSIDE, "A"))
        await until(lambda: resolver.counts.held_loading == 1)
        resolver.publish(worlds.compiled(apply(worlds.production(), [SetIsolated(True)], worlds.NOW)))
        resolver.loaded()
        reply = await asked
        assert reply.rcode() == dns.rcode.NXDOMAIN
        assert "isolated" in error_text(reply)


@pytest.mark.parametrize("name", ["api", "nowhere", "ns", "1.0.0.0.4.c.0.9.e.1.b.5.2.1.d.f.ip6.arpa."])
async def test_names_of_environments_wait_and_then_fail_and_are_never_denied(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "LOADING_HOLD", 0.1)
    async with unloaded() as resolver:
        resolver.source_away()
        reply = await ask(resolver, name)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert resolver.counts.held_loading == 1


class TestWhoIsForwardedFor:
    """This resolver is no open one: only for those that may be members of an environment."""

    @staticmethod
    def outcome(source: bytes, destination: bytes) -> object:
        scopes = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
        scopes.is_source_away = True
        responder = Responder(scopes, QueryCounts(), Forwarder(Routes.parse(("192.0.2.53",)), worlds.PLATFORM))
        return responder.respond(query(OUTSIDE, "A"), scopes.scope_of(source, destination).state, Transport.UDP)

    def test_addresses_of_the_platform_and_those_that_are_bound(self) -> None:
        for source in (INSIDE, bytes([127, 0, 0, 2])):
            assert isinstance(self.outcome(source, RESOLVER), ForwardedQuery)

    @pytest.mark.parametrize("source", [bytes([192, 0, 2, 1]), bytes(Address.parse("fd12:5b1e:90c4::10"))])
    def test_not_whoever_asks_the_resolver_address_of_an_environment(self, source: bytes) -> None:
        assert self.outcome(source, bytes(Address.parse("fd12:5b1e:90c4::10"))) == Hold()

    @pytest.mark.parametrize("source", ["2001:db8::1", "fd12::77", "fd13:5b1e:90c4::1"])
    def test_nobody_else(self, source: str) -> None:
        assert self.outcome(bytes(Address.parse(source)), RESOLVER) == Hold()
        assert self.outcome(bytes([192, 0, 2, 1]), RESOLVER) == Hold()

    def test_networks_share_no_forwarded_answers(self) -> None:
        one = self.outcome(INSIDE, RESOLVER)
        other = self.outcome(bytes(Address.parse("fd12:5b1e:90c5:1::1")), RESOLVER)
        bound = self.outcome(bytes([127, 0, 0, 2]), RESOLVER)
        kept = {each.environment for each in (one, other, bound) if isinstance(each, ForwardedQuery)}
        assert len(kept) == 3
        assert worlds.PRODUCTION in kept  # a binding names its environment


async def test_once_all_is_loaded_who_is_in_no_environment_is_refused() -> None:
    async with unloaded() as resolver:
        resolver.source_away()
        assert (await ask(resolver, "localhost.", "A")).rcode() == dns.rcode.NOERROR
        resolver.loaded()
        assert (await ask(resolver, "localhost.", "A")).rcode() == dns.rcode.REFUSED
        assert (await ask(resolver, OUTSIDE, "A")).rcode() == dns.rcode.REFUSED


# From a snapshot


@asynccontextmanager
async def restored(age: float) -> AsyncIterator[Resolver]:
    """A resolver that serves production from a snapshot of ``age`` seconds ago, while its source is away."""
    async with unloaded() as resolver:
        resolver.restored(time.time() - age)
        resolver.publish(PRODUCTION)
        resolver.source_away()
        yield resolver


async def test_an_answer_from_a_snapshot_says_how_old_it_is() -> None:
    async with restored(age=7300) as resolver:
        for _ in range(3):  # also from the packet cache
            reply = await ask(resolver, "api")
            assert len(answers(reply)) == 2
            assert error_code(reply) == dns.edns.EDECode.STALE_ANSWER
            assert "from a snapshot that is 2 h old" in error_text(reply)


async def test_each_rotation_says_so() -> None:
    async with restored(age=60) as resolver:
        replies = [await ask(resolver, "crowd") for _ in range(5)]
        assert {error_code(reply) for reply in replies} == {dns.edns.EDECode.STALE_ANSWER}
        assert len({answers(reply)[0] for reply in replies}) == 5


async def test_a_denial_from_a_snapshot_is_a_stale_one() -> None:
    async with restored(age=60) as resolver:
        reply = await ask(resolver, "nowhere")
        assert reply.rcode() == dns.rcode.NXDOMAIN
        assert error_code(reply) == dns.edns.EDECode.STALE_NXDOMAIN_ANSWER


@pytest.mark.parametrize("name", ["localhost.", OUTSIDE])
async def test_what_is_not_from_the_snapshot_is_not_called_stale(name: str) -> None:
    async with restored(age=60) as resolver:
        reply = await ask(resolver, name, "A")
        assert reply.answer
        assert error_code(reply) is None


async def test_the_age_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "AGE_EVERY", 0.05)
    async with restored(age=0) as resolver:
        seen: set[str] = set()
        async with asyncio.timeout(scaled(20)):
            while len(seen) < 3:
                seen.add(error_text(await ask(resolver, "api")))


async def test_when_the_source_is_back_nothing_is_stale() -> None:
    async with restored(age=60) as resolver:
        assert error_code(await ask(resolver, "api")) is not None
        resolver.loaded()
        assert error_code(await ask(resolver, "api")) is None
        assert resolver.stale_since is None


async def test_an_environment_that_the_snapshot_does_not_have_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been made since."""
    monkeypatch.setattr(held, "LOADING_HOLD", 0.1)
    async with restored(age=60) as resolver:
        reply = await ask(resolver, "api", source=worlds.STAGING_SOURCE)
        assert reply.rcode() == dns.rcode.SERVFAIL


def test_clearing_drops_both_generations() -> None:
    caches = PacketCaches()
    cache, entry = caches.new_cache(), make_entry(iter([b""]), ReplyCounter(), 1)
    cache.put("old", entry)
    cache.start_generation()
    cache.put("new", entry)
    caches.clear()
    assert cache.get("old") is cache.get("new") is None
