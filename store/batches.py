"""Batches: what many ask of the store at about the same time is asked in one command.

A command costs this process some 300 us, whatever it does at the store: a connection is taken and given back, time
limits are set, the system is called twice. By that alone a thousand agents, which renew 670 leases a second, would keep
a fifth of a core busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from store.errors import Refused

A = TypeVar("A")
R = TypeVar("R")


class Batches(Generic[A, R]):
    """Has ``ask`` ask for all that comes within ``seconds``, but no more than ``most`` at once.

    Each that is asked for has its own reply. Where the store refuses a batch, which may be because of one of them, each
    is asked for alone; so asking twice must do no more than asking once.
    """

    def __init__(self, ask: Callable[[Sequence[A]], Awaitable[Sequence[R]]], *, seconds: float, most: int) -> None:
        self._ask = ask
        self._seconds = seconds
        self._most = most
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def reply(self, asked: A) -> R:
        """The reply to ``asked``. Raises what ``ask`` raises for the batch that it is in."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[R] = loop.create_future()
        self._waiting.append((asked, reply))
        if len(self._waiting) >= self._most:
            self._begin()
        elif self._timer is None:
            self._timer = loop.call_later(self._seconds, self._begin)
        return await reply

    def _begin(self) -> None:
        if self._timer:
            self._timer.cancel()
        batch, self._waiting, self._timer = self._waiting, [], None
        task = asyncio.create_task(self._take(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, batch: Sequence[tuple[A, asyncio.Future[R]]]) -> None:
        wanted = [one for one in batch if not one[1].done()]  # whoever asked may have gone
        if not wanted:
            return
        try:
            replies = await self._ask([asked for asked, _ in wanted])
        except Refused as error:
            if len(wanted) > 1:
                await asyncio.gather(*(self._take([one]) for one in wanted))
            else:
                _fail(wanted, error)
        except Exception as error:  # noqa: BLE001 those who wait raise it
            _fail(wanted, error)
        else:
            for (_, outcome), reply in zip(wanted, replies, strict=True):
                if not outcome.done():
                    outcome.set_result(reply)


def _fail(wanted: Sequence[tuple[A, asyncio.Future[R]]], error: Exception) -> None:
    for _, outcome in wanted:
        if not outcome.done():
            outcome.set_exception(error)
