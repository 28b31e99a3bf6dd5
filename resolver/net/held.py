"""Queries whose reply must wait: for a zone to be published, for all environments to be loaded, or for an upstream."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from resolver.counts import QueryCounts
from resolver.forward.stepwise import Stepwise
from resolver.wire.messages import Hold

LOADING_HOLD = 1.5  # seconds; clients ask again after two or more, and would then get two answers
PENDING_HOLD = 1.0  # seconds; a pending zone is published within milliseconds, unless its path cannot be programmed
MOST_HELD = 10_000  # packets, some megabytes; beyond that it is better for a client to ask again
MOST_OF_ONE_SOURCE = 512  # packets; a client that starts has fewer look-ups at once, and the others are for others

AnswerQuery = Callable[[bool], Hold | None]
"""Answers one query from what is known when it is called. If that is not enough, it returns what the query must wait
for. Called with True it answers in any case; it is not called again."""


@dataclass(eq=False, slots=True)
class _HeldQuery:
    source: bytes
    answer: AnswerQuery
    until: Hold
    timer: asyncio.TimerHandle = field(init=False)


class HeldQueries:
    """Holds queries until `release`, so that no client gets a denial for what is only not known yet.

    A query is held for at most `LOADING_HOLD`, or `PENDING_HOLD` where it waits for a pending zone. One source has
    `MOST_OF_ONE_SOURCE` of them, so that it cannot take the room of all others.
    """

    def __init__(self, counts: QueryCounts) -> None:
        self._counts = counts
        self._number = 0
        self._number_of: Counter[bytes] = Counter()  # source → how many of its queries are held
        self._held: dict[Hold, dict[_HeldQuery, None]] = {}

    def __len__(self) -> int:
        return self._number

    def hold(self, until: Hold, source: bytes, answer: AnswerQuery) -> bool:
        """Calls ``answer`` at the release of ``until``, or when the longest hold is over.

        Gives False, and does not call it, if no more queries can be held, or no more of ``source``, a client's address.
        """
        if until.environment is None:
            self._counts.held_loading += 1
        else:
            self._counts.held_pending += 1
        if self._number >= MOST_HELD or self._number_of[source] >= MOST_OF_ONE_SOURCE:
            return False
        held = _HeldQuery(source, answer, until)
        longest = LOADING_HOLD if until.environment is None else PENDING_HOLD
        held.timer = asyncio.get_running_loop().call_later(longest, self._give_up, held)
        self._add(held)
        return True

    def release(self, until: Hold) -> None:
        """Answers all queries that wait for ``until``. One that must wait for something else keeps its deadline."""
        for held in self._held.pop(until, {}):
            self._count_down(held)
            if again := held.answer(False):
                held.until = again
                self._add(held)
            else:
                held.timer.cancel()

    def _add(self, held: _HeldQuery) -> None:
        self._held.setdefault(held.until, {})[held] = None
        self._number += 1
        self._number_of[held.source] += 1

    def _count_down(self, held: _HeldQuery) -> None:
        self._number -= 1
        self._number_of[held.source] -= 1
        if not self._number_of[held.source]:
            del self._number_of[held.source]

    def _give_up(self, held: _HeldQuery) -> None:
        others = self._held[held.until]
        del others[held]
        if not others:
            del self._held[held.until]
        self._count_down(held)
        held.answer(True)


class ReplyTasks:
    """The tasks that make replies with an upstream's help. Before each of their steps they call ``between_steps``."""

    def __init__(self, between_steps: Callable[[], None]) -> None:
        self._between_steps = between_steps
        self._tasks: set[asyncio.Task[bytes]] = set()

    def start(self, reply: Coroutine[Any, Any, bytes], send: Callable[[asyncio.Task[bytes]], None]) -> None:
        """Calls ``send`` when ``reply`` is done."""
        task = asyncio.create_task(Stepwise(reply, self._between_steps))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(send)

    async def drain(self) -> None:
        """Returns when all replies are done. The forwarder bounds the time of each."""
        while self._tasks:
            await asyncio.wait(self._tasks)
