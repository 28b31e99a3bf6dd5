"""Who watches look-ups, and from whom: the sources are asked for what all viewers together want, and for nothing else.

    sources   the sessions of hosts, and the resolver of this process, if it has one
    groups    viewers that want the same; a look-up is matched and encoded once for all of them
    viewers   each with a bounded queue; what a slow one does not take is left out, and counted

While nobody watches, no source sends anything and nothing is kept. All sources together are asked for `MOST` look-ups a
second, so that 200 viewers, or a thousand hosts, cost the resolvers no more than one, and this process a bounded time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from admin.errors import RateLimited
from admin.lookups.viewers import Group, Status, Viewer
from watcher.session.lookups import Lookup, LookupFilter, combined

MOST = 2000  # look-ups a second of all sources together; each takes some 20 µs to check, match and encode
LEAST_OF_ONE = 10  # look-ups a second of one source, however many there are
MOST_OF_ONE = 1000
MOST_VIEWERS = 256  # a connection each, of the 1,024 that the API has
MOST_OF_ONE_ACTOR = 64  # with one token
FLUSH_EVERY = 0.1  # seconds; a person does not see the difference
REFRESH_EVERY = 10  # flushes between two looks at which environments and hosts there are


class Source(Protocol):
    """Where look-ups come from."""

    @property
    def host(self) -> str | None:
        """The host; None for the resolver of this process."""

    @property
    def resolvers(self) -> int | None:
        """How many resolvers give look-ups; None while the source has not said so."""

    def watch(self, filters: tuple[LookupFilter, ...], most: int) -> None:
        """Asks for what one of ``filters`` wants, ``most`` a second; with none of them, for nothing any more.

        It is called again and again: a source whose question is the same as before does nothing.
        """


class Expected(Protocol):
    """Gives the live hosts whose resolvers may answer clients of ``environment``; None: of any."""

    def __call__(self, environment: str | None) -> Collection[str]: ...


@dataclass(slots=True)
class LookupCounts:
    """What has happened since the start, for metrics."""

    taken: int = 0
    """Look-ups that came from sources."""
    refused: int = 0
    """Look-ups of environments for which their source may not speak."""
    left_out: int = 0
    """Look-ups that sources have left out, and that viewers have not taken in time."""


@dataclass(slots=True)
class LookupHub:
    """Passes look-ups from sources to viewers."""

    expected: Expected = lambda _: ()
    """Gives the live hosts."""
    counts: LookupCounts = field(default_factory=LookupCounts)
    """What has happened since the start."""
    _sources: list[Source] = field(default_factory=list)
    _groups: dict[LookupFilter, Group] = field(default_factory=dict)
    _flushing: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        """How many watch now."""
        return sum(len(group.viewers) for group in self._groups.values())

    # Sources

    def add(self, source: Source) -> None:
        """``source`` can be asked from now on. The shares of the others follow when all are asked anew."""
        self._sources.append(source)
        source.watch(*self._question())

    def remove(self, source: Source) -> None:
        """``source`` is gone."""
        if source in self._sources:
            self._sources.remove(source)

    def take(self, lookups: Iterable[Lookup], left_out: Mapping[str, int]) -> bool:
        """Takes ``lookups`` from a source, which has left out some. False where nobody watches any more.

        ``left_out`` has their number by environment; a viewer hears of those of its own.
        """
        for lookup in lookups:
            self.counts.taken += 1
            for group in self._groups.values():
                if group.wanted.wants(lookup):
                    self.counts.left_out += not group.put(lookup)
        if left_out:
            self.counts.left_out += sum(left_out.values())
            for group in self._groups.values():
                of = group.wanted.environment
                group.left_out += sum(left_out.values()) if of is None else left_out.get(of, 0)
        return bool(self._groups)

    # Viewers

    @asynccontextmanager
    async def watched(self, wanted: LookupFilter, actor: str) -> AsyncIterator[Viewer]:
        """A viewer of what ``wanted`` wants, inside the ``async with``. Raises `RateLimited`.

        ``actor`` is the id of the token that the viewer has.
        """
        mine = sum(one.actor == actor for group in self._groups.values() for one in group.viewers)
        if self.viewers >= MOST_VIEWERS or mine >= MOST_OF_ONE_ACTOR:
            raise RateLimited("too many watch look-ups already: end one of the others, or wait", wait=5.0)
        group = self._groups.setdefault(wanted, Group(wanted))
        viewer = Viewer(actor)
        group.viewers.append(viewer)
        self._ask()
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_for_ever())
        viewer.tell(self._status(group))
        try:
            yield viewer
        finally:
            group.viewers.remove(viewer)
            if not group.viewers:
                del self._groups[wanted]
                self._ask()
            if not self._groups and self._flushing:
                self._flushing.cancel()
                self._flushing = None

    def close(self) -> None:
        """Ends all viewers, because this process ends."""
        for group in self._groups.values():
            for viewer in group.viewers:
                viewer.close()

    # The rest

    def _question(self) -> tuple[tuple[LookupFilter, ...], int]:
        """What all viewers want now, and the share of one source: so many look-ups a second."""
        return combined(tuple(self._groups)), max(LEAST_OF_ONE, min(MOST_OF_ONE, MOST // max(1, len(self._sources))))

    def _ask(self) -> None:
        """Asks every source."""
        filters, most = self._question()
        for source in list(self._sources):
            source.watch(filters, most)

    async def _flush_for_ever(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            count += 1
            is_due = count % REFRESH_EVERY == 0
            if is_due:
                self._ask()  # of a host that has got its first member of an environment; and sources have come and gone
            for group in list(self._groups.values()):
                self.counts.left_out += group.flush(self._status(group) if is_due else None)

    def _status(self, group: Group) -> Status:
        environment = group.wanted.environment
        expected = set(self.expected(environment))
        by_host = {source.host: source for source in self._sources}
        heard = {host for host, source in by_host.items() if source.resolvers}
        silent = {host for host, source in by_host.items() if source.resolvers == 0}
        return Status(
            heard=tuple(sorted(host for host in heard if host is not None and host in expected)),
            silent=tuple(sorted(host for host in silent if host is not None and host in expected)),
            unheard=tuple(sorted(expected - heard - silent)),
            here=None in heard,
            left_out=group.left_out,
        )
