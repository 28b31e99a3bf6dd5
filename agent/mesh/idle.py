"""Which peers to ask whether they are there: those that nothing has come from for long. Pure; time is an argument.

WireGuard sends nothing where there is nothing to send, so a path that is blocked while nobody uses it would be found
by the first packet that is lost on it. A session ends after 180 s (Reject-After-Time, the WireGuard paper, §6.1). What
is sent then begins a handshake, which is always answered, and whether it was, `agent.plan.health` judges.

What it costs: two hosts that have nothing to say to each other exchange a handshake every three minutes, some 400
octets and half a millisecond of processor time on each. A thousand such hosts are asked five or six a second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from agent.plan.health import Health
from zones.keys import PublicKey

IDLE = 180.0  # seconds: Reject-After-Time; before it a session lives, and what is sent to ask needs no answer
SECOND = 20.0  # seconds that one of two hosts waits longer, for two handshakes at once hold each other up
GIVES_UP = 90.0  # seconds: Rekey-Attempt-Time, for which WireGuard sends an initiation again and again
READINGS = 36  # of a device in `IDLE` seconds, one every five


@dataclass(slots=True)
class IdlePeers:
    """Remembers who was asked, and when."""

    _asked: dict[PublicKey, float] = field(default_factory=dict)
    """When each peer was asked that has said nothing since, in monotonic seconds."""

    def due(
        self, hosts: Mapping[PublicKey, bool], waiting: Collection[PublicKey], health: Health, now: float
    ) -> list[PublicKey]:
        """The peers to begin a handshake with at ``now``, in monotonic seconds; those that are quiet for longest first.

        ``hosts`` are the peers that are hosts and should be there, and whether this host is the one of the two that
        begins. Those ``waiting`` may not know this host yet.
        """
        quiet = health.quiet(now)
        self._asked = {
            key: when for key, when in self._asked.items() if key in hosts and quiet.get(key, 0.0) > now - when
        }
        due = [
            key
            for key, begins in hosts.items()
            if quiet.get(key, 0.0) >= IDLE + (0.0 if begins else SECOND)
            and now - self._asked.get(key, now - GIVES_UP) >= GIVES_UP
            and key not in waiting
        ]
        due = sorted(due, key=lambda key: -quiet[key])[: 1 + len(hosts) // READINGS]
        self._asked |= dict.fromkeys(due, now)
        return due
