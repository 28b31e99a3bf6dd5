"""What the API has done since the start; the composition root makes metrics of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Plain counters, read from outside and written in one event loop.

    ``requests`` is by method, route and status, for example ``("GET", "/v1/environments/{environment}", 200)``. The
    method is ``other`` and the route ``unmatched`` where a client made them up, so that it cannot make up series.
    ``commits`` are the writes that changed something, ``conflicts`` the times that somebody else was first.
    """

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    commits: int = 0
    conflicts: int = 0
    rate_limited: int = 0
