"""Which packets this host drops now, and who sends them. Time is an argument.

Each counter says that something is wrong when it grows by more than a few packets in a short time: none of them counts
what a workload or a host does by itself when all is well, such as to say to which multicast groups it listens (MLD, RFC
3810 §6.1), which is dropped and not counted. A few are nothing, since packets are on their way when an address goes,
and a program may try something once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.plan.firewall import LINK

WINDOW = 15.0  # seconds; three readings
FEW = 10  # packets in `WINDOW` that are not worth a word

MEANINGS: Mapping[str, str] = {
    LINK: "a workload here, or a host of the mesh, sends from an address that is not its own, to another environment,"
    " or to this host itself: the filter of its link drops it",
    "arriving": "packets with addresses of the platform come in from outside the mesh: does another network use its"
    " prefix, or does somebody forge them?",
    "from_workload": "a workload here sends from an address that is not its own, or something else than IPv6",
    "from_tunnel": "a host of the mesh sends from an address of the platform's infrastructure, which no member has",
    "asking": "a member sends more than 20,000 DNS queries a second to this host: `interlock tail` shows whose",
    "fragment": "a member sends fragments to the resolver, or more than 10,000 a second to others: is its MTU wrong?",
    "between": "a member sends to another environment, or to an address that no member has",
    "to_host": "a workload tries to reach this host itself, of which it may reach the resolver alone",
    "from_host": "this host itself sends into the mesh, where only workloads may: a program on it, which should be"
    " attached",
}
"""What each counter counts, as a sentence for a person, by the name of the nftables chain, or `LINK`."""


@dataclass(slots=True)
class RecentDrops:
    """Compares the counters with those of `WINDOW` before."""

    _readings: deque[tuple[float, Mapping[str, int]]] = field(default_factory=deque)
    """The readings of the last `WINDOW` seconds and one before them, each with its time in monotonic seconds."""

    def note(self, drops: Mapping[str, int], now: float) -> None:
        """Takes in the counters as they were read at ``now``."""
        if self._readings and any(drops.get(name, 0) < count for name, count in self._readings[-1][1].items()):
            self._readings.clear()  # the firewall was made anew, and counts from zero
        self._readings.append((now, dict(drops)))
        while len(self._readings) > 1 and self._readings[1][0] <= now - WINDOW:
            self._readings.popleft()

    def many(self) -> Iterator[tuple[str, int, float]]:
        """Each counter that has grown by more than `FEW` lately: its name, by how much, and in how many seconds."""
        if len(self._readings) < 2:
            return
        (began, first), (ended, last) = self._readings[0], self._readings[-1]
        for name, count in last.items():
            if (grown := count - first.get(name, 0)) > FEW:
                yield name, grown, ended - began
