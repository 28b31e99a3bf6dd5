"""Queries that wait: until an environment is published, until all are loaded, or until others have been asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from resolver.counts import Counts
from resolver.wire.messages import Hold

LONGEST_HOLD = 1.5  # seconds; clients ask again after two or more, and would then have two answers
COMING_HOLD = 1.0  # seconds; a zone on its way is there within milliseconds, or something is wrong with its path
MOST_HELD = 10_000  # packets, some megabytes; beyond that a client is better off asking again

Answer = Callable[[bool], Hold | None]
"""Answers one query, by what is known when it is called. If that is not enough it gives what must be waited for; given
True it is called for the last time, and answers in any case."""


@dataclass(eq=False, slots=True)
class _Held:
    answer: Answer
    until: Hold
    timer: asyncio.TimerHandle = field(init=False)


class Holding:
    """Holds queries until `release`, each for at most `LONGEST_HOLD`, or `COMING_HOLD` where its name is on its way.

    So nobody is told "no" for what is merely not known yet.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._number = 0
        self._held: dict[Hold, dict[_Held, None]] = {}

    def hold(self, until: Hold, answer: Answer) -> bool:
        """Calls ``answer`` at the release of ``until``, or when that is too long in coming. False if all is full."""
        if until.environment is None:
            self._counts.held += 1
        else:
            self._counts.held_coming += 1
        if self._number >= MOST_HELD:
            return False
        held = _Held(answer, until)
        longest = LONGEST_HOLD if until.environment is None else COMING_HOLD
        held.timer = asyncio.get_running_loop().call_later(longest, self._give_up, held)
        self._keep(held)
        return True

    def release(self, until: Hold) -> None:
        """Answers all that waited for ``until``. What must wait on, for something else, has no more time for it."""
        released = self._held.pop(until, {})
        self._number -= len(released)
        for held in released:
            if again := held.answer(False):
                held.until = again
                self._keep(held)
            else:
                held.timer.cancel()

    def _keep(self, held: _Held) -> None:
        self._held.setdefault(held.until, {})[held] = None
        self._number += 1

    def _give_up(self, held: _Held) -> None:
        others = self._held[held.until]
        del others[held]
        if not others:
            del self._held[held.until]
        self._number -= 1
        held.answer(True)


class Waiting:
    """The replies that are being waited for."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[bytes]] = set()

    def start(self, reply: Coroutine[Any, Any, bytes], send: Callable[[asyncio.Task[bytes]], None]) -> None:
        """Calls ``send`` when ``reply`` is done."""
        task = asyncio.create_task(reply)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(send)

    async def drain(self) -> None:
        """Returns when all replies are done; each is bounded in time by whoever makes it."""
        while self._tasks:
            await asyncio.wait(self._tasks)
