"""Queries that wait: until the environments are loaded, or until others have been asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

LONGEST_HOLD = 1.5  # seconds; clients ask again after two or more, and would then have two answers
MOST_HELD = 10_000  # packets, some megabytes; beyond that a client is better off asking again

Answer = Callable[[], None]
"""Answers one query, by what is known when it is called."""


class Holding:
    """Holds queries until `release`, each for at most `LONGEST_HOLD`.

    So nobody is told "no" for what is merely not known yet.
    """

    def __init__(self) -> None:
        self._held: dict[Answer, asyncio.TimerHandle] = {}

    def hold(self, answer: Answer, give_up: Answer) -> bool:
        """Calls ``answer`` at the release, or ``give_up`` when that is too long in coming; False if all is full."""
        if len(self._held) >= MOST_HELD:
            return False
        loop = asyncio.get_running_loop()
        self._held[answer] = loop.call_later(LONGEST_HOLD, self._give_up, answer, give_up)
        return True

    def release(self) -> None:
        """Answers all that are held."""
        held, self._held = self._held, {}
        for answer, timer in held.items():
            timer.cancel()
            answer()

    def _give_up(self, answer: Answer, give_up: Answer) -> None:
        del self._held[answer]
        give_up()


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
