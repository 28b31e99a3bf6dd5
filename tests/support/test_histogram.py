"""A histogram counts each observation in the first bucket that it fits, and in all larger ones."""

from __future__ import annotations

from support.histogram import Histogram


def test_observations_are_counted_by_size() -> None:
    histogram = Histogram((0.1, 1.0))
    assert histogram.buckets == [("0.1", 0), ("1.0", 0), ("+Inf", 0)]
    histogram.observe(0.1)
    histogram.observe(0.5, times=3)
    histogram.observe(7.0)
    assert histogram.buckets == [("0.1", 1), ("1.0", 4), ("+Inf", 5)]
    assert (histogram.count, histogram.total) == (5, 8.6)
