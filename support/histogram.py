"""How many observations were at most how large: cheap enough for a hot path."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds for what takes a machine some milliseconds when all is well, and some seconds when it is not."""


class Histogram:
    """Counts observations by size: for each of ``bounds`` those that are at most as large, and at the end the rest."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.total = 0.0
        """The sum of all observations."""
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, size: float, times: int = 1) -> None:
        """Adds ``times`` observations of ``size``."""
        self._counts[bisect_left(self.bounds, size)] += times
        self.total += size * times

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self._counts)

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """How many observations were at most as large as each bound, the last of which is ``+Inf``."""
        return list(zip([*map(str, self.bounds), "+Inf"], accumulate(self._counts), strict=True))
