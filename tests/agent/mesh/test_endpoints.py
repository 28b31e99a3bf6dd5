"""Which endpoint the device is to have for a peer: the registered one, or the one that its packets came from."""

from __future__ import annotations

from collections.abc import Mapping

from agent.mesh.endpoints import Endpoints
from agent.plan.health import SILENCE, Health
from agent.plan.peers import ActualPeer
from agent.plan.wanted import Peer
from tests.agent.worlds import key
from zones.keys import PublicKey

REGISTERED, ROAMED, OTHER = "10.0.0.1:51820", "192.0.2.1:4711", "192.0.2.9:51820"
WANTED = {key(1): Peer(REGISTERED, frozenset())}
KEEPALIVES = 1000  # octets, more than the keepalives that no peer answers


def device(endpoint: str, sent: int = 0) -> dict[PublicKey, ActualPeer]:
    return {key(1): ActualPeer(endpoint, frozenset(), received=100, sent=sent)}


def after(*readings: tuple[float, str | None], wanted: Mapping[PublicKey, Peer] = WANTED) -> tuple[Endpoints, Health]:
    """After passes that read the peer at these times and endpoints; None where the device has lost it."""
    endpoints, health = Endpoints(), Health()
    endpoints.applied(wanted)
    for now, endpoint in readings:
        peers: dict[PublicKey, ActualPeer] = device(endpoint, sent=int(now) * KEEPALIVES) if endpoint else {}
        health.note(peers, now)
        endpoints.note(peers, health)
        endpoints.applied(wanted)
    return endpoints, health


def test_a_peer_that_answers_stays_where_it_is() -> None:
    endpoints, health = after((0, ROAMED))
    assert endpoints.stable(WANTED, device(ROAMED), health) == {key(1)}


def test_a_peer_that_is_silent_is_looked_for_where_it_registered() -> None:
    endpoints, health = after((0, ROAMED), (1, ROAMED), (2 + SILENCE, ROAMED))
    assert endpoints.stable(WANTED, device(ROAMED), health) == set()
    assert endpoints.locate(WANTED, {}) == WANTED


def test_a_peer_that_was_lost_is_looked_for_where_it_was() -> None:
    endpoints, health = after((0, ROAMED), (1, None))
    assert endpoints.locate(WANTED, {}) == {key(1): Peer(ROAMED, frozenset())}
    # Once it is there again, the passes until the next reading leave it there.
    endpoints.applied(WANTED)
    assert endpoints.locate(WANTED, device(ROAMED)) == WANTED
    assert endpoints.stable(WANTED, device(ROAMED), health) == {key(1)}


def test_a_peer_that_registers_elsewhere_is_moved_there() -> None:
    endpoints, health = after((0, ROAMED), (1, None))
    moved = {key(1): Peer(OTHER, frozenset())}
    assert endpoints.moved(moved) == {key(1)}
    assert endpoints.stable(moved, device(ROAMED), health) == set()
    assert endpoints.locate(moved, {}) == moved
    endpoints.applied(moved)
    assert endpoints.moved(moved) == set()
    assert endpoints.locate(moved, {}) == moved


def test_a_peer_behind_nat_stays_where_its_packets_came_from_whatever_it_registers() -> None:
    """What it registers is an address on its own site, where nobody else can send to."""
    before, now = ({key(1): Peer(at, frozenset(), is_behind_nat=True)} for at in (REGISTERED, "[fd00::1]:51820"))
    endpoints, health = after((0, ROAMED), wanted=before)
    for _ in range(2):
        assert endpoints.stable(now, device(ROAMED), health) == {key(1)}
        assert endpoints.locate(now, {})[key(1)].endpoint == ROAMED
        endpoints.applied(now)


def test_after_a_change_of_our_own_address_all_are_where_they_registered() -> None:
    endpoints, health = after((0, ROAMED))
    endpoints.forget()
    assert endpoints.stable(WANTED, device(ROAMED), health) == set()
    endpoints.applied(WANTED)
    assert endpoints.stable(WANTED, device(REGISTERED), health) == {key(1)}


def test_after_a_change_of_our_own_address_a_peer_behind_nat_stays_where_its_packets_came_from() -> None:
    behind_nat = {key(1): Peer(REGISTERED, frozenset(), is_behind_nat=True)}
    endpoints, health = after((0, ROAMED), wanted=behind_nat)
    endpoints.forget()
    assert endpoints.stable(behind_nat, device(ROAMED), health) == {key(1)}
    assert endpoints.locate(behind_nat, {}) == {key(1): Peer(ROAMED, frozenset(), is_behind_nat=True)}


def test_a_peer_where_it_registered_has_not_roamed() -> None:
    endpoints, _ = after((0, ROAMED), (1, REGISTERED), (2, None))
    assert endpoints.locate(WANTED, {}) == WANTED
