"""The steps to the wanted peers, taken on a simulated WireGuard: they lead there, and leave other peers alone."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.plan.peers import (
    BLACKHOLE_PEER,
    ActualPeer,
    DropAddresses,
    DropPeer,
    PeerStep,
    SetPeer,
    StartHandshake,
    Tunnel,
    after,
    diff,
    handshakes_with_lost_peers,
)
from agent.plan.wanted import Peer
from tests.agent.worlds import address, key
from zones.addresses import Address
from zones.keys import PublicKey, check_public_key


class Simulated:
    """WireGuard's rules for addresses: what is allowed to one peer is taken from every other."""

    def __init__(self, peers: Mapping[PublicKey, ActualPeer] | None = None) -> None:
        self.endpoints = {key_: peer.endpoint for key_, peer in (peers or {}).items()}
        self.owners = {one: key_ for key_, peer in (peers or {}).items() for one in peer.allowed_ips}

    def take(self, steps: Iterable[PeerStep]) -> None:
        for step in steps:
            match step:
                case DropPeer(gone):
                    self.endpoints.pop(gone, None)
                    self.owners = {one: owner for one, owner in self.owners.items() if owner != gone}
                case DropAddresses(addresses):
                    for one in addresses:
                        self.owners.pop(one, None)
                case SetPeer(put):
                    self.endpoints[put] = step.endpoint or self.endpoints.get(put)
                    if step.replace:
                        self.owners = {one: owner for one, owner in self.owners.items() if owner != put}
                    self.owners |= dict.fromkeys(step.add, put)

    def tunnel(self) -> Tunnel:
        allowed: dict[PublicKey, set[Address]] = {key_: set() for key_ in self.endpoints}
        for one, owner in self.owners.items():
            allowed[owner].add(one)
        return Tunnel(key(0), 1, {k: ActualPeer(self.endpoints[k], frozenset(found)) for k, found in allowed.items()})


def as_wanted(owners: Mapping[int, int]) -> dict[PublicKey, Peer]:
    """Peers by number, each with the addresses that ``owners`` gives it."""
    peers: dict[PublicKey, set[Address]] = {}
    for at, owner in owners.items():
        peers.setdefault(key(owner), set()).add(address(1, at))
    return {key_: Peer(f"192.0.2.1:{50000 + len(found)}", frozenset(found)) for key_, found in peers.items()}


worlds = st.dictionaries(st.integers(1, 12), st.integers(1, 5)).map(as_wanted)


@given(worlds, worlds)
def test_the_steps_lead_from_any_tunnel_to_any_other(
    first: dict[PublicKey, Peer], second: dict[PublicKey, Peer]
) -> None:
    device = Simulated()
    device.take(diff(first, device.tunnel()))
    steps = diff(second, device.tunnel())
    device.take(steps)
    reached = device.tunnel().peers
    assert {k: (peer.endpoint, peer.allowed_ips) for k, peer in reached.items()} == {
        k: (peer.endpoint, peer.allowed_ips) for k, peer in second.items()
    }
    assert diff(second, device.tunnel()) == []


@given(worlds, worlds)
def test_the_tunnel_computed_after_the_steps_is_what_the_device_has(
    first: dict[PublicKey, Peer], second: dict[PublicKey, Peer]
) -> None:
    device = Simulated()
    device.take(diff(first, device.tunnel()))
    before = device.tunnel()
    steps = diff(second, before)
    device.take(steps)
    assert after(before, steps) == device.tunnel()


@given(worlds, worlds)
def test_a_peer_that_stays_as_it_is_appears_in_no_step(
    first: dict[PublicKey, Peer], second: dict[PublicKey, Peer]
) -> None:
    device = Simulated()
    device.take(diff(first, device.tunnel()))
    untouched = {key_ for key_, peer in second.items() if first.get(key_) == peer}
    for step in diff(second, device.tunnel()):
        assert isinstance(step, DropAddresses) or step.key not in untouched


@given(worlds, worlds)
def test_an_address_that_moves_is_never_without_a_peer(
    first: dict[PublicKey, Peer], second: dict[PublicKey, Peer]
) -> None:
    device = Simulated()
    device.take(diff(first, device.tunnel()))
    before = set(device.owners)
    staying = before & {one for peer in second.values() for one in peer.allowed_ips}
    dropped_with_peer = {one for one in staying if device.owners[one] not in second}
    for step in diff(second, device.tunnel()):
        device.take([step])
        assert staying - dropped_with_peer <= set(device.owners)


