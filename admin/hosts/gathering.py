"""Commits of one environment that agents ask for at the same time are made together: as Nagle's algorithm (RFC 896).

Each commit costs every host of its environment a pass, its resolvers a zone, and an acknowledgement. So while hosts
have one still to acknowledge, the next ones are gathered, and the writer makes all of them in one commit. Where there
is nothing to wait for, as with one deploy after the other, nobody waits; and a commit that hosts do not acknowledge
holds up nobody for longer than `LONGEST`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from admin.hosts.state import PlatformState
from watcher.session.protocol import Committed

LONGEST = 0.1  # seconds; a healthy host takes ten milliseconds to apply a commit and to acknowledge it, a busy one this


@dataclass(slots=True)
class Gathering:
    """Decides when what agents ask for is committed."""

    state: PlatformState
    """Which revisions are published, and which hosts have them still to acknowledge."""
    _working: Counter[str] = field(default_factory=Counter)  # how many requests are at the store, by environment
    _made: dict[str, tuple[int, float]] = field(default_factory=dict)  # what was committed last, and when
    _waiting: dict[str, list[tuple[str, asyncio.Future[None]]]] = field(default_factory=dict)  # hosts, and their wakers

    async def commit(self, environment: str, host: str, make: Callable[[], Awaitable[Committed]]) -> Committed:
        """What ``make`` gives, which commits to ``environment`` for ``host``, once it is its turn."""
        if not self._is_free(environment, host):
            await self._wait(environment, host)
        self._release(environment)  # whoever waits goes with it
        self._working[environment] += 1
        try:
            committed = await make()
            self._made[environment] = committed.revision, time.monotonic()
        finally:
            self._working[environment] -= 1
            if not self._working[environment]:
                del self._working[environment]
        return committed

    def note(self, environments: Iterable[str]) -> None:
        """A host has acknowledged something of ``environments``."""
        for environment in environments:
            if any(self._is_free(environment, host) for host, _ in self._waiting.get(environment, ())):
                self._release(environment)

    def _is_free(self, environment: str, host: str) -> bool:
        if environment in self._working:
            return False
        since = time.monotonic() - LONGEST
        revision, made_at = self._made.get(environment, (0, 0.0))
        if made_at < since or revision <= self.state.revision(environment):
            self._made.pop(environment, None)
        else:
            return False  # the watcher of this process has not heard of it yet
        # What the host itself has not acknowledged is no reason: its acknowledgement comes behind this request.
        return self.state.propagation.missing(environment, since) <= {host}

    async def _wait(self, environment: str, host: str) -> None:
        waiter = host, asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(environment, [])
        waiting.append(waiter)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST):
                    await waiter[1]
        except asyncio.CancelledError:  # its session has ended
            waiting.remove(waiter)
            if not waiting and self._waiting.get(environment) is waiting:
                del self._waiting[environment]
            raise

    def _release(self, environment: str) -> None:
        for _, woken in self._waiting.pop(environment, ()):
            if not woken.done():
                woken.set_result(None)
