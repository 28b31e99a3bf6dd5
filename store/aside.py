"""Work on large documents, aside from the event loop, so that all others are served meanwhile.

A document of 30,000 instances takes a tenth of a second to read and to write. One thread does that, for one document
after the other: with more of them the event loop, which needs the lock of the interpreter too, would wait for each. An
environment has one piece of work in the queue at a time, so one that is written and read all the time delays other
large ones by that one, and small ones not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from zones.model import Environment

LARGE = 64 << 10  # octets; two milliseconds to read
LARGE_INSTANCES = 500  # about as many octets

T = TypeVar("T")


class Aside:
    """Calls functions aside from the event loop, one at a time, in the order of the environments that they are for."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="documents")
        self._turns: dict[str, _Turn] = {}

    async def call(self, id_: str, function: Callable[[], T]) -> T:
        """The result of ``function``, which works on a large document of the environment ``id_``."""
        async with self._turn(id_):
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    @asynccontextmanager
    async def _turn(self, id_: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(id_, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[id_]

    def close(self) -> None:
        """Ends the thread, which is idle when nobody waits for it."""
        self._thread.shutdown(wait=False)


class _Turn:
    """The turn of one environment, and how many wait for it or have it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


def is_large(environment: Environment) -> bool:
    """Whether the document of ``environment`` is a large one."""
    instances = sum(len(service.instances) for service in environment.services.values())
    return instances + len(environment.records) + len(environment.peers) > LARGE_INSTANCES
