"""The time of day by the store's clock, which all who write and read documents share.

A document says until when a former name is answered. If each process went by the clock of its own machine, a resolver
whose clock is ahead would end such a name early, and a writer whose clock is behind would give it no time at all. So
the store is asked for its time, and between two questions the time goes on as the monotonic clock does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from store.connection import Connection
from support.clock import MOST_SKEW, unix_milliseconds

MEASURE_EVERY = 10.0  # seconds; after a failover the new primary's clock counts as soon as that

log = logging.getLogger(__name__)


class StoreClock:
    """The clock of the store behind ``connection``; before it was first read, the machine's own ``wall_clock``."""

    def __init__(
        self,
        connection: Connection,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._store_time = 0.0  # when it was read, in Unix seconds
        self._read_at: float | None = None  # on the monotonic clock; None before the first time
        self._is_skewed = False

    def now(self) -> float:
        """The time of day in Unix seconds."""
        if self._read_at is None:
            return self._wall_clock()
        return self._store_time + self._monotonic() - self._read_at

    @property
    def skew(self) -> float | None:
        """By how many seconds the machine's own clock is ahead of the store's; None before that is known."""
        return None if self._read_at is None else self._wall_clock() - self.now()

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

    async def milliseconds(self) -> int:
        """The time of day in Unix milliseconds, by the store's clock for certain. Raises `store.errors.Unavailable`."""
        if self._read_at is None or self._monotonic() - self._read_at > MEASURE_EVERY:
            await self.read()
        return unix_milliseconds(self.now)

    async def read(self) -> None:
        """Reads the store's clock, and logs it where this machine's has come to differ. Raises `Unavailable`."""
        async with self._connection.client() as redis:
            seconds, microseconds = await redis.time()
        # It was read a moment before, so this time is behind the store's by as much; it never is ahead.
        self._store_time, self._read_at = seconds + microseconds / 1_000_000, self._monotonic()
        self._note_skew()

    def _note_skew(self) -> None:
        is_skewed = bool(self.warning)
        if is_skewed != self._is_skewed:
            self._is_skewed = is_skewed
            fields = {"store": self._connection.url, "seconds_ahead": round(self.skew or 0.0, 3)}
            if is_skewed:
                log.warning("clock_skewed", extra={**fields, "remedy": self.warning})
            else:
                log.info("clock_agrees", extra=fields)
