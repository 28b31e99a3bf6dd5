"""Supervision: each part of a process may crash and be restarted without affecting the others.

A part is a coroutine function that serves until it is cancelled, then drains. If it fails before it has called
``ready()``, the start of the process fails, unless the part is one that the process can do without. If it fails later,
the failure is logged and counted, and the part is started again after a delay that grows with each failure.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from interlock.errors import InterlockError

RESTART_FIRST = 0.1  # seconds until the first restart; most crashes do not repeat at once
RESTART_LAST = 10.0  # seconds between restarts at most, so that a part is back soon after its cause is removed
HEALTHY_AFTER = 60.0  # seconds of service after which the delay starts from RESTART_FIRST again
DRAIN_DEADLINE = 6.0  # seconds that one part may take to end; longer than any deadline within a part


log = logging.getLogger(__name__)


Run = Callable[[Callable[[], None]], Awaitable[None]]
"""``run(ready)`` serves until cancelled, and calls ``ready`` once it serves."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the process."""

    name: str
    """Names the part in logs, metrics and /readyz."""
    run: Run
    """Serves until cancelled."""
    is_vital: bool = True
    """Whether the start of the process fails with that of this part; else the part is started again, as it is later."""


@dataclass(slots=True)
class Supervisor:
    """Starts parts in order and stops them in reverse order, so that each stops before those that it uses."""

    parts: list[Part]
    """The parts, in the order of their start."""
    first_delay: float = RESTART_FIRST
    """Seconds until the first restart of a part."""
    restarts: dict[str, int] = field(default_factory=dict)
    """How often each part was started again, by name."""
    down: set[str] = field(default_factory=set)
    """The names of the parts that do not serve now."""
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _is_stopping: bool = False

    async def start(self) -> None:
        """Returns when all vital parts are ready. Raises the error of the first one that could not start."""
        for part in self.parts:
            self.restarts[part.name] = 0
            self.down.add(part.name)
            ready = asyncio.Event()
            task = self._tasks[part.name] = asyncio.create_task(self._supervise(part, ready), name=part.name)
            waiting = asyncio.create_task(ready.wait())
            try:
                await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            if not ready.is_set():
                del self._tasks[part.name]
                await task  # raises its error

    async def stop(self) -> None:
        """Stops all parts, each after those that use it."""
        self._is_stopping = True
        for name, task in reversed(self._tasks.items()):
            task.cancel()
            await asyncio.wait({task}, timeout=DRAIN_DEADLINE)
            if not task.done():
                log.warning("part_abandoned", extra={"part": name, "after_seconds": DRAIN_DEADLINE})
            elif not task.cancelled() and task.exception():
                log.error("part_failed_to_end", extra={"part": name}, exc_info=task.exception())
        self._tasks.clear()

    async def _supervise(self, part: Part, first: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        delay = self.first_delay

        def ready() -> None:
            first.set()
            self.down.discard(part.name)

        while True:
            started = clock()
            try:
                await part.run(ready)
                raise InterlockError("the part ended by itself")
            except Exception as error:
                if self._is_stopping or (part.is_vital and not first.is_set()):
                    raise
                reason = error  # of any kind: the other parts go on
                first.set()
            delay = self.first_delay if clock() - started > HEALTHY_AFTER else delay
            self.down.add(part.name)
            self.restarts[part.name] += 1
            _log_failure(part.name, reason, delay)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 no secret
            delay = min(delay * 2, RESTART_LAST)


def _log_failure(name: str, reason: Exception, delay: float) -> None:
    # An error that Interlock foresaw is one line; any other is a fault, which is found by its traceback.
    trace = None if isinstance(reason, InterlockError) else reason
    fields = {"part": name, "reason": str(reason) or type(reason).__name__, "restart_in_seconds": delay}
    log.error("part_failed", extra=fields, exc_info=trace)
