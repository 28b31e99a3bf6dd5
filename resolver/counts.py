"""What the server has done since it started: counters cheap enough for the hot path."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from resolver.wire.messages import Rcode, Transport
from support.histogram import Histogram
from zones.records import RRType

LATENCY_BUCKETS = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 1.5),
)
"""Upper bounds in seconds: from one hit of the packet cache to the longest time that a query is held."""

# Names for the types that clients ask, one name for all others: a client must not choose the number of time series.
_OTHER_TYPES = {15: "MX", 35: "NAPTR", 43: "DS", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 257: "CAA"}
_TYPE_NAMES: dict[int | None, str] = {None: "none"} | _OTHER_TYPES | {rtype.value: rtype.name for rtype in RRType}
_RCODE_NAMES = {rcode: rcode.name for rcode in Rcode}  # to look one up takes a fifth of the time of ``rcode.name``


class QueryKey(NamedTuple):
    """The labels that replies are counted by."""

    rcode: str
    """The response code, such as ``NOERROR``."""

    qtype: str
    """The type that was asked for: a name from a fixed list, ``other``, or ``none`` where there was no question."""

    scope: str
    """``environment``, ``external`` (forwarded), or ``outside`` (the client belongs to no environment)."""

    transport: str
    """``udp`` or ``tcp``."""


class ReplyCounter:
    """How many replies with one `QueryKey` were given. An entry of the packet cache refers to the counter of its
    replies, so a hit is counted by one addition.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


@dataclass(slots=True)
class QueryCounts:
    """What became of the queries of one server."""

    latency: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    """Queries that were answered here, by the seconds that they took."""

    forwarded_latency: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    """Queries for forwarded names, by the seconds that they took. Nobody here decides how long an upstream takes."""

    packet_cache_hits: int = 0
    """Queries whose reply was in the packet cache."""

    packet_cache_misses: int = 0
    """Queries whose reply had to be made."""

    held_loading: int = 0
    """Queries that had to wait until all environments were loaded."""

    held_pending: int = 0
    """Queries that had to wait until a pending zone was published."""

    pending_timeouts: int = 0
    """Queries that waited for a pending zone in vain and got SERVFAIL."""

    errors: int = 0
    """Queries that got SERVFAIL because of a fault in this program."""

    unsent: int = 0
    """UDP replies that the kernel did not take."""

    dropped: Counter[str] = field(default_factory=Counter)
    """Packets and connections that got no reply, by reason."""

    _counters: dict[tuple[str, str, str, str], ReplyCounter] = field(default_factory=dict)

    def counter(self, rcode: Rcode, qtype: int | None, scope: str, transport: Transport) -> ReplyCounter:
        """The counter of replies of this kind; ``qtype`` is None where the message has no question."""
        labels = _RCODE_NAMES[rcode], _TYPE_NAMES.get(qtype, "other"), scope, transport
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = ReplyCounter()
        return counter

    def snapshot(self) -> dict[QueryKey, int]:
        """How many replies of each kind were given."""
        return {QueryKey(*labels): counter.count for labels, counter in self._counters.items()}

    def observe(self, seconds: float, queries: int = 1, forwarded: int = 0) -> None:
        """Adds ``queries`` queries that took ``seconds`` each, of which ``forwarded`` were for forwarded names."""
        if own := queries - forwarded:
            self.latency.observe(seconds, own)
        if forwarded:
            self.forwarded_latency.observe(seconds, forwarded)
