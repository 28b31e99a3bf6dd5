"""The WireGuard device as it is, and the steps from there to the peers that are wanted.

    diff(wanted peers, actual tunnel)  ->  steps        empty where nothing is to be done
    after(actual tunnel, steps)        ->  the tunnel that the device has then

Peers are changed one by one, and so are a peer's addresses: to replace all its addresses in order to remove one would
leave the peer without any for a moment (see `DropAddresses`).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.plan.wanted import Peer
from zones.addresses import Address
from zones.keys import PublicKey

BLACKHOLE_PEER = PublicKey("c2luayBvZiBhZGRyZXNzZXMgdGhhdCBoYXZlIGdvbmU=")
"""The key of a peer that exists only within one change: addresses are moved to it and disappear with it.

Nobody has its private key: its octets are the text "sink of addresses that have gone".
"""


@dataclass(frozen=True, slots=True)
class ActualPeer:
    """A peer as the device has it."""

    endpoint: str | None
    """Where packets to the peer are sent, ``address:port``; None where the device does not know yet."""
    allowed_ips: frozenset[Address]
    """The single addresses that are routed to the peer and accepted from it."""
    keepalive: int = 0
    """Seconds between two keepalives; 0 for none."""
    handshake: float = 0.0
    """Unix time of the newest handshake, in seconds; 0.0 for none."""
    received: int = 0
    """Octets received from the peer."""
    sent: int = 0
    """Octets sent to the peer."""
    is_foreign: bool = False
    """Whether the peer is allowed something that the agent never allows, such as a whole network."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The WireGuard device as it is."""

    public_key: PublicKey | None
    """The device's own public key; None while it has none."""
    port: int
    """The UDP port that the device listens on."""
    peers: Mapping[PublicKey, ActualPeer] = field(default_factory=dict)
    """The device's peers by their public keys."""


@dataclass(frozen=True, slots=True)
class SetPeer:
    """Add the peer, or change the one that exists."""

    key: PublicKey
    """The peer's public key."""
    endpoint: str | None = None
    """The new endpoint; None leaves it as it is."""
    keepalive: int | None = None
    """The new seconds between keepalives, 0 for none; None leaves them as they are."""
    add: tuple[Address, ...] = ()
    """The addresses to allow, beside those that are allowed already."""
    replace: bool = False
    """Whether the peer is to have ``add`` alone, and everything else that it is allowed is removed."""


@dataclass(frozen=True, slots=True)
class DropPeer:
    """Remove the peer, with everything that it is allowed."""

    key: PublicKey
    """The peer's public key."""


@dataclass(frozen=True, slots=True)
class DropAddresses:
    """Take ``addresses`` away from the peers that have them; those peers stay.

    WireGuard can only set all that a peer is allowed, or add to it. But an address belongs to one peer at a time, so
    adding it to another peer takes it from the first. Hence ``addresses`` are added to the `BLACKHOLE_PEER`, which is
    removed in the same call (docs/decisions/0012).
    """

    addresses: tuple[Address, ...]
    """The addresses that no peer is to have."""


@dataclass(frozen=True, slots=True)
class StartHandshake:
    """Begin a handshake with the peer now, instead of with the first packet for it."""

    key: PublicKey
    """The peer's public key."""
    keepalive: int
    """The seconds between keepalives that the peer has, 0 for none: they are the same after the step."""


PeerStep = SetPeer | DropPeer | DropAddresses | StartHandshake

NONE_WANTED: Mapping[PublicKey, Peer] = {}


def diff(wanted: Mapping[PublicKey, Peer], actual: Tunnel, stable_peers: Collection[PublicKey] = ()) -> list[PeerStep]:
    """The steps after which the peers of ``actual`` are as ``wanted``.

    WireGuard replies to wherever a peer's packets come from (the WireGuard paper, §2.1). So where a peer is one of
    ``stable_peers`` (it answers, and registers what it registered before), its endpoint is left alone, even if that is
    not the registered one.
    """
    found_at = actual.peers.get
    # Most peers are as wanted, in every pass, so this must be quick: whole sets are compared, and nothing is called.
    changed = {
        key: peer
        for key, peer in wanted.items()
        if (found := found_at(key)) is None
        or (peer.allowed_ips is not found.allowed_ips and peer.allowed_ips != found.allowed_ips)
        or peer.keepalive != found.keepalive
        or found.is_foreign
        or (peer.endpoint != found.endpoint and _is_to_be_elsewhere(peer, found, key in stable_peers))
    }
    set_steps, gone_of = list[SetPeer](), list[frozenset[Address]]()
    for key, peer in changed.items():
        if (found := found_at(key)) is None:
            set_steps.append(SetPeer(key, peer.endpoint, peer.keepalive, tuple(peer.allowed_ips)))
            continue
        gone_here, come = _difference(peer, found)
        if not found.is_foreign:
            gone_of.append(gone_here)
        if step := _set_peer(key, peer, found, come, key in stable_peers):
            set_steps.append(step)
    moved = {address for step in set_steps for address in step.add}
    gone = tuple(address for addresses in gone_of for address in addresses - moved)
    drop_steps: list[PeerStep] = [DropPeer(key) for key in actual.peers if key not in wanted]
    # Removals go first: at no moment may an address lead to a peer that it does not belong to.
    return [*drop_steps, *([DropAddresses(gone)] if gone else []), *set_steps]


