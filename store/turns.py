"""Turns of environments: of those who work on changes of one environment, a few do so at a time.

A commit is made for all who wait for it, and then all of them go on at once, each to make a reply. The event loop takes
a step of each of them before it takes the next one of anybody else: who needs twenty steps, for another environment,
would wait for twenty steps of each. So they go on a few at a time, and the next commit of that environment follows
when its turn comes, for all who wait for it by then.

Who waits for a commit has no turn meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TypeVar

AT_ONCE = 2  # one works while another one waits for the store

T = TypeVar("T")


class Turns:
    """The turns of all environments."""

    def __init__(self) -> None:
        self._environments: dict[str, _Places] = {}

    @asynccontextmanager
    async def taken(self, environment: str) -> AsyncIterator[None]:
        """It is the turn of whoever works on ``environment`` here."""
        places = self._environments.setdefault(environment, _Places())
        places.users += 1
        turn = _Turn(places.free)
        before = _turn.set(turn)
        try:
            await turn.take()
            yield
        finally:
            _turn.reset(before)
            turn.give()
            places.users -= 1
            if not places.users:
                del self._environments[environment]


async def out_of_turn(work: Awaitable[T]) -> T:
    """What ``work`` returns. Meanwhile it is the turn of others; an exception does not wait for the next turn."""
    turn = _turn.get()
    if turn is None:
        return await work
    turn.give()
    done = await work
    await turn.take()
    return done


class _Places:
    """Those who work on one environment, or want to."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(AT_ONCE)
        self.users = 0


class _Turn:
    """The turn of one of them."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._has_place = False

    async def take(self) -> None:
        await self._places.acquire()
        self._has_place = True

    def give(self) -> None:
        if self._has_place:
            self._has_place = False
            self._places.release()


_turn: ContextVar[_Turn | None] = ContextVar("turn", default=None)
