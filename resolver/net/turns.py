"""Turns: queries whose reply must be made are answered in turn, one of each source after the other.

A reply from the packet cache costs some microseconds, one that must be made some tens, and one that is forwarded a
thousand. So what must be made waits here, by source: a source with ten thousand queries and one with a single query
get their next replies one after the other. Between two of them, and between two steps of forwarding, the sockets are
read, so that replies from the packet cache wait for neither.

    admit      may this source have one more made?     a rate for each source, `SourceRate`
    put        it waits for its turn                   bounded for each source, and in all
    take_some  the next few, in turn                   called from the event loop, and by `between_steps`
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from time import perf_counter

DEFAULT_RATE = 1000.0  # a second for one source: a tenth of a core, and more than a program looks up that is well
SLICE = 32  # turns without a break for other work: half a millisecond
READ_AFTER = 8  # turns: a tenth of a millisecond, for which what is in the packet cache waits
MOST_WAITING = 10_000  # in all; some megabytes
MOST_OF_ONE_SOURCE = 512  # a burst that is worked off before its client gives up
TRACKED = 65_536  # sources whose rate is known; some 15 MB. Beyond that all begin anew, as if they had been idle
READ_EVERY = 0.0003  # seconds between two looks at the sockets while queries are forwarded
WARN_EVERY = 60.0  # seconds between two warnings: a flood must not fill the log

log = logging.getLogger(__name__)


class SourceRate:
    """How many replies each source has had made: at most ``rate`` a second, of which it may save up one second's.

    A rate of 0 is no limit.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._full_at: dict[bytes, float] = {}  # source → when all that it has used will be there again
        self._warned = -WARN_EVERY

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, source: bytes, now: float) -> bool:
        """Whether ``source`` may have one more reply made at ``now`` (monotonic seconds)."""
        if not self.rate:
            return True
        full_at = max(self._full_at.get(source, now), now)
        if full_at - now >= 1.0:
            self._warn(source, now)
            return False
        if len(self._full_at) >= TRACKED:
            self._full_at.clear()
        self._full_at[source] = full_at + 1.0 / self.rate
        return True

    def _warn(self, source: bytes, now: float) -> None:
        if now - self._warned >= WARN_EVERY:
            self._warned = now
            address = socket.inet_ntop(socket.AF_INET if len(source) == 4 else socket.AF_INET6, source)
            log.warning("source_limited", extra={"source": address, "rate": self.rate})


class Turns:
    """The queries that wait for their turn. ``read_sockets`` reads what has arrived meanwhile."""

    def __init__(self, rate: float = DEFAULT_RATE) -> None:
        self.rate = SourceRate(rate)
        self.read_sockets: Callable[[], None] = lambda: None
        self._last_read = 0.0  # between two steps of long work
        self._waiting: dict[bytes, deque[Callable[[], None]]] = {}
        self._order: deque[bytes] = deque()  # of those that wait, each source once: whose turn is next
        self._number = 0
        self._is_scheduled = False

    def __len__(self) -> int:
        return self._number

    def put(self, source: bytes, turn: Callable[[], None]) -> bool:
        """Calls ``turn`` when it is the turn of ``source``. Gives False, and never calls it, if too many wait."""
        waiting = self._waiting.get(source)
        if self._number >= MOST_WAITING or len(waiting or ()) >= MOST_OF_ONE_SOURCE:
            return False
        if waiting is None:
            waiting = self._waiting[source] = deque()
            self._order.append(source)
        waiting.append(turn)
        self._number += 1
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._work)
        return True

    def take_some(self) -> None:
        """Makes the next `SLICE`, and reads the sockets after each `READ_AFTER` of them, and at the end."""
        order = self._order
        for left in range(min(SLICE, self._number), 0, -1):
            source = order[0]
            waiting = self._waiting[source]
            turn = waiting.popleft()
            self._number -= 1
            if waiting:
                order.rotate(-1)
            else:
                order.popleft()
                del self._waiting[source]
            turn()
            if left % READ_AFTER == 1:
                self.read_sockets()

    def between_steps(self) -> None:
        """Reads the sockets and makes the next few replies, if that is due. To be called from long work."""
        now = perf_counter()
        if now - self._last_read >= READ_EVERY:
            self._last_read = now
            self.read_sockets()
            self.take_some()

    def take_all(self) -> None:
        """Makes all that wait: the server is about to end."""
        while self._number:
            self.take_some()

    def _work(self) -> None:
        self.take_some()
        # Not at once: the loop looks first whether queries have arrived.
        self._is_scheduled = bool(self._number)
        if self._number:
            asyncio.get_running_loop().call_soon(self._work)
