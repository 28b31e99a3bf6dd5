"""Which peers have fallen silent: we send, and nothing comes back. Pure; time is an argument.

A WireGuard peer that receives anything answers within 10 s, be it only with a keepalive; and one that gets no answer
makes a new handshake after 15 s (the WireGuard paper, §6.5). So who has been sent to for longer than that and has said
nothing cannot be reached, whatever the age of its last handshake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.plan.peers import ActualPeer
from zones.keys import PublicKey

SILENCE = 25.0  # seconds of sending without hearing anything


@dataclass(frozen=True, slots=True)
class _Seen:
    received: int
    sent: int
    unheard_since: float | None  # the moment since which all that was sent went unanswered


@dataclass(slots=True)
class Health:
    """What has been seen of each peer. `note` is given the peers whenever they have been read."""

    _seen: dict[PublicKey, _Seen] = field(default_factory=dict)

    def note(self, peers: Mapping[PublicKey, ActualPeer], now: float) -> None:
        """Takes in what the device says at ``now``, in seconds."""
        seen = {}
        for key, peer in peers.items():
            before = self._seen.get(key)
            if before is None or peer.received != before.received:
                seen[key] = _Seen(peer.received, peer.sent, None)
            elif peer.sent != before.sent and before.unheard_since is None:
                seen[key] = _Seen(peer.received, peer.sent, now)
            else:
                seen[key] = _Seen(peer.received, peer.sent, before.unheard_since)
        self._seen = seen

    def answers(self, key: PublicKey) -> bool:
        """Whether nothing that was sent to ``key`` has gone unanswered so far."""
        seen = self._seen.get(key)
        return seen is not None and seen.unheard_since is None

    def silent(self, now: float) -> dict[PublicKey, float]:
        """The peers that have not answered what we send, and for how many seconds."""
        return {
            key: now - seen.unheard_since
            for key, seen in self._seen.items()
            if seen.unheard_since is not None and now - seen.unheard_since >= SILENCE
        }