def test_a_peer_that_was_lost_gets_a_handshake_unless_only_the_peer_can_begin_one() -> None:
    wanted = {key(at): Peer("192.0.2.1:51820", frozenset()) for at in (1, 2, 3)} | {key(4): Peer(None, frozenset())}
    actual = Tunnel(key(0), 1, {key(1): ActualPeer("192.0.2.1:51820", frozenset())})
    found = handshakes_with_lost_peers(wanted, actual, {key(1), key(3), key(4)})
    assert found == [StartHandshake(key(3), 0)]
    assert diff(wanted, after(actual, [*diff(wanted, actual), *found])) == []


def test_a_peer_that_answers_keeps_the_endpoint_that_it_sends_from() -> None:
    wanted = {key(1): Peer("192.0.2.1:51820", frozenset())}
    actual = Tunnel(key(0), 1, {key(1): ActualPeer("198.51.100.7:4000", frozenset())})
    assert diff(wanted, actual, stable_peers=[key(1)]) == []
    assert diff(wanted, actual) == [SetPeer(key(1), endpoint="192.0.2.1:51820")]


def test_what_is_allowed_beyond_single_addresses_is_replaced() -> None:
    wanted = {key(1): Peer(None, frozenset({address(1, 1)}))}
    actual = Tunnel(key(0), 1, {key(1): ActualPeer(None, frozenset({address(1, 1)}), is_foreign=True)})
    assert diff(wanted, actual) == [SetPeer(key(1), add=(address(1, 1),), replace=True)]


def test_what_is_taken_away_goes_before_anything_is_given() -> None:
    before = {
        key(1): ActualPeer(None, frozenset({address(1, 1)})),
        key(2): ActualPeer(None, frozenset({address(1, 2)})),
    }
    wanted = {key(2): Peer(None, frozenset()), key(3): Peer(None, frozenset({address(1, 3)}))}
    kinds = [type(step) for step in diff(wanted, Tunnel(key(0), 1, before))]
    assert kinds == [DropPeer, DropAddresses, SetPeer]


class Addresses(frozenset[Address]):
    """Counts what is worked out address by address."""

    worked_out = 0

    def __sub__(self, other: AbstractSet[object]) -> frozenset[Address]:
        Addresses.worked_out += 1
        return super().__sub__(other)


def test_one_address_of_one_peer_costs_as_much_as_it_is_and_not_as_all_peers() -> None:
    """Of peers that are as they should be, whole sets are compared: a host may have 5,000, with 20 addresses each."""
    owned = {key(at): Addresses(address(at, number) for number in range(20)) for at in range(1, 201)}
    wanted = {key_: Peer("192.0.2.1:51820", addresses) for key_, addresses in owned.items()}
    actual = {key_: ActualPeer("192.0.2.1:51820", Addresses(addresses)) for key_, addresses in owned.items()}
    more = {**wanted, key(7): Peer("192.0.2.1:51820", Addresses([*owned[key(7)], address(7, 20)]))}
    Addresses.worked_out = 0
    assert diff(wanted, Tunnel(key(0), 1, actual)) == []
    assert Addresses.worked_out == 0
    assert diff(more, Tunnel(key(0), 1, actual)) == [SetPeer(key(7), add=(address(7, 20),))]
    assert 0 < Addresses.worked_out < 5


def test_the_blackhole_peer_is_nobodys_key() -> None:
    """It is a well-formed public key that was chosen as a text, so that nobody can have the private key to it."""
    assert check_public_key(BLACKHOLE_PEER) == BLACKHOLE_PEER
    assert b64decode(BLACKHOLE_PEER) == b"sink of addresses that have gone"


@given(worlds, worlds)
def test_the_blackhole_peer_is_in_no_step_and_never_stays(
    first: dict[PublicKey, Peer], second: dict[PublicKey, Peer]
) -> None:
    device = Simulated()
    device.take(diff(first, device.tunnel()))
    clean = device.tunnel()
    left_behind = replace(clean, peers={**clean.peers, BLACKHOLE_PEER: ActualPeer(None, frozenset())})
    for actual in (clean, left_behind):
        steps = diff(second, actual)
        assert BLACKHOLE_PEER not in after(actual, steps).peers
        assert BLACKHOLE_PEER not in {step.key for step in steps if isinstance(step, SetPeer | StartHandshake)}
