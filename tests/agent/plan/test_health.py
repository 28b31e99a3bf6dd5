"""Peers that have fallen silent, and those that are merely idle."""

from __future__ import annotations

from agent.plan.health import SILENCE, Health
from agent.plan.peers import ActualPeer
from tests.agent.worlds import key


def look(health: Health, now: float, *, received: int, sent: int, keepalive: int = 0) -> None:
    health.note({key(1): ActualPeer(None, frozenset(), keepalive, received=received, sent=sent)}, now)


def test_a_peer_that_is_sent_to_and_says_nothing_is_silent() -> None:
    health = Health()
    look(health, 0.0, received=100, sent=100)
    look(health, 5.0, received=100, sent=300)
    assert health.answers(key(1)), "it has had no time yet"
    assert health.silent(5.0 + SILENCE - 0.1) == {}
    look(health, 5.0 + SILENCE, received=100, sent=900)
    assert health.silent(5.0 + SILENCE) == {key(1): SILENCE}
    assert not health.answers(key(1))


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


def test_the_keepalive_that_answers_one_way_traffic_is_owed_no_answer() -> None:
    """We receive data and send none: WireGuard sends one keepalive, which the peer answers with nothing."""
    health = Health()
    look(health, 0.0, received=1_000, sent=100)
    look(health, 5.0, received=2_000, sent=100)
    for now in (10.0, 15.0, 60.0, 600.0):
        look(health, now, received=2_000, sent=132)
    assert health.answers(key(1))
    assert health.silent(600.0) == {}


def test_one_way_traffic_to_a_healthy_peer_raises_no_alarm() -> None:
    """We send data all the time and receive nothing but the peer's keepalive each 10 s."""
    health = Health()
    for step in range(120):  # ten minutes, a reading each 5 s
        look(health, step * 5.0, received=32 * (step // 2), sent=5_000 * step)
        assert health.answers(key(1))
        assert health.silent(step * 5.0) == {}


def test_a_persistent_keepalive_is_owed_no_answer() -> None:
    health = Health()
    for step in range(120):  # one every 25 s, and none comes back
        look(health, step * 5.0, received=500, sent=32 * (step // 5), keepalive=25)
    assert health.silent(600.0) == {}


def test_a_port_that_is_blocked_is_named_within_30_s_of_the_first_packet() -> None:
    health, blocked_at, named_at = Health(), 101.0, 0.0
    for now in range(0, 200, 5):
        look(health, now, received=100 * int(min(now, blocked_at)), sent=100 * now)
        if health.silent(now) and not named_at:
            named_at = now
    assert blocked_at < named_at <= blocked_at + 30


def test_a_handshake_that_nobody_answers_makes_a_peer_silent() -> None:
    health = Health()
    look(health, 0.0, received=0, sent=0)
    for now in (5.0, 10.0, 15.0, 20.0, 25.0):
        look(health, now, received=0, sent=148 * int(now / 5))
    assert health.silent(25.0) == {key(1): 20.0}
