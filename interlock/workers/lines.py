"""The query log of all workers: what a watcher of it would see if one process answered all queries."""

from __future__ import annotations

import time
from collections.abc import Callable

from interlock.workers.messages import Seen, ToWorker, Unwatch, Watch
from resolver.querylog import MOST_LINES, Filter
from resolver.querylog import Watch as Lines


class SharedQueryLog:
    """Gives the lines of all workers to its watchers. ``tell_all`` sends a message to each worker."""

    def __init__(self, tell_all: Callable[[ToWorker], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell_all = tell_all
        self._clock = clock
        self._watches: dict[int, Lines] = {}
        self._last_number = 0

    def watch(self, *filters: Filter, most: int = MOST_LINES) -> Lines:
        """A queue that gets the lines which one of ``filters`` selects, ``most`` a second, until `unwatch`."""
        self._last_number += 1
        lines = self._watches[self._last_number] = Lines(filters, most)
        self._tell_all(Watch(self._last_number, filters, most))
        return lines

    def unwatch(self, watch: Lines) -> None:
        """Gives ``watch`` no more lines."""
        for number in [number for number, known in self._watches.items() if known is watch]:
            del self._watches[number]
            self._tell_all(Unwatch(number))

    def repeat_to(self, tell: Callable[[ToWorker], None]) -> None:
        """Has a new worker, to which ``tell`` sends messages, know the watchers that there are."""
        for number, watch in self._watches.items():
            tell(Watch(number, tuple(watch.filters), watch.most))

    def take(self, seen: Seen) -> None:
        """Gives a worker's line to its watcher."""
        watch = self._watches.get(seen.number)
        if watch is None:
            return
        watch.skipped.update(seen.skipped)
        if not (watch.may_take(self._clock()) and watch.give(seen.line)):
            watch.skipped[seen.line.environment or ""] += 1
