"""Breaks in long work on an event loop, so that nothing else on the loop waits for it longer than a moment."""

from __future__ import annotations

import asyncio
import os
import time

AFTER = 0.000_05  # seconds, as long as a query or two take: a query waits for little more than for others

_leaves_core = False  # whether the breaks of this process are for other processes too


def leave_core() -> None:
    """From now on each break of this process also leaves the core to whoever waits for it (sched_yield(2)).

    Where several processes of one resolver share cores, a query so waits for a stretch of this work, and not for a
    whole slice of the scheduler's.
    """
    global _leaves_core
    _leaves_core = True


async def pause() -> None:
    """Lets the loop do what it has to, and others have the core where this process leaves it."""
    if _leaves_core:
        os.sched_yield()
    # In each round the loop looks at the sockets before it goes on with this, and reads them after that. So with one
    # round, what has come meanwhile would wait for the next stretch of work as well.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


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
            await pause()
            self._since = time.monotonic()
