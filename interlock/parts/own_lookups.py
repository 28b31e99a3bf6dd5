"""The look-ups of the resolver in this process, given to those who watch at the admin API of the same process."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field

from admin.lookups.hub import LookupHub
from resolver.querylog import Filter, GivesLines, Watch
from watcher.session.lookups import LookupFilter, fields_of, lookup_of

TOGETHER = 100  # lines that are passed on without a break for queries


@dataclass(eq=False, slots=True)
class OwnLookups:
    """Watches ``log`` while somebody watches at ``hub``. It is a `admin.lookups.hub.Source`."""

    log: GivesLines
    """The look-ups of the resolver."""
    hub: LookupHub
    """Is given them."""
    host: str | None = None
    """None: it is no host."""
    resolvers: int | None = 1
    """There is one resolver."""
    _asked: tuple[tuple[LookupFilter, ...], int] = ((), 0)
    _task: asyncio.Task[None] | None = field(default=None)

    def watch(self, filters: tuple[LookupFilter, ...], most: int) -> None:
        """Passes on what one of ``filters`` wants, ``most`` a second."""
        asked = (filters, most if filters else 0)
        if asked == self._asked:
            return
        self._asked = asked
        if self._task:
            self._task.cancel()
            self._task = None
        if filters:
            watch = self.log.watch(*(Filter(**fields_of(one)) for one in filters), most=most)
            self._task = asyncio.create_task(self._pass_on(watch))

    async def _pass_on(self, watch: Watch) -> None:
        try:
            while True:
                lines = await watch.get_some(TOGETHER)
                left_out = dict(watch.skipped)
                watch.skipped.clear()
                self.hub.take([lookup_of(asdict(line)) for line in lines], left_out)
                await asyncio.sleep(0)
        finally:
            self.log.unwatch(watch)
