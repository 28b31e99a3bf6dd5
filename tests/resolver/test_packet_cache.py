"""The packet cache saves time and changes nothing else: its octets are those that `answer` gives, and it is bounded."""

from __future__ import annotations

import socket

import dns.edns
import pytest

from resolver import packet_cache
from resolver.answer import answer
from resolver.counts import QueryCounts, ReplyCounter
from resolver.packet_cache import PacketCaches, PacketEntry
from resolver.responder import Responder, reply_without_forwarder
from resolver.scope import ScopeTable
from resolver.wire.messages import Forward, Query, Transport
from resolver.wire.packer import pack, size_limit
from resolver.wire.parser import parse
from tests import worlds
from tests.resolver.cases import CASES, Case
from tests.resolver.messages import query

OURS = [case for case in CASES if case.source == worlds.PRODUCTION_SOURCE]


@pytest.fixture
def scopes() -> ScopeTable:
    scopes = ScopeTable(worlds.PLATFORM, worlds.BINDINGS)
    scopes.publish(worlds.compiled(worlds.production()))
    scopes.is_loaded = True
    return scopes


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("payload", [None, 512, 4096])
@pytest.mark.parametrize("case", OURS, ids=str)
def test_the_packet_cache_and_answer_give_the_same_octets(
    case: Case, payload: int | None, transport: Transport, scopes: ScopeTable
) -> None:
    state = scopes.scope_of(socket.inet_aton(case.source), worlds.ASKED).state
    assert state.zone
    packet = query(case.name, case.rtype, payload=payload)
    parsed = parse(packet)
    assert isinstance(parsed, Query)
    counts = QueryCounts()
    responder = Responder(scopes, counts)
    rotations = 5
    for rotation in range(rotations):
        outcome = answer(parsed, state.zone, rotation)
        if isinstance(outcome, Forward):
            outcome = reply_without_forwarder(outcome)
        assert outcome.rcode.name == case.rcode
        expected = pack(parsed.header, outcome, size_limit(parsed.header, transport))
        assert responder.respond(packet, state, transport) == expected
    kept_from = 1 if case.rcode == "NOERROR" else 2
    assert counts.packet_cache_hits == rotations - kept_from
    assert sum(counts.snapshot().values()) == rotations


def test_another_id_is_the_same_question(scopes: ScopeTable) -> None:
    state = scopes.scope_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED).state
    counts = QueryCounts()
    responder = Responder(scopes, counts)
    first = responder.respond(query("single", id_=1), state, Transport.UDP)
    second = responder.respond(query("single", id_=2), state, Transport.UDP)
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    assert (first[:2], second[:2], first[2:]) == (b"\0\1", b"\0\2", second[2:])
    assert (counts.packet_cache_hits, counts.packet_cache_misses) == (1, 1)


def test_what_a_client_makes_up_for_each_query_is_no_part_of_the_key(scopes: ScopeTable) -> None:
    state = scopes.scope_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED).state
    counts = QueryCounts()
    responder = Responder(scopes, counts)
    for number in range(100):
        cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, number.to_bytes(8, "big"))
        responder.respond(query("single", payload=1232, options=[cookie]), state, Transport.UDP)
    assert counts.packet_cache_misses == 1
    assert len(state.udp_cache.recent) == 1


def test_a_new_zone_has_an_empty_cache(scopes: ScopeTable) -> None:
    scope = scopes.scope_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED)
    before = scope.state
    Responder(scopes, QueryCounts()).respond(query("single"), before, Transport.UDP)
    scopes.publish(worlds.compiled(worlds.production()))
    assert scope.state.udp_cache.recent == {}
    assert scopes.scope_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED) is scope


def test_a_flood_of_names_that_do_not_exist_keeps_nothing(scopes: ScopeTable) -> None:
    state = scopes.scope_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED).state
    responder = Responder(scopes, QueryCounts())
    for number in range(1000):
        responder.respond(query(f"made-up-{number}"), state, Transport.UDP)
    assert len(state.udp_cache.recent) < 50  # those that were taken for another, some eight


def test_a_denial_is_kept_when_it_is_asked_for_again_before_many_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_cache, "MOST_MARKED", 10)
    cache = PacketCaches().new_cache()
    assert not cache.is_asked_again(0)
    assert cache.is_asked_again(0)
    assert [cache.is_asked_again(number) for number in range(1, 11)] == [False] * 10
    assert not cache.is_asked_again(0)


def entry() -> PacketEntry:
    return iter(()), ReplyCounter(), 1


def test_what_is_asked_often_outlives_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_cache, "GENERATION", 10)
    cache = PacketCaches().new_cache()
    hot = entry()
    cache.put("hot", hot)
    for number in range(100):
        cache.put(number, entry())
        assert cache.get("hot") is hot
        assert len(cache.recent) <= 10
    assert cache.get(0) is None


def test_all_packet_caches_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_cache, "GENERATION", 100)
    caches = PacketCaches()
    many = [caches.new_cache() for _ in range(50)]
    for number in range(1000):
        many[number % 50 if number < 500 else 0].put(number, entry())
        assert sum(len(cache.recent) for cache in many) <= 100
        assert sum(len(cache.recent) + len(cache._previous) for cache in many) <= 200
