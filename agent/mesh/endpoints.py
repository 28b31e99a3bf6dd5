"""Where the peers are: at the endpoints that they registered, or wherever their packets come from. Time is no concern.

WireGuard replies to the endpoint that a peer's newest packet came from (the WireGuard paper, §2.1). So a peer that
answers is not moved back to the endpoint that it registered, unless it registers another one. And where the device has
lost the peer, as when its process died, the peer is looked for where it was last: a host behind NAT is nowhere else.
What a host behind NAT registers is good on its own site alone: it moves nothing, for that host sends the next packet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.plan.health import Health
from agent.plan.peers import ActualPeer
from agent.plan.wanted import Peer
from zones.keys import PublicKey


@dataclass(slots=True)
class Endpoints:
    """The endpoints of peers, registered and found."""

    _registered: dict[PublicKey, str | None] | None = None
    """The peers of the last pass and the endpoints that they had registered; None before the first pass."""
    _roamed: dict[PublicKey, str] = field(default_factory=dict)
    """The endpoints, by peer, that packets came from and that are not the registered ones."""
    _behind_nat: frozenset[PublicKey] = frozenset()
    """Those of the peers of the last pass that are behind NAT."""
    _is_forgotten: bool = False
    """Whether all other peers are to be where they registered, in the next pass."""

    def known(self, peers: Mapping[PublicKey, Peer]) -> Mapping[PublicKey, object]:
        """The peers of the last pass. In its first pass an agent does not know them; those that are wanted count."""
        return peers if self._registered is None else self._registered

    def moved(self, peers: Mapping[PublicKey, Peer]) -> set[PublicKey]:
        """Those of ``peers`` that have registered another endpoint since the last pass."""
        before = self._registered or {}
        return {key for key, peer in peers.items() if before.get(key, peer.endpoint) != peer.endpoint}

    def forget(self) -> None:
        """Says that this host has another address: peers are to be where they registered.

        Not those behind NAT: they begin with the new address, and what they registered is good on their own site alone.
        """
        self._roamed = {key: endpoint for key, endpoint in self._roamed.items() if key in self._behind_nat}
        self._is_forgotten = True

    def note(self, peers: Mapping[PublicKey, ActualPeer], health: Health) -> None:
        """Takes in where the device has ``peers``, as read just now; those that it has lost stay where they were."""
        registered = self._registered or {}
        for key, peer in peers.items():
            if peer.endpoint and peer.endpoint != registered.get(key, peer.endpoint) and health.answers(key):
                self._roamed[key] = peer.endpoint
            else:
                self._roamed.pop(key, None)

    def applied(self, peers: Mapping[PublicKey, Peer]) -> None:
        """``peers`` are those of the device now."""
        self._is_forgotten = False
        self._behind_nat = frozenset(key for key, peer in peers.items() if peer.is_behind_nat)
        self._roamed = {
            key: endpoint
            for key, endpoint in self._roamed.items()
            if key in peers and not self._registers_elsewhere(key, peers[key])
        }
        self._registered = {key: peer.endpoint for key, peer in peers.items()}

    def stable(
        self, peers: Mapping[PublicKey, Peer], actual: Mapping[PublicKey, ActualPeer], health: Health
    ) -> set[PublicKey]:
        """Those of ``peers`` whose endpoint is left alone: they answer, or did, where the device sends to them now.

        A peer that has registered another endpoint than before is none of them, unless it is behind NAT.
        """
        return {
            key
            for key, peer in peers.items()
            if not self._registers_elsewhere(key, peer)
            and (peer.is_behind_nat or not self._is_forgotten)
            and (health.answers(key) or (key in actual and actual[key].endpoint == self._roamed.get(key)))
        }

    def locate(
        self, peers: Mapping[PublicKey, Peer], actual: Mapping[PublicKey, ActualPeer]
    ) -> Mapping[PublicKey, Peer]:
        """``peers``, of which those that the device has lost have the endpoints that they were at last."""
        lost = {
            key: replace(peers[key], endpoint=endpoint)
            for key, endpoint in self._roamed.items()
            if key in peers and key not in actual and not self._registers_elsewhere(key, peers[key])
        }
        return {**peers, **lost} if lost else peers

    def _registers_elsewhere(self, key: PublicKey, peer: Peer) -> bool:
        """Whether ``peer`` is to be looked for at an endpoint that it has registered since the last pass."""
        before = self._registered or {}
        return not peer.is_behind_nat and before.get(key, peer.endpoint) != peer.endpoint