def handshakes_with_lost_peers(
    wanted: Mapping[PublicKey, Peer], actual: Tunnel, earlier_peers: Container[PublicKey]
) -> list[PeerStep]:
    """A handshake with each of ``earlier_peers`` that ``actual`` has lost, together with the session, and gets again.

    Until such a peer receives a handshake it goes on sending in the lost session, and for 15 s (the WireGuard paper,
    §6.5) all of that is lost. A peer that is new to both sides has no session; if both began a handshake at once,
    neither would get through for 5 s (see `agent.announce.handshakes`).
    """
    return [
        StartHandshake(key, peer.keepalive)
        for key, peer in wanted.items()
        if key not in actual.peers and key in earlier_peers and peer.endpoint
    ]


def after(actual: Tunnel, steps: Iterable[PeerStep], wanted: Mapping[PublicKey, Peer] = NONE_WANTED) -> Tunnel:
    """``actual`` once ``steps`` have been taken; what the device counts or learns by itself stays as it was read.

    Where the steps lead to the peers that are ``wanted``, those that change have the very sets of these.
    """
    taken = list(steps)
    moved: frozenset[Address] = frozenset().union(
        *(step.addresses for step in taken if isinstance(step, DropAddresses)),
        *(step.add for step in taken if isinstance(step, SetPeer)),
    )
    peers = {
        key: replace(peer, allowed_ips=_left(peer, moved, wanted.get(key))) if peer.allowed_ips & moved else peer
        for key, peer in actual.peers.items()
    }
    for step in taken:
        match step:
            case DropPeer(key):
                peers.pop(key, None)
            case SetPeer(key):
                peers[key] = _after_set(peers.get(key), step, wanted.get(key))
    return replace(actual, peers=peers)


def with_wanted_sets(actual: Tunnel, wanted: Mapping[PublicKey, Peer]) -> Tunnel:
    """``actual``, with the very sets of ``wanted`` where these are equal: so the next comparison looks into none."""
    same = {
        key: replace(peer, allowed_ips=found.allowed_ips)
        for key, peer in actual.peers.items()
        if (found := wanted.get(key))
        and found.allowed_ips is not peer.allowed_ips
        and found.allowed_ips == peer.allowed_ips
    }
    return replace(actual, peers={**actual.peers, **same}) if same else actual


def _is_to_be_elsewhere(peer: Peer, actual: ActualPeer, is_stable: bool) -> bool:
    return peer.endpoint is not None and peer.endpoint != actual.endpoint and not is_stable


def _difference(peer: Peer, actual: ActualPeer) -> tuple[frozenset[Address], frozenset[Address]]:
    """The addresses that ``actual`` has and ``peer`` has not, and those that ``peer`` has and ``actual`` has not."""
    change = peer.change
    if change and change.before() is actual.allowed_ips and change.after() is peer.allowed_ips:
        return change.gone, change.come
    return actual.allowed_ips - peer.allowed_ips, peer.allowed_ips - actual.allowed_ips


def _set_peer(
    key: PublicKey, peer: Peer, actual: ActualPeer, come: frozenset[Address], is_stable: bool
) -> SetPeer | None:
    step = SetPeer(
        key,
        peer.endpoint if _is_to_be_elsewhere(peer, actual, is_stable) else None,
        peer.keepalive if peer.keepalive != actual.keepalive else None,
        tuple(peer.allowed_ips if actual.is_foreign else come),
        replace=actual.is_foreign,
    )
    return None if step == SetPeer(key) else step


def _left(actual: ActualPeer, moved: frozenset[Address], wanted: Peer | None) -> frozenset[Address]:
    return wanted.allowed_ips if wanted else actual.allowed_ips - moved


def _after_set(actual: ActualPeer | None, step: SetPeer, wanted: Peer | None) -> ActualPeer:
    before = actual or ActualPeer(None, frozenset())
    if wanted:
        allowed = wanted.allowed_ips
    else:
        allowed = frozenset(step.add) if step.replace else before.allowed_ips | frozenset(step.add)
    return replace(
        before,
        endpoint=step.endpoint or before.endpoint,
        allowed_ips=allowed,
        keepalive=before.keepalive if step.keepalive is None else step.keepalive,
        is_foreign=before.is_foreign and not step.replace,
    )
