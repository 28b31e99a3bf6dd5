"""Negative controls: the tests of this folder fail against a forwarder that is wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from resolver.forward import exchange, forwarder, pool
from resolver.forward.boundary import Boundary
from resolver.forward.cache import Cache
from resolver.forward.exchange import Question
from resolver.wire.messages import Rcode, Reply, Response
from resolver.wire.upstream_messages import parse_response
from tests.resolver.forward import test_answers, test_forwarder
from tests.resolver.forward.liar import lying
from tests.resolver.forward.shell import forwarding
from tests.resolver.forward.test_answers import GOOD, USELESS, Case
from zones.names import EnvironmentId
from zones.records import RRset


def believes_any_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(exchange, "parse_response", lambda packet, query: parse_response(query[:2] + packet[2:], query))


def believes_any_question(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(exchange, "parse_response", lambda packet, query: parse_response(packet[:2] + packet[2:], packet))


def passes_on_what_it_hears(patch: pytest.MonkeyPatch) -> None:
    def scrub(question: Question, response: Response, _boundary: Boundary, *, is_protected: bool) -> Reply:
        answer = tuple(RRset(r.name, r.rtype, r.ttl, (r.rdata,)) for r in response.answer)
        return Reply(Rcode(response.rcode), answer)

    patch.setattr(pool, "scrub", scrub)


def is_patient(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forwarder, "RESPONSE_TIMER", 2.0)


@pytest.mark.parametrize(
    ("sabotage", "label"),
    [
        (believes_any_id, "wrongid"),
        (believes_any_question, "wrongquestion"),
        (passes_on_what_it_hears, "shuffled"),
        (passes_on_what_it_hears, "lame"),
        (passes_on_what_it_hears, "zero"),
        (is_patient, "silent"),
    ],
)
async def test_a_wrong_answer_is_seen(
    sabotage: Callable[[pytest.MonkeyPatch], None], label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    case = next(case for case in (*GOOD, *USELESS) if case.label == label)
    with pytest.raises(AssertionError):
        await test_answers.test_one_upstream(case)


async def test_a_cache_that_all_share_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    find, store, everyone = Cache.find, Cache.store, EnvironmentId("all")
    monkeypatch.setattr(Cache, "find", lambda self, key, now: find(self, (everyone, key[1]), now))
    monkeypatch.setattr(Cache, "store", lambda self, key, *rest: store(self, (everyone, key[1]), *rest))
    with pytest.raises(AssertionError):
        await test_forwarder.TestEnvironments().test_what_one_asked_the_other_asks_again()


async def test_a_failure_in_the_place_of_an_answer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Cache.store

    def forget(self: Cache, key: tuple[EnvironmentId, Question], reply: Reply, now: float) -> None:
        if reply.rcode == Rcode.SERVFAIL:
            self.__init__()  # type: ignore[misc]
        store(self, key, reply, now)

    monkeypatch.setattr(Cache, "store", forget)
    with pytest.raises(AssertionError):
        await test_forwarder.TestCache().test_a_failure_never_takes_the_place_of_an_answer()


async def test_the_check_itself_passes_what_is_right() -> None:
    async with lying() as liar, forwarding(liar) as client:
        await test_answers.check_both(client, replace(Case("small"), answer=test_answers.ADDRESS))
