"""The figures of all workers together: each series is the sum of theirs, and goes on when a worker is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.core import Metric

from interlock.observe import catalogue
from resolver.counts import QueryKey

Families = Sequence[Metric]
"""What a process has done, as metrics."""

_Key = tuple[str, tuple[tuple[str, str], ...]]  # of a sample: its name, and its labels

NOW = frozenset({catalogue.FORWARD_CACHE_ENTRIES.name})
"""What is so at this moment, and is gone with the worker; all else counts what has happened."""
UNREAD = "socket"
"""The reason of datagrams that the kernel has dropped at a socket, which outlives its worker and counts by itself."""


class Past:
    """What workers did that are gone."""

    def __init__(self) -> None:
        self.families: Families = ()
        """The sum of it."""

    def add(self, families: Families) -> None:
        """Adds what a worker did that is gone, from its last ``families``."""
        self.families = _sum([self.families, [family for family in families if family.name not in NOW]])


def add_up(each: Sequence[Families], past: Past, unread: int) -> Families:
    """The families of all processes in ``each``, the first of which is this one, and of the ``past``.

    ``unread`` is how many datagrams the kernel has dropped at all their sockets.
    """
    return _sum([*each, past.families], unread)


def count_queries(each: Sequence[Families], past: Past) -> Iterable[tuple[QueryKey, int]]:
    """How many replies of each kind are in ``each`` and in the ``past``; a kind may come several times."""
    for families in (*each, past.families):
        for family in families:
            for sample in family.samples:
                if sample.name == catalogue.QUERIES.name:
                    yield QueryKey(*sample.labels.values()), int(sample.value)


def _sum(each: Sequence[Families], unread: int = 0) -> Families:
    sums: dict[str, dict[_Key, float]] = {}
    described: dict[str, Metric] = {}
    for families in each:
        for family in families:
            described.setdefault(family.name, family)
            samples = sums.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                samples[key] = samples.get(key, 0.0) + sample.value
    found = []
    for name, family in described.items():
        total = Metric(name, family.documentation, family.type)
        for (sample_name, labels), value in sums[name].items():
            is_unread = sample_name == catalogue.QUERIES_DROPPED.name and ("reason", UNREAD) in labels
            total.add_sample(sample_name, dict(labels), unread if is_unread else value)
        found.append(total)
    return found
