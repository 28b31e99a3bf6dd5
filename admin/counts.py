"""What the API has done since it started. The composition root turns the numbers into metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from support.histogram import Histogram


@dataclass(slots=True)
class ApiCounts:
    """Plain counters: one event loop writes them, and the metrics endpoint reads them."""

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """Answered requests by method, route and status, for example ``("GET", "/v1/environments/{environment}", 200)``.

    A method that HTTP does not know is counted as ``other``, and a path that the API does not have as ``unmatched``,
    so that a client cannot create time series at will.
    """
    seconds: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    """Answered requests by the seconds that they took, by method; the methods are those of ``requests``."""
    commits: int = 0
    """Writes that changed something."""
    conflicts: int = 0
    """Attempts to commit that failed because another writer was first."""
    rate_limited: int = 0
    """Requests that were answered with status 429."""
    closed: Counter[str] = field(default_factory=Counter)
    """Connections that were ended here, by the reason: ``most``, ``client`` or ``slow``."""
