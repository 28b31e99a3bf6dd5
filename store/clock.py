"""The time of day by the store's clock, which all who write and read documents share; `support.clock` says why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from store.connection import Connection
from support.clock import SharedClock, unix_milliseconds

HELD_UP, ATTEMPTS = 1.0, 3  # seconds after which a reply is old, and how often it is asked for again
MEASURE_EVERY = 10.0  # seconds; after a failover the new primary's clock counts as soon as that


class StoreClock(SharedClock):
    """The clock of the store behind ``connection``; before it was first read, the machine's own ``wall_clock``."""

    def __init__(
        self,
        connection: Connection,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(wall_clock, monotonic)
        self._connection = connection
        self._reading: asyncio.Task[None] | None = None

    async def milliseconds(self) -> int:
        """The time of day in Unix milliseconds, by the store's clock for certain. Raises `store.errors.Unavailable`."""
        if (age := self.age) is None or age > MEASURE_EVERY:
            await self._read_for_all()
        return unix_milliseconds(self.now)

    async def _read_for_all(self) -> None:
        """Reads it once for all who ask meanwhile: after a stall of this process a thousand agents do."""
        if self._reading is None:
            self._reading = asyncio.create_task(self.read())
            self._reading.add_done_callback(self._end_reading)
        await asyncio.shield(self._reading)

    def _end_reading(self, reading: asyncio.Task[None]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # which those who still wait for it are told

    async def read(self) -> None:
        """Reads the store's clock, and logs it where this machine's has come to differ. Raises `Unavailable`."""
        for _ in range(ATTEMPTS):
            asked = self._monotonic()
            async with self._connection.client() as redis:
                seconds, microseconds = await redis.time()
            if self._monotonic() - asked < HELD_UP:
                break  # else this process had no turn meanwhile, and it would seem to be ahead
        # It was read a moment before, so this time is behind the store's by as much; it never is ahead.
        self.note(seconds + microseconds / 1_000_000)
