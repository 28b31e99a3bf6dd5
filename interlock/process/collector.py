"""The garbage collector of a process that answers queries: when it looks at what, for queries wait meanwhile."""

from __future__ import annotations

import gc

WHILE_LOADING = (50_000, 100, 1_000)
"""Thresholds (``gc.set_threshold``) while the first zones are loaded. Full collections of the
growing zones held up queries for half a second at a million instances. None of the zones is garbage, and short-lived
objects are collected with the youngest generation."""
WHILE_SERVING = (30, 2, 300_000)
"""The same once the zones are loaded, and exempt. What is forwarded takes some hundred objects a question, all freed
without the collector's help; with Python's thresholds it walked through all of them several times a second, and each
time the queries of all clients waited a tenth of a second. The two young generations are small, for all queries wait
while they are collected. The first number is of objects made less objects freed: where zones replace each other it
stays low however many are made, and with 150 some thousands came together, which took a millisecond."""


def expect_zones() -> None:
    """Many zones are about to be loaded."""
    gc.set_threshold(*WHILE_LOADING)


def spare_zones() -> None:
    """Exempts the loaded zones from garbage collection: they stay, and walking through them takes time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*WHILE_SERVING)
