"""Durations for people; and the time of day in the unit that documents, tokens and the store's records carry."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_SKEW = 5.0  # seconds that a machine's clock may differ; one that is kept by NTP differs by milliseconds


def unix_milliseconds(clock: Callable[[], float] = time.time) -> int:
    """Now, in whole milliseconds since 1970 (Unix time), by ``clock``, which gives seconds."""
    return int(clock() * 1000)


def in_words(seconds: float) -> str:
    """A duration for people: ``90 min``. One that is below zero, because a clock was set, is taken for zero."""
    for unit, length, least in (("days", 86_400, 2), ("h", 3_600, 2), ("min", 60, 2)):
        if seconds >= least * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
