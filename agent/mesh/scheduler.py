"""When a pass runs, when it reads the system back, and what happens when it fails.

One pass runs at a time. The next one begins when something has changed (`Scheduler.wake`), when somebody waits for it
(`Scheduler.wait_until_applied`), or when a read-back is due (`ReadBackTimer`); what comes during a pass is for the next
one. A pass that fails is tried again after `RETRY_FIRST` seconds, then after twice as long each time, until that is
`RETRY_LAST`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from agent.errors import AgentError, Failed
from agent.mesh.status import Status

READ_BACK_EVERY = 5.0  # seconds; how long a manual change that the kernel does not announce can last
READ_BACK_SHARE = 20  # reading back takes at most one twentieth of the time where the mesh is large, but see the next
READ_BACK_LATEST = 20.0  # seconds; reading is slow where processors are busy, and that is no large mesh
READ_BACK_DELAY = 0.5  # seconds after the agent's own last change: several changes are read back together
MANUAL_CHANGE_DELAY = 0.02  # seconds after the kernel announced a manual change: a flush is announced in several parts
RETRY_FIRST, RETRY_LAST = 0.2, 5.0  # seconds until a pass that failed is tried again

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReadBackTimer:
    """When the system is read back next. All times are monotonic, in seconds."""

    at: float = 0.0
    """The next read-back."""
    _latest: float = 0.0
    """The regular read-back, beyond which changes do not put it off."""
    _share: float = 0.0
    """The seconds that are to pass between two read-backs, so that they take no more than their share of the time."""

    def is_due(self, now: float) -> bool:
        """Whether the system is to be read back at ``now``."""
        return now >= self.at

    def bring_forward(self, at: float) -> None:
        """Reads back at ``at``, or before where that is planned already."""
        self.at = min(self.at, at)

    def was_read(self, started: float, now: float) -> None:
        """A read-back that began at ``started`` ended at ``now``."""
        self._share = min(READ_BACK_LATEST, READ_BACK_SHARE * (now - started))
        self.at = self._latest = now + max(READ_BACK_EVERY, self._share)

    def was_changed(self, now: float) -> None:
        """The agent changed the system at ``now``."""
        # Put off while one change follows another, but never beyond the regular read-back. Where the mesh is large, one
        # address is not followed by a reading of all.
        self.at = min(self._latest, now + max(READ_BACK_DELAY, self._share))


@dataclass(slots=True)
class Scheduler:
    """Runs one pass after another."""

    run_pass: Callable[[bool], Awaitable[None]]
    """Runs a pass. The argument says whether somebody waits for this pass. May raise anything."""
    read_back: ReadBackTimer
    """Bounds the wait for the next pass; the passes set it."""
    status: Status
    """Gets the outcome of each pass."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the next pass is to begin without waiting for the timer."""
    _waiters: list[asyncio.Future[None]] = field(default_factory=list)
    """Those that wait for a pass which has not begun yet."""

    def wake(self) -> None:
        """Runs a pass as soon as the one under way has ended."""
        self._wake.set()

    def read_back_soon(self, delay: float) -> None:
        """Reads the system back ``delay`` seconds from now, if not before."""
        self.read_back.bring_forward(time.monotonic() + delay)
        self._wake.set()

    async def wait_until_applied(self) -> None:
        """Returns when a pass that begins from now on has succeeded. Raises `Failed` where it fails."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake.set()
        await waiter

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled, and calls ``ready`` after each pass that succeeded.

        Raises `AgentError` where the first pass fails, and any other error of a pass at once.
        """
        delay, is_started = RETRY_FIRST, False
        while True:
            self._wake.clear()
            waiters, self._waiters = self._waiters, []
            try:
                await self.run_pass(bool(waiters))
            except BaseException as error:
                self._fail(error, waiters)
                if not is_started or not isinstance(error, AgentError):
                    raise  # the agent cannot work here as it is set up, or the fault is in our own code: start anew
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_LAST)
                continue
            delay, is_started, self.status.problem = RETRY_FIRST, True, ""
            ready()
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self.read_back.at - time.monotonic())):
                    await self._wake.wait()

    def _fail(self, error: BaseException, waiters: Iterable[asyncio.Future[None]]) -> None:
        reason = str(error) or type(error).__name__
        self.status.counts.failures += 1
        if self.status.problem != reason:  # once, not with every attempt
            log.error("mesh_failed", extra={"reason": reason})
        self.status.problem, self.status.actual = reason, None
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(Failed(reason))
