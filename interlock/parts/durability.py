"""The durability check: asks the store at start, and now and then, whether it may lose what was committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from interlock.process.supervise import Part
from store.durability import read_risks
from store.errors import Unavailable
from store.store import Store

FIRST_EVERY, THEN_EVERY = 1.0, 300.0  # seconds; a failover may lead to a server that is set up in another way

log = logging.getLogger(__name__)


@dataclass(slots=True)
class DurabilityCheck:
    """Reads what a store may lose, and remembers it."""

    store: Store
    """The store that is asked."""
    risks: tuple[str, ...] = ()
    """What the store may lose; empty if that is nothing, or nobody knows yet."""

    @property
    def part(self) -> Part:
        return Part("durability", self._run)

    async def _run(self, ready: Callable[[], None]) -> None:
        ready()  # no other part waits for it
        while True:
            try:
                risks = await read_risks(self.store.connection)
            except Unavailable:
                await asyncio.sleep(FIRST_EVERY)
                continue
            for risk in risks:
                if risk not in self.risks:
                    log.warning("store_not_durable", extra={"store": self.store.url, "reason": risk})
            self.risks = risks
            await asyncio.sleep(THEN_EVERY)
