"""Peers that have fallen silent, and those that are merely idle."""

from __future__ import annotations

from agent.plan.health import SILENCE, Health
from agent.plan.peers import ActualPeer
from tests.agent.worlds import key


def look(health: Health, now: float, *, received: int, sent: int) -> None:
    health.note({key(1): ActualPeer(None, frozenset(), received=received, sent=sent)}, now)


def test_a_peer_that_is_sent_to_and_says_nothing_is_silent() -> None:
    health = Health()
    look(health, 0.0, received=100, sent=100)
    look(health, 5.0, received=100, sent=300)
    assert not health.answers(key(1))
    assert health.silent(5.0 + SILENCE - 0.1) == {}
    assert health.silent(5.0 + SILENCE) == {key(1): SILENCE}


def test_a_peer_that_nothing_is_sent_to_may_say_nothing() -> None:
    health = Health()
    for now in (0.0, 50.0, 100.0):
        look(health, now, received=100, sent=100)
    assert health.silent(200.0) == {}


def test_whatever_comes_from_it_ends_the_silence() -> None:
    health = Health()
    look(health, 0.0, received=0, sent=0)
    look(health, 5.0, received=0, sent=148)
    look(health, 20.0, received=32, sent=148)
    assert health.answers(key(1))
    look(health, 60.0, received=32, sent=148)
    assert health.silent(100.0) == {}


def test_a_peer_that_was_never_heard_of_is_silent_too() -> None:
    health = Health()
    look(health, 0.0, received=0, sent=0)
    look(health, 5.0, received=0, sent=148)
    look(health, 40.0, received=0, sent=1480)
    assert health.silent(40.0) == {key(1): 35.0}


def test_a_peer_that_is_gone_is_forgotten() -> None:
    health = Health()
    look(health, 0.0, received=0, sent=0)
    look(health, 5.0, received=0, sent=148)
    health.note({}, 40.0)
    assert health.silent(40.0) == {}
