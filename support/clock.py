"""Durations for people; the time of day in the unit that documents carry; and the time that all processes share.

A document says until when a former name is answered. If each process went by the clock of its own machine, a resolver
whose clock is ahead would end such a name early, and a writer whose clock is behind would give it no time at all. So
all go by the store's time, and between two moments at which it was heard, the time goes on as the monotonic clock does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

MOST_SKEW = 5.0  # seconds that a machine's clock may differ; one that is kept by NTP differs by milliseconds

log = logging.getLogger(__name__)


def unix_milliseconds(clock: Callable[[], float] = time.time) -> int:
    """Now, in whole milliseconds since 1970 (Unix time), by ``clock``, which gives seconds."""
    return int(clock() * 1000)


def in_words(seconds: float) -> str:
    """A duration for people: ``90 min``. One that is below zero, because a clock was set, is taken for zero."""
    for unit, length, least in (("days", 86_400, 2), ("h", 3_600, 2), ("min", 60, 2)):
        if seconds >= least * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


class SharedClock:
    """The store's clock, as it was heard last; before it was heard, the machine's own ``wall_clock``."""

    def __init__(
        self, wall_clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._heard = 0.0  # the time that was heard, in Unix seconds
        self._heard_at: float | None = None  # on the monotonic clock; None before the first time
        self._is_skewed = False

    def note(self, seconds: float) -> None:
        """Takes in that it is ``seconds`` by the store's clock, in Unix time."""
        self._heard, self._heard_at = seconds, self._monotonic()
        is_skewed = bool(self.warning)
        if is_skewed != self._is_skewed:
            self._is_skewed = is_skewed
            self._log_skew()

    def now(self) -> float:
        """The time of day in Unix seconds."""
        if self._heard_at is None:
            return self._wall_clock()
        return self._heard + self._monotonic() - self._heard_at

    @property
    def age(self) -> float | None:
        """How long ago the store's time was heard, in seconds; None before the first time."""
        return None if self._heard_at is None else self._monotonic() - self._heard_at

    @property
    def skew(self) -> float | None:
        """By how many seconds the machine's own clock is ahead of the store's; None before that is known."""
        return None if self._heard_at is None else self._wall_clock() - self.now()

    @property
    def warning(self) -> str:
        """What is wrong with the machine's clock, and what to do about it; empty if nothing is known to be wrong."""
        skew = self.skew
        if skew is None or abs(skew) <= MOST_SKEW:
            return ""
        which = "ahead of" if skew > 0 else "behind"
        return (
            f"this machine's clock is {abs(skew):.0f} s {which} the store's, whose time is used: set the one that is"
            " wrong, and keep both by NTP"
        )

    def _log_skew(self) -> None:
        fields = {"seconds_ahead": round(self.skew or 0.0, 3)}
        if self._is_skewed:
            log.warning("clock_skewed", extra={**fields, "remedy": self.warning})
        else:
            log.info("clock_agrees", extra=fields)
