"""The embedded store as a part of ``interlock up``, which does not wait for it where there is a snapshot to serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interlock.errors import EmbeddedStoreFailed
from interlock.process.embedded import EmbeddedStore

PATIENCE = 1.0  # seconds for the server to answer; one of usual size takes a tenth of that

log = logging.getLogger(__name__)


@dataclass(slots=True)
class EmbeddedStorePart:
    """Runs the server. The first time, the parts after it start without it where it is late or damaged."""

    embedded: EmbeddedStore
    """The server."""
    snapshot: Path
    """The snapshot from which names are answered while the server is away; it need not exist."""
    _is_first: bool = True

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves until cancelled. Raises `EmbeddedStoreFailed`."""
        is_first, self._is_first = self._is_first and self.snapshot.exists(), False
        if not is_first:
            await self.embedded.run(ready)
            return
        started = asyncio.Event()

        def go_on() -> None:
            started.set()
            ready()

        waiting = asyncio.create_task(self._go_on_without(started, ready))
        try:
            await self.embedded.run(go_on)
        except EmbeddedStoreFailed:
            if not started.is_set():
                ready()  # the process goes on, and this part is started again and again, each time with the reason
            raise
        finally:
            waiting.cancel()

    async def _go_on_without(self, started: asyncio.Event, ready: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await started.wait()
        except TimeoutError:
            log.warning("store_late", extra={"after_seconds": PATIENCE, "served": str(self.snapshot)})
            ready()
