"""Waiting until all live hosts have acknowledged a revision: each environment that is waited for is asked about once.

An acknowledgement that arrives at this control plane wakes the waits for it at once. Those that arrive at others are
found by asking the store, at intervals that grow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from store.acks import AckStore
from store.errors import Unavailable

ASK_FIRST, ASK_LAST, ASK_GROWTH = 0.004, 0.1, 1.3  # seconds between two questions to the store
ASK_LEAST = 0.002  # seconds between two questions, however many acknowledgements arrive
LONGEST = 60.0  # seconds; no agent waits as long


@dataclass(eq=False, slots=True)
class _Waiter:
    revision: int
    but: str
    only: frozenset[str]
    end: float
    outcome: asyncio.Future[frozenset[str]]


@dataclass(slots=True)
class _Waited:
    """An environment, or the documents of all hosts, that is waited for."""

    waiters: set[_Waiter] = field(default_factory=set)
    woken: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Waits:
    """All waits at this control plane."""

    acks: AckStore
    """Where the acknowledgements are."""
    _waited: dict[str, _Waited] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def wait(self, id_: str, revision: int, but: str, seconds: float, only: Iterable[str] = ()) -> frozenset[str]:
        """Returns once all live hosts, ``but`` one, have ``revision`` of ``id_``, an environment or `ALL_HOSTS`.

        With ``only``, those alone are waited for. After ``seconds`` it returns those that lag. Raises
        `store.errors.Unavailable`.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + max(0.0, min(seconds, LONGEST))
        waiter = _Waiter(revision, but, frozenset(only), end, loop.create_future())
        waited = self._waited.get(id_)
        if waited is None:
            waited = self._waited[id_] = _Waited()
            task = asyncio.create_task(self._ask(id_, waited))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        waited.waiters.add(waiter)
        waited.woken.set()
        try:
            return await waiter.outcome
        finally:
            waited.waiters.discard(waiter)

    def note(self, ids: Iterable[str]) -> None:
        """An acknowledgement of ``ids`` has arrived here."""
        for id_ in ids:
            if waited := self._waited.get(id_):
                waited.woken.set()

    async def _ask(self, id_: str, waited: _Waited) -> None:
        clock, pause = asyncio.get_running_loop().time, ASK_FIRST
        try:
            while waited.waiters:
                waited.woken.clear()
                progress = await self.acks.progress(id_)
                now = clock()
                for waiter in list(waited.waiters):
                    lagging = progress.lagging(waiter.revision, waiter.but)
                    if waiter.only:
                        lagging &= waiter.only
                    if (not lagging or now >= waiter.end) and not waiter.outcome.done():
                        waiter.outcome.set_result(lagging)
                        waited.waiters.discard(waiter)
                await asyncio.sleep(ASK_LEAST)
                try:
                    async with asyncio.timeout(pause):
                        await waited.woken.wait()
                    pause = ASK_FIRST
                except TimeoutError:
                    pause = min(pause * ASK_GROWTH, ASK_LAST)
        except Unavailable as error:
            for waiter in waited.waiters:
                if not waiter.outcome.done():
                    waiter.outcome.set_exception(error)
        finally:
            del self._waited[id_]
