"""Which peers are silent: the host sends to them, and receives nothing back. Time is an argument.

A WireGuard peer that receives anything answers within 10 s, if only with a keepalive, and one that gets no answer
begins a new handshake after 15 s (the WireGuard paper, §6.5). So a peer that has been sent to for longer than both, and
from which nothing was received, cannot be reached, whatever the age of its last handshake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.plan.peers import ActualPeer
from zones.keys import PublicKey

SILENCE = 25.0  # seconds of sending without receiving: the 10 s and the 15 s of the paper


@dataclass(frozen=True, slots=True)
class _Traffic:
    """The device's counters for one peer when it was last read."""

    received: int
    """Octets received from the peer."""
    sent: int
    """Octets sent to the peer."""
    unanswered_since: float | None
    """The first reading, in monotonic seconds, since which packets were sent and none received; None if answered."""


@dataclass(slots=True)
class Health:
    """Compares each reading of the peers' counters with the one before it."""

    _traffic: dict[PublicKey, _Traffic] = field(default_factory=dict)
    """The newest reading of each peer."""

    def note(self, peers: Mapping[PublicKey, ActualPeer], now: float) -> None:
        """Takes in what the device counted for ``peers``, read at ``now`` in monotonic seconds."""
        traffic = {}
        for key, peer in peers.items():
            before = self._traffic.get(key)
            if before is None or peer.received != before.received:
                traffic[key] = _Traffic(peer.received, peer.sent, None)
            elif peer.sent != before.sent and before.unanswered_since is None:
                traffic[key] = _Traffic(peer.received, peer.sent, now)
            else:
                traffic[key] = _Traffic(peer.received, peer.sent, before.unanswered_since)
        self._traffic = traffic

    def answers(self, key: PublicKey) -> bool:
        """Whether nothing that was sent to ``key`` is unanswered."""
        traffic = self._traffic.get(key)
        return traffic is not None and traffic.unanswered_since is None

    def silent(self, now: float) -> dict[PublicKey, float]:
        """The peers that do not answer, and for how many seconds each has not."""
        return {
            key: now - traffic.unanswered_since
            for key, traffic in self._traffic.items()
            if traffic.unanswered_since is not None and now - traffic.unanswered_since >= SILENCE
        }
