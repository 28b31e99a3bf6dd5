"""The watcher: follows the store and publishes the zone of each environment that it holds.

    load     where the history stands, then the index, then the documents     \
    tail     changes after that point; each names an environment to read       }  publish(zone) · withdraw(id)
    compare  the index with what is served; a difference is read again        /

What is served is a function of what the store holds, never of the order in which it was heard: a change only says
which environment to look at, and what is read then is the truth as of that moment. So a change that comes twice,
late or out of order does no harm, and whenever one may have been missed (a gap in the chain of positions, a new
connection, every `COMPARE_EVERY` seconds) comparing the index with what is served mends it.

A watcher with an ``interest`` follows the environments that have a member on one host, and no others: to it, one that
loses its last member there has ceased to exist.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from store.changes import Change, Position
from store.errors import Unavailable
from store.hosts import Hosts
from store.index import IndexEntry
from store.store import Store
from watcher.publisher import SLICE, Counts, Published, Publisher
from zones import document
from zones.addresses import Platform
from zones.hosts import hosts_of
from zones.names import EnvironmentId

COMPARE_EVERY = 30.0  # seconds; how long a fault that nothing announces can last
RETRY_FIRST = 0.05  # seconds; a restarted store is back in the next moment
RETRY_LAST = 2.0  # seconds; a store that is away for long is asked no more often than this
READ_FIRST, READ_MOST = 20, 500  # documents a round trip, by the size of those before them
READ_OCTETS = 1 << 20  # of documents a round trip: what the client library takes in without giving way to queries

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watcher:
    """Follows ``store`` for ever. ``contact`` is when it last answered, in seconds of ``time.monotonic``.

    ``interest`` is the host whose environments are followed; None for all environments. ``on_hosts`` is given all hosts
    when they are first known and whenever they have changed, and always before the environments that came with them.
    """

    store: Store
    platform: Platform
    publisher: Publisher
    wall_clock: Callable[[], float] = time.time
    counts: Counts = field(default_factory=Counts)
    interest: str | None = None
    on_hosts: Callable[[Hosts], None] | None = None
    contact: float | None = None
    connected: bool = False
    _position: Position = field(default=Position(None, ""))
    _published: Published = field(init=False)
    _foreign: dict[EnvironmentId, str] = field(default_factory=dict)
    _hosts: Hosts | None = None
    _is_loaded: bool = False
    _reason: str = ""

    def __post_init__(self) -> None:
        self._published = Published(self.platform, self.publisher, self.wall_clock, self.counts)

    async def run(self) -> None:
        """Load and tail until cancelled; a store that fails is asked again, with growing patience."""
        delay = RETRY_FIRST
        while True:
            try:
                await self._synchronize()
                delay = RETRY_FIRST
                await self._tail()
            except Unavailable as error:
                self._lost(str(error))
                self._published.end_former_names()
                # Jitter, so that a thousand watchers do not come back in one instant.
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 no secret
                delay = min(delay * 2, RETRY_LAST)

    @property
    def revisions(self) -> dict[EnvironmentId, int]:
        """The revision that is served of each environment."""
        return self._published.revisions

    @property
    def quarantined(self) -> Mapping[EnvironmentId, str]:
        """What is wrong with the newest document of each environment whose newest is bad."""
        return self._published.quarantined

    async def _synchronize(self) -> int:
        # The position first: whatever is committed while we read comes again as a change after it.
        self._position = await self.store.changes.position()
        different = await self._read_hosts() + await self._compare()
        self._heard()
        if not self._is_loaded:
            self._is_loaded = True
            self.publisher.loaded()
            log.info("loaded", extra={"environments": len(self.revisions), "position": self._position.change})
        return different

    async def _tail(self) -> None:
        due = time.monotonic() + COMPARE_EVERY
        while True:
            changes = await self.store.changes.read_after(self._position.change)
            self._heard()
            chain = [self._position.change, *(change.position for change in changes)]
            if any(change.previous != before for change, before in zip(changes, chain, strict=False)):
                self.counts.gaps += 1
                log.warning("gap", extra={"after": self._position.change, "next": changes[0].position})
                await self._synchronize()
            elif changes:
                self.counts.changes += len(changes)
                if any(change.host is not None for change in changes):
                    await self._read_hosts()
                await self._read({change.environment for change in changes if self._concerns_us(change)})
                self._position = Position(self._position.epoch, changes[-1].position)
            self._published.end_former_names()
            if time.monotonic() >= due:
                # With the position: a new primary may number its changes below ours, and we would read on in vain.
                self.counts.repaired += await self._synchronize()
                due = time.monotonic() + COMPARE_EVERY

    def _lost(self, reason: str) -> None:
        if reason != self._reason:  # once, not with every attempt
            log.warning("store_unavailable", extra={"reason": reason})
        self.counts.lost_connections += self.connected
        self.connected, self._reason = False, reason

    def _heard(self) -> None:
        if not self.connected:
            log.info("store_connected", extra={"store": self.store.url})
        self.connected, self._reason = True, ""
        self.contact = time.monotonic()

    async def _compare(self) -> int:
        """Brings what is served to what the index says; gives the number of environments that differed."""
        index = await self.store.environments.index()
        self.counts.compared += 1
        different = {
            id_
            for id_ in {*index, *self._published.environments, *self._foreign}
            if self._known_digest(id_) != self._wanted_digest(index.get(id_)) and id_ not in self.quarantined
        }
        await self._read(different | self.quarantined.keys())
        return len(different)

    async def _read_hosts(self) -> bool:
        """Gives ``on_hosts`` all hosts, unless it has them; says whether that was so, though it had some before."""
        if self.on_hosts is None:
            return False
        hosts, before = await self.store.hosts.read(), self._hosts
        if hosts == before:
            return False
        self._hosts = hosts
        self.on_hosts(hosts)
        return before is not None

    def _known_digest(self, id_: EnvironmentId) -> str | None:
        return self._published.digest(id_) or self._foreign.get(id_)

    def _wanted_digest(self, entry: IndexEntry | None) -> str | None:
        return entry.digest if entry and self._may_be_ours(entry.hosts) else None

    def _may_be_ours(self, hosts: frozenset[str] | None) -> bool:
        return self.interest is None or hosts is None or self.interest in hosts

    def _concerns_us(self, change: Change) -> bool:
        id_ = change.environment
        if change.host is not None:
            return False
        return self._may_be_ours(change.hosts) or self._known_digest(id_) is not None or id_ in self.quarantined

    async def _read(self, ids: Iterable[EnvironmentId]) -> None:
        """Reads and publishes ``ids``, a few at a time: the first are answered before the last are read."""
        waiting = sorted(ids, reverse=True)
        batch = READ_FIRST
        while waiting:
            some = [waiting.pop() for _ in range(min(batch, len(waiting)))]
            read = await self.store.environments.documents(some)
            octets = sum(len(one or b"") for _, one in read.values())
            batch = max(1, min(READ_MOST, READ_OCTETS * len(some) // max(octets, 1)))
            await self._take_all(read)

    async def _take_all(self, read: Mapping[EnvironmentId, tuple[IndexEntry | None, bytes | None]]) -> None:
        started = time.monotonic()
        for id_, (entry, found) in read.items():
            if entry and not self._may_be_ours(entry.hosts):
                self._withdraw(id_)
            elif found is not None:
                await self._take(id_, found)
            elif entry and entry.digest is not None:
                self._published.quarantine(id_, "the document is gone, though the index says that there is one")
            else:
                self._withdraw(id_)
            if time.monotonic() - started > SLICE:
                await asyncio.sleep(0)
                started = time.monotonic()

    async def _take(self, id_: EnvironmentId, read: bytes) -> None:
        digest = document.digest(read)
        if self._published.keep(id_, digest):
            return
        zone = await self._published.compile(id_, read)
        if zone is None:
            return
        if not self._may_be_ours(hosts_of(zone.environment)):
            # The index did not say whose it is; so that it is not read again and again, we remember.
            self._withdraw(id_)
            self._foreign[id_] = digest
        elif self._published.publish(zone, digest):
            self._foreign.pop(id_, None)

    def _withdraw(self, id_: EnvironmentId) -> None:
        self._foreign.pop(id_, None)
        self._published.withdraw(id_)
