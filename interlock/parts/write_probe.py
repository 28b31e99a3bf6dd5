"""The write probe: asks every second whether the store, which may well answer, would take a write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from interlock.process.supervise import Part
from store.errors import Unavailable
from store.store import Store
from store.writable import find_obstacle

ASK_EVERY = 1.0  # seconds; a load balancer should learn of it before its clients do

log = logging.getLogger(__name__)


@dataclass(slots=True)
class WriteProbe:
    """Knows what keeps a store from taking writes."""

    store: Store
    """The store that is asked."""
    obstacle: str = ""
    """Why it would take no write, as far as it says; empty too while it does not answer, which others report."""

    @property
    def part(self) -> Part:
        return Part("store_writes", self._run)

    async def _run(self, ready: Callable[[], None]) -> None:
        ready()  # no other part waits for it
        while True:
            try:
                obstacle = await find_obstacle(self.store.connection)
            except Unavailable:
                obstacle = ""
            if obstacle and not self.obstacle:
                log.error("store_takes_no_writes", extra={"store": self.store.url, "reason": obstacle})
            elif self.obstacle and not obstacle:
                log.info("store_takes_writes", extra={"store": self.store.url})
            self.obstacle = obstacle
            await asyncio.sleep(ASK_EVERY)
