"""What the sessions with agents have counted since the start, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class HostCounts:
    """Counts of the connections and sessions of agents."""

    sessions: int = 0
    """Sessions that are open now."""
    began: int = 0
    """Sessions that have begun."""
    enrolled: int = 0
    """Hosts that were enrolled here."""
    refused: Counter[str] = field(default_factory=Counter)
    """Connections and requests that were turned away, by the reason."""
    ended: Counter[str] = field(default_factory=Counter)
    """Sessions that this end has closed, by the reason."""
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests in sessions, by what was asked and its outcome: ``done``, or the kind of the failure."""
    updates: int = 0
    """Updates that were sent."""
    update_octets: int = 0
    """Their octets."""
    throttled: int = 0
    """Times that a session was read from more slowly, because its agent asks too much."""
