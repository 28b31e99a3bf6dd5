"""The WireGuard device as it is, the steps from there to what is wanted, and what a device must be able to do.

    diff(wanted peers, actual tunnel)  ->  steps        empty where nothing is to be done

Peers are changed one by one. One address less is not "all addresses anew", which would leave the peer without any for
a moment: see `DropAddresses`.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from agent.keys import PrivateKey
from agent.plan.wanted import Peer
from zones.addresses import Address
from zones.keys import PublicKey

BLACKHOLE_PEER = PublicKey("c2luayBvZiBhZGRyZXNzZXMgdGhhdCBoYXZlIGdvbmU=")
"""A peer that there never is ("sink of addresses that have gone"): what it takes from another goes away with it."""


@dataclass(frozen=True, slots=True)
class ActualPeer:
    """A peer as the device has it.

    ``handshake`` is the Unix time of the newest one, in seconds, 0.0 for none; ``received`` and ``sent`` are octets.
    ``is_foreign`` says that something is allowed to it that we never allow, such as a whole network.
    """

    endpoint: str | None
    allowed_ips: frozenset[Address]
    keepalive: int = 0
    handshake: float = 0.0
    received: int = 0
    sent: int = 0
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The device: its own public key (None while it has none), the port that it listens on, and its peers."""

    public_key: PublicKey | None
    port: int
    peers: Mapping[PublicKey, ActualPeer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetPeer:
    """Make the peer be there; None leaves as it is. ``add`` is allowed too, or with ``replace`` alone."""

    key: PublicKey
    endpoint: str | None = None
    keepalive: int | None = None
    add: tuple[Address, ...] = ()
    replace: bool = False


@dataclass(frozen=True, slots=True)
class DropPeer:
    """Make the peer be gone, with all that is allowed to it."""

    key: PublicKey


@dataclass(frozen=True, slots=True)
class DropAddresses:
    """Allow ``addresses`` to nobody any more.

    WireGuard can only set all that is allowed to a peer, or add to it. But an address belongs to one peer, so giving it
    to another takes it away: it goes to the `BLACKHOLE_PEER`, which is removed at once.
    """

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class StartHandshake:
    """Shake hands with the peer now, not with its next packet. ``keepalive`` is what it has anyway."""

    key: PublicKey
    keepalive: int


PeerStep = SetPeer | DropPeer | DropAddresses | StartHandshake


class Device(Protocol):
    """A WireGuard device. All methods raise `agent.errors.Failed`, and `Stuck` where there is no answer in time."""

    async def ensure(self, key: PrivateKey, port: int, mtu: int) -> None:
        """Makes the device be there and be up, with this key and port; what it has already is left alone."""

    async def read(self) -> Tunnel | None:
        """The device as it is; None where there is none."""

    async def apply(self, steps: Sequence[PeerStep]) -> None:
        """Takes ``steps``, in this order."""

    async def set_key(self, key: PrivateKey) -> None:
        """Gives the device another key."""

    async def remove(self) -> None:
        """Makes the device be gone."""


def diff(wanted: Mapping[PublicKey, Peer], actual: Tunnel, settled: Collection[PublicKey] = ()) -> list[PeerStep]:
    """What is to be done to ``actual`` so that its peers are as ``wanted``.

    Wherever a peer sends from is where it is (the WireGuard paper, §2.1). So the endpoint of one that is ``settled`` is
    left alone, even if it is not the one that it registered.
    """
    puts = [step for key, peer in wanted.items() if (step := _put(key, peer, actual.peers.get(key), key in settled))]
    taken = {address for step in puts for address in step.add}
    gone = tuple(
        address
        for key, peer in actual.peers.items()
        if key in wanted and not peer.is_foreign
        for address in peer.allowed_ips - wanted[key].allowed_ips - taken
    )
    drops: list[PeerStep] = [DropPeer(key) for key in actual.peers if key not in wanted]
    # What is taken away goes first: an address must not for a moment be the way to somebody else.
    return [*drops, *([DropAddresses(gone)] if gone else []), *puts]


def handshakes_with_lost_peers(
    wanted: Mapping[PublicKey, Peer], actual: Tunnel, had: Container[PublicKey]
) -> list[PeerStep]:
    """The peers that ``actual`` ``had`` and has lost, with their sessions, are to hear from us once they are put back.

    Until they do, they send in those sessions, and for 15 s (the WireGuard paper, §6.5) all of it is lost. With a peer
    that is new to both of us there is no session; and if both shook hands at once, neither would get through for 5 s.
    """
    return [
        StartHandshake(key, peer.keepalive)
        for key, peer in wanted.items()
        if key not in actual.peers and key in had and peer.endpoint
    ]


def after(actual: Tunnel, steps: Iterable[PeerStep]) -> Tunnel:
    """What ``actual`` is once ``steps`` have been taken, as far as that is ours to say."""
    taken = list(steps)
    moved: frozenset[Address] = frozenset().union(
        *(step.addresses for step in taken if isinstance(step, DropAddresses)),
        *(step.add for step in taken if isinstance(step, SetPeer)),
    )
    peers = {
        key: replace(peer, allowed_ips=peer.allowed_ips - moved) if peer.allowed_ips & moved else peer
        for key, peer in actual.peers.items()
    }
    for step in taken:
        match step:
            case DropPeer(key):
                peers.pop(key, None)
            case SetPeer(key):
                peers[key] = _after_put(peers.get(key), step)
    return replace(actual, peers=peers)


def _put(key: PublicKey, peer: Peer, actual: ActualPeer | None, is_settled: bool) -> SetPeer | None:
    if actual is None:
        return SetPeer(key, peer.endpoint, peer.keepalive, tuple(peer.allowed_ips))
    is_elsewhere = peer.endpoint is not None and peer.endpoint != actual.endpoint and not is_settled
    step = SetPeer(
        key,
        peer.endpoint if is_elsewhere else None,
        peer.keepalive if peer.keepalive != actual.keepalive else None,
        tuple(peer.allowed_ips if actual.is_foreign else peer.allowed_ips - actual.allowed_ips),
        replace=actual.is_foreign,
    )
    return None if step == SetPeer(key) else step


def _after_put(actual: ActualPeer | None, step: SetPeer) -> ActualPeer:
    before = actual or ActualPeer(None, frozenset())
    return replace(
        before,
        endpoint=step.endpoint or before.endpoint,
        allowed_ips=frozenset(step.add) if step.replace else before.allowed_ips | frozenset(step.add),
        keepalive=before.keepalive if step.keepalive is None else step.keepalive,
        is_foreign=before.is_foreign and not step.replace,
    )
