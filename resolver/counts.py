"""What the server has done since it started, cheap enough to count on the hot path."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from resolver.wire.messages import Rcode, Transport
from zones.records import RRType

LATENCY_BUCKETS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.5)
"""Upper bounds in seconds: from one memo hit to the longest that a query is held."""

_OTHER_TYPES = {15: "MX", 35: "NAPTR", 43: "DS", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 257: "CAA"}


class Key(NamedTuple):
    """What queries are counted by.

    ``scope`` is ``environment``, ``external`` for what was forwarded, or ``outside`` for a client that is in none.
    """

    rcode: str
    qtype: str
    scope: str
    transport: str


class Tally:
    """A number that goes up. The memo holds the one of its reply, so that a hit counts with one addition."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


@dataclass(slots=True)
class Counts:
    """Counters and a latency histogram (one more bucket than `LATENCY_BUCKETS`, for all above; sum in seconds)."""

    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS) + 1))
    latency_sum: float = 0.0
    memo_hits: int = 0
    memo_misses: int = 0
    held: int = 0
    held_coming: int = 0
    late_coming: int = 0
    errors: int = 0
    unsent: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    _tallies: dict[Key, Tally] = field(default_factory=dict)

    def tally(self, rcode: Rcode, qtype: int | None, scope: str, transport: Transport) -> Tally:
        """The tally of replies of this kind; ``qtype`` is None where the message has no question."""
        key = Key(rcode.name, _type_name(qtype), scope, transport.value)
        return self._tallies.setdefault(key, Tally())

    def snapshot(self) -> dict[Key, int]:
        """How many replies of each kind were given."""
        return {key: tally.count for key, tally in self._tallies.items()}

    def observe(self, seconds: float, queries: int = 1) -> None:
        """Notes that each of ``queries`` took ``seconds``."""
        self.latency[bisect_left(LATENCY_BUCKETS, seconds)] += queries
        self.latency_sum += seconds * queries


def _type_name(qtype: int | None) -> str:
    # Names for the types that clients ask, one for all others: a client must not choose how many series there are.
    if qtype is None:
        return "none"
    try:
        return RRType(qtype).name
    except ValueError:
        return _OTHER_TYPES.get(qtype, "other")
