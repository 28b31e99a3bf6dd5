"""Which peers are asked whether they are there: all that are quiet, in turn, and none more than it needs."""

from __future__ import annotations

from agent.mesh.idle import GIVES_UP, IDLE, READINGS, SECOND, IdlePeers
from agent.plan.health import SILENCE, Health
from agent.plan.peers import ActualPeer
from tests.agent.worlds import key
from zones.keys import PublicKey

INITIATION, RESPONSE = 148, 92  # octets (the WireGuard paper, §5.4)


class Peers:
    """The peers 1 to ``count`` of a device, which is read every five seconds."""

    def __init__(self, count: int, *, begins: bool = True) -> None:
        self.health, self.idle, self.now = Health(), IdlePeers(), 0.0
        self.hosts = dict.fromkeys(map(key, range(1, count + 1)), begins)
        self.received = dict.fromkeys(self.hosts, 0)
        self.sent = dict.fromkeys(self.hosts, 0)
        self.blocked: set[PublicKey] = set()
        self.asked: list[tuple[float, PublicKey]] = []

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 5.0
            peers = {
                one: ActualPeer(None, frozenset(), received=self.received[one], sent=self.sent[one])
                for one in self.hosts
            }
            self.health.note(peers, self.now)
            for one in self.idle.due(self.hosts, (), self.health, self.now):
                self.asked.append((self.now, one))
                self.sent[one] += INITIATION
                self.received[one] += 0 if one in self.blocked else RESPONSE


def test_a_blocked_path_that_nobody_uses_is_found() -> None:
    peers = Peers(3)
    peers.blocked = {key(2)}
    peers.run(IDLE + 5 + SILENCE + 10)
    assert list(peers.health.silent(peers.now)) == [key(2)]


def test_hosts_that_are_there_are_asked_every_three_minutes() -> None:
    peers = Peers(3)
    peers.run(4 * IDLE)
    assert 9 <= len(peers.asked) <= 12
    assert peers.health.silent(peers.now) == {}


def test_nobody_is_asked_who_speaks() -> None:
    peers = Peers(2)
    for _ in range(100):
        peers.received[key(1)] += 32
        peers.run(10)
    assert {one for _, one in peers.asked} == {key(2)}


def test_who_is_silent_is_asked_until_it_is_there_again() -> None:
    peers = Peers(1)
    peers.blocked = {key(1)}
    peers.run(5 + IDLE + 3 * GIVES_UP)
    assert len(peers.asked) == 4
    peers.blocked = set()
    peers.run(GIVES_UP + 10)
    assert peers.health.silent(peers.now) == {}


def test_of_two_hosts_one_waits_longer() -> None:
    """Two handshakes at once hold each other up for five seconds."""
    first, second = Peers(1), Peers(1, begins=False)
    for peers in (first, second):
        peers.run(IDLE + 60)
    assert second.asked[0][0] - first.asked[0][0] == SECOND


def test_a_thousand_are_asked_a_few_at_a_time_and_all_in_three_minutes() -> None:
    peers = Peers(1000)
    peers.run(2 * IDLE + 10)
    moments = [moment for moment, _ in peers.asked]
    assert max(map(moments.count, set(moments))) <= 1 + 1000 // READINGS
    assert {one for _, one in peers.asked} == set(peers.hosts)


def test_a_peer_that_may_not_know_this_host_yet_is_not_asked() -> None:
    peers = Peers(1)
    peers.run(IDLE - 10)
    assert peers.idle.due(peers.hosts, {key(1)}, peers.health, 1000.0) == []
    assert peers.idle.due(peers.hosts, (), peers.health, 1000.0) == [key(1)]
