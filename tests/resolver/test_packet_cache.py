"""The memo changes nothing but the time: what it gives is what the heart gives, and it stays bounded."""

from __future__ import annotations

import socket

import dns.edns
import pytest

from resolver import packet_cache as memo_module
from resolver.answer import answer
from resolver.counts import Counts, Tally
from resolver.packet_cache import Entry, Memos
from resolver.responder import Responder
from resolver.scope import Directory
from resolver.wire import codec as wire
from resolver.wire.messages import Query, Reply, Transport
from tests import worlds
from tests.resolver.cases import CASES, Case
from tests.resolver.messages import query

OURS = [case for case in CASES if case.source == worlds.PRODUCTION_SOURCE]


@pytest.fixture
def directory() -> Directory:
    directory = Directory(worlds.PLATFORM, worlds.BINDINGS)
    directory.publish(worlds.compiled(worlds.production()))
    directory.is_loaded = True
    return directory


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("payload", [None, 512, 4096])
@pytest.mark.parametrize("case", OURS, ids=str)
def test_the_memo_and_the_heart_give_the_same_octets(
    case: Case, payload: int | None, transport: Transport, directory: Directory
) -> None:
    serving = directory.place_of(socket.inet_aton(case.source), worlds.ASKED).serving
    assert serving.zone
    packet = query(case.name, case.rtype, payload=payload)
    parsed = wire.parse(packet)
    assert isinstance(parsed, Query)
    counts = Counts()
    responder = Responder(directory, counts)
    turns = 5
    for turn in range(turns):
        outcome = answer(parsed, serving.zone, turn)
        if not isinstance(outcome, Reply):
            return
        expected = wire.pack(parsed.head, outcome, wire.limit(parsed.head, transport))
        assert responder.respond(packet, serving, transport) == expected
    assert counts.memo_hits == turns - 1
    assert sum(counts.snapshot().values()) == turns


def test_another_id_is_the_same_question(directory: Directory) -> None:
    serving = directory.place_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED).serving
    counts = Counts()
    responder = Responder(directory, counts)
    first = responder.respond(query("single", id_=1), serving, Transport.UDP)
    second = responder.respond(query("single", id_=2), serving, Transport.UDP)
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    assert (first[:2], second[:2], first[2:]) == (b"\0\1", b"\0\2", second[2:])
    assert (counts.memo_hits, counts.memo_misses) == (1, 1)


def test_what_a_client_makes_up_each_time_is_not_remembered(directory: Directory) -> None:
    serving = directory.place_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED).serving
    counts = Counts()
    responder = Responder(directory, counts)
    for number in range(100):
        cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, number.to_bytes(8, "big"))
        responder.respond(query("single", payload=1232, options=[cookie]), serving, Transport.UDP)
    assert counts.memo_misses == 1
    assert len(serving.memos[Transport.UDP].young) == 1


def test_a_new_zone_has_a_new_memo(directory: Directory) -> None:
    place = directory.place_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED)
    before = place.serving
    Responder(directory, Counts()).respond(query("single"), before, Transport.UDP)
    directory.publish(worlds.compiled(worlds.production()))
    assert place.serving.memos[Transport.UDP].young == {}
    assert directory.place_of(socket.inet_aton(worlds.PRODUCTION_SOURCE), worlds.ASKED) is place


def entry() -> Entry:
    return iter(()), Tally()


def test_what_is_asked_often_outlives_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo_module, "GENERATION", 10)
    memo = Memos().new_memo()
    hot = entry()
    memo.keep("hot", hot)
    for number in range(100):
        memo.keep(number, entry())
        assert memo.recall("hot") is hot
        assert len(memo.young) <= 10
    assert memo.recall(0) is None


def test_all_memos_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo_module, "GENERATION", 100)
    memos = Memos()
    many = [memos.new_memo() for _ in range(50)]
    for number in range(1000):
        many[number % 50 if number < 500 else 0].keep(number, entry())
        assert sum(len(memo.young) for memo in many) <= 100
        assert sum(len(memo.young) + len(memo._old) for memo in many) <= 200
