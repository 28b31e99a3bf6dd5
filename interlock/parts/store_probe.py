"""The store probe: asks every second whether the store answers, for the readiness of the admin API.

It logs nothing: the watcher of the same process says when the store is away, and when it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from interlock.process.supervise import Part
from store.errors import Unavailable
from store.store import Store

PING_EVERY = 1.0  # seconds; a load balancer should learn of a lost store before its clients do


@dataclass(slots=True)
class StoreProbe:
    """Pings a store, which also keeps its clock known, and remembers the outcome."""

    store: Store
    """The store that is pinged."""
    reason: str = "the store has not been asked yet"
    """Why the store does not answer; empty while it answers."""
    last_contact: float | None = None
    """When it answered last, in monotonic seconds; None if it never did."""
    disconnects: int = 0
    """Times that it stopped answering."""

    @property
    def part(self) -> Part:
        return Part("store_probe", self._ping)

    async def _ping(self, ready: Callable[[], None]) -> None:
        while True:
            try:
                await self.store.ping()
                await self.store.clock.milliseconds()
            except Unavailable as error:
                self.disconnects += not self.reason
                self.reason = str(error)
            else:
                self.reason, self.last_contact = "", time.monotonic()
            ready()
            await asyncio.sleep(PING_EVERY)
