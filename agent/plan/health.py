"""Which peers are silent: by WireGuard's rules they should have sent a packet, and did not. Time is an argument.

When a peer sends a packet follows from the WireGuard paper (§6.5, and §6.2 for the retries) and from nothing else:

- A peer that receives data and sends none itself sends a keepalive within 10 s (Keepalive-Timeout). So data is always
  answered.
- A keepalive is not answered. Only data is.
- A peer that has sent data and received nothing for 15 s (Keepalive-Timeout + Rekey-Timeout) sends a handshake
  initiation, and another every 5 s (Rekey-Timeout) until a response comes.

So a peer from which nothing has come for 20 s after data was sent to it has left one handshake unanswered too: it
cannot be reached. The device counts octets, not kinds of packets, so the keepalives that it may have sent are
subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.plan.peers import ActualPeer
from zones.keys import PublicKey

SILENCE = 20.0  # seconds: 15 s until WireGuard begins a handshake, and the 5 s that it gives the response
KEEPALIVE = 32  # octets of an empty data message (§5.4.6): a header of 16 and a tag of 16; any packet inside is 40 more
UNASKED_KEEPALIVES = 2  # after the last packet received: one that confirms a new session, one for data received


@dataclass(frozen=True, slots=True)
class _Traffic:
    """The device's counters for one peer when it was last read, and what earlier readings say about it."""

    received: int
    """Octets received from the peer."""
    sent_when_received: int
    """Octets that had been sent to the peer at the reading that last saw ``received`` grow."""
    received_at: float
    """When that reading was, in monotonic seconds."""
    unanswered_since: float | None = None
    """The first reading, in monotonic seconds, that saw data sent after that one; None if all is answered."""
    is_silent: bool = False
    """Whether `SILENCE` had passed since then at the newest reading."""


@dataclass(slots=True)
class Health:
    """Compares each reading of the peers' counters with those before it."""

    _traffic: dict[PublicKey, _Traffic] = field(default_factory=dict)
    """The newest reading of each peer."""

    def note(self, peers: Mapping[PublicKey, ActualPeer], now: float) -> None:
        """Takes in what the device counted for ``peers``, read at ``now`` in monotonic seconds."""
        self._traffic = {key: _read(self._traffic.get(key), peer, now) for key, peer in peers.items()}

    def answers(self, key: PublicKey) -> bool:
        """Whether ``key`` is known and was not silent when it was last read."""
        traffic = self._traffic.get(key)
        return traffic is not None and not traffic.is_silent

    def quiet(self, now: float) -> dict[PublicKey, float]:
        """For how many seconds nothing has come from each peer, or since it was first read."""
        return {key: now - traffic.received_at for key, traffic in self._traffic.items()}

    def silent(self, now: float) -> dict[PublicKey, float]:
        """The peers that have not answered for at least `SILENCE`, and for how many seconds each has not."""
        return {
            key: now - traffic.unanswered_since
            for key, traffic in self._traffic.items()
            if traffic.unanswered_since is not None and now - traffic.unanswered_since >= SILENCE
        }


def _read(before: _Traffic | None, peer: ActualPeer, now: float) -> _Traffic:
    if before is None or peer.received != before.received:
        return _Traffic(peer.received, peer.sent, now)
    since = before.unanswered_since
    if since is None and _has_sent_data(before, peer, now):
        since = now
    is_silent = since is not None and now - since >= SILENCE
    return _Traffic(before.received, before.sent_when_received, before.received_at, since, is_silent)


def _has_sent_data(before: _Traffic, peer: ActualPeer, now: float) -> bool:
    """Whether more was sent since the last packet received than the keepalives, which no peer answers."""
    keepalives = UNASKED_KEEPALIVES
    if peer.keepalive:
        keepalives += 1 + int((now - before.received_at) / peer.keepalive)
    return peer.sent - before.sent_when_received > keepalives * KEEPALIVE
