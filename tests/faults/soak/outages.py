"""Outages of the store, one after the other: frozen, killed, cut off from its clients."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from tests.faults.soak.installations import Installation, signal_store
from tests.faults.soak.judge import now
from tests.store.servers import redis_of

FROZEN_FOR = (0.5, 8.0)  # seconds
GONE_FOR = 2.0  # seconds until a killed Redis is started again
SETTLED = 10.0  # seconds after an outage until an old answer counts as a fault: a reader waits up to 5 s to reconnect


@dataclass
class Outages:
    """The outages of one installation."""

    installation: Installation
    every: float
    """Seconds between two of them."""
    times: list[tuple[float, float]] = field(default_factory=list)
    """When each began and ended, in monotonic seconds."""
    counts: Counter[str] = field(default_factory=Counter)
    """How many there were of each kind."""

    def cover(self, moment: float) -> bool:
        """Whether the store was away at ``moment``, or just before."""
        return any(began <= moment <= ended + SETTLED for began, ended in self.times)

    async def run(self) -> None:
        """Makes them until cancelled."""
        while True:
            await asyncio.sleep(random.uniform(0.7, 1.3) * self.every)
            kind = random.choice(("frozen", "killed", "cut"))
            self.counts[kind] += 1
            began = now()
            self.times.append((began, began + 60))  # until it is known when it ends
            if kind == "frozen":
                await self._freeze()
            elif kind == "killed":
                signal_store(self.installation, signal.SIGKILL)
                await asyncio.sleep(GONE_FOR)
                await self.installation.restart_store()
            else:
                await self._cut()
            self.times[-1] = (began, now())

    async def _freeze(self) -> None:
        signal_store(self.installation, signal.SIGSTOP)
        try:
            await asyncio.sleep(random.uniform(*FROZEN_FOR))
        finally:
            signal_store(self.installation, signal.SIGCONT)

    async def _cut(self) -> None:
        """Ends all connections of the store's clients."""
        directory = self.installation.directory
        socket = next(path for path in (directory / "redis.sock", directory / "state" / "store.sock") if path.exists())
        with suppress(RedisError, OSError):
            async with redis_of(f"unix://{socket}") as redis:
                for kind in ("normal", "pubsub"):
                    await redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
