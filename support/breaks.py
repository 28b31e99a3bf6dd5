"""Breaks in long work on an event loop, so that nothing else on the loop waits for it longer than a moment."""

from __future__ import annotations

import asyncio
import time

AFTER = 0.000_1  # seconds, as long as a few queries take: a query waits for little more than for others


class Breaks:
    """The breaks of one piece of work, which begins when this is made."""

    __slots__ = ("_after", "_since")

    def __init__(self, after: float | None = None) -> None:
        """A break is due ``after`` seconds of work; by default `AFTER`."""
        self._after = AFTER if after is None else after
        self._since = time.monotonic()

    async def take(self) -> None:
        """Lets the loop do what it has to, if a break is due."""
        if time.monotonic() - self._since > self._after:
            await asyncio.sleep(0)
            self._since = time.monotonic()
