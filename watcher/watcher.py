"""The watcher: follows the store and publishes the zone of each environment that it holds.

    load     where the history stands, then the index, then the documents     \
    tail     changes after that point; each names an environment to read       }  publish(zone) · withdraw(id)
    compare  the index with what is served; a difference is read again        /

What is served is a function of what the store holds, never of the order in which changes arrive: a change only says
which environment to read, and the document that is read then is the newest. So a change that arrives twice, late or
out of order does no harm. Whenever a change may have been missed (a gap in the chain of positions, a new connection),
and every `COMPARE_EVERY` seconds, the watcher compares the index with what is served and reads what differs.

A watcher with an ``interest`` follows the environments that have a member on one host, and no others. It withdraws an
environment that loses its last member there, as if it were deleted.
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
from watcher.publisher import SLICE, Publisher, ServedZones, WatcherCounts
from zones import document
from zones.addresses import Platform
from zones.hosts import hosts_of
from zones.names import EnvironmentId

COMPARE_EVERY = 30.0  # seconds; so long can a difference last that no change announces
RETRY_FIRST = 0.05  # seconds until the second attempt to connect; a restarted store is back in a moment
RETRY_LAST = 2.0  # seconds between attempts later on; a store that is away for long is not asked more often
READ_FIRST, READ_MOST = 20, 500  # documents in the first round trip, and in any; their size decides (`READ_OCTETS`)
READ_OCTETS = 1 << 20  # of documents in a round trip; the client library decodes a reply without a break for queries

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watcher:
    """Follows the store for ever."""

    store: Store
    """The store to follow."""
    platform: Platform
    """The address plan by which zones are compiled."""
    publisher: Publisher
    """Is given each zone."""
    wall_clock: Callable[[], float] = time.time
    """Seconds since the Unix epoch."""
    counts: WatcherCounts = field(default_factory=WatcherCounts)
    """What has happened since the start."""
    interest: str | None = None
    """The host whose environments are followed; None for all environments."""
    on_hosts: Callable[[Hosts], None] | None = None
    """Is called with all hosts when they are first known, and after each change of one of them, but before
    ``publisher`` is given the environments of the same batch of changes. None: hosts are not read."""
    last_contact: float | None = None
    """When the store last answered, in seconds of ``time.monotonic``; None if it never did."""
    connected: bool = False
    """Whether the last request to the store was answered."""
    _position: Position = field(default=Position(None, ""))  # of the last change that was taken in
    _served: ServedZones = field(init=False)
    # The digests of documents without a member on our host, where the index does not say so: so each is read once only.
    _foreign: dict[EnvironmentId, str] = field(default_factory=dict)
    _hosts: Hosts | None = None  # as ``on_hosts`` was given them last
    _is_loaded: bool = False
    _reason: str = ""  # why the last attempt failed; logged once, not with every attempt

    def __post_init__(self) -> None:
        self._served = ServedZones(self.platform, self.publisher, self.wall_clock, self.counts)

    async def run(self) -> None:
        """Loads, then tails, until it is cancelled. If the store fails, it tries again after a delay that grows."""
        delay = RETRY_FIRST
        while True:
            try:
                await self._synchronize()
                delay = RETRY_FIRST
                await self._tail()
            except Unavailable as error:
                self._note_lost(str(error))
                self._served.end_former_names()
                # The delay is random, so that a thousand watchers do not come back at the same instant.
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 no secret
                delay = min(delay * 2, RETRY_LAST)

    @property
    def revisions(self) -> dict[EnvironmentId, int]:
        """The revision that is served of each environment."""
        return self._served.revisions

    @property
    def quarantined(self) -> Mapping[EnvironmentId, str]:
        """What is wrong with the newest document, of each environment whose newest document is bad."""
        return self._served.quarantined

    async def _synchronize(self) -> int:
        # The position is read first: a commit that is made while we read comes again, as a change after it.
        self._position = await self.store.changes.position()
        different = await self._read_hosts() + await self._compare()
        self._note_contact()
        if not self._is_loaded:
            self._is_loaded = True
            self.publisher.loaded()
            log.info("loaded", extra={"environments": len(self.revisions), "position": self._position.change})
        return different

    async def _tail(self) -> None:
        due = time.monotonic() + COMPARE_EVERY
        while True:
            changes = await self.store.changes.read_after(self._position.change)
            self._note_contact()
            chain = [self._position.change, *(change.position for change in changes)]
            if any(change.previous != before for change, before in zip(changes, chain, strict=False)):
                self.counts.gaps += 1
                log.warning("gap", extra={"after": self._position.change, "next": changes[0].position})
                await self._synchronize()
            elif changes:
                self.counts.changes += len(changes)
                if any(change.host is not None for change in changes):
                    await self._read_hosts()
                await self._read({change.environment for change in changes if self._must_be_read(change)})
                self._position = Position(self._position.epoch, changes[-1].position)
            self._served.end_former_names()
            if time.monotonic() >= due:
                # This reads the position too: a new primary may number its changes below our position, and then a read
                # after our position would return none of them.
                self.counts.repaired += await self._synchronize()
                due = time.monotonic() + COMPARE_EVERY

    def _note_lost(self, reason: str) -> None:
        if reason != self._reason:
            log.warning("store_unavailable", extra={"reason": reason})
        self.counts.lost_connections += self.connected
        self.connected, self._reason = False, reason

    def _note_contact(self) -> None:
        if not self.connected:
            log.info("store_connected", extra={"store": self.store.url})
        self.connected, self._reason = True, ""
        self.last_contact = time.monotonic()

    async def _compare(self) -> int:
        """Reads each environment whose served zone differs from the index; returns how many differed."""
        index = await self.store.environments.index()
        self.counts.compared += 1
        different = {
            id_
            for id_ in {*index, *self._served.environments, *self._foreign}
            if self._known_digest(id_) != self._wanted_digest(index.get(id_)) and id_ not in self.quarantined
        }
        await self._read(different | self.quarantined.keys())
        return len(different)

    async def _read_hosts(self) -> bool:
        """Reads all hosts and gives them to ``on_hosts`` if they have changed; returns whether they have.

        The first read is no change.
        """
        if self.on_hosts is None:
            return False
        hosts, before = await self.store.hosts.read(), self._hosts
        if hosts == before:
            return False
        self._hosts = hosts
        self.on_hosts(hosts)
        return before is not None

    def _known_digest(self, id_: EnvironmentId) -> str | None:
        return self._served.digest(id_) or self._foreign.get(id_)

    def _wanted_digest(self, entry: IndexEntry | None) -> str | None:
        return entry.digest if entry and self._may_have_member_here(entry.hosts) else None

    def _may_have_member_here(self, hosts: frozenset[str] | None) -> bool:
        return self.interest is None or hosts is None or self.interest in hosts

    def _must_be_read(self, change: Change) -> bool:
        id_ = change.environment
        if change.host is not None:
            return False
        return (
            self._may_have_member_here(change.hosts) or self._known_digest(id_) is not None or id_ in self.quarantined
        )

    async def _read(self, ids: Iterable[EnvironmentId]) -> None:
        """Reads and publishes ``ids``, a few at a time: the first are served before the last are read."""
        waiting = sorted(ids, reverse=True)
        batch = READ_FIRST
        while waiting:
            some = [waiting.pop() for _ in range(min(batch, len(waiting)))]
            read = await self.store.environments.documents(some)
            octets = sum(len(one or b"") for _, one in read.values())
            batch = max(1, min(READ_MOST, READ_OCTETS * len(some) // max(octets, 1)))
            await self._apply_all(read)

    async def _apply_all(self, read: Mapping[EnvironmentId, tuple[IndexEntry | None, bytes | None]]) -> None:
        started = time.monotonic()
        for id_, (entry, found) in read.items():
            if entry and not self._may_have_member_here(entry.hosts):
                self._withdraw(id_)
            elif found is not None:
                await self._apply(id_, found)
            elif entry and entry.digest is not None:
                self._served.quarantine(id_, "the document is gone, though the index says that there is one")
            else:
                self._withdraw(id_)
            if time.monotonic() - started > SLICE:
                await asyncio.sleep(0)
                started = time.monotonic()

    async def _apply(self, id_: EnvironmentId, read: bytes) -> None:
        digest = document.digest(read)
        if self._served.confirm_served(id_, digest):
            return
        zone = await self._served.compile(id_, read)
        if zone is None:
            return
        if not self._may_have_member_here(hosts_of(zone.environment)):
            # The index entry does not name the hosts. The digest is remembered, or each comparison would read it again.
            self._withdraw(id_)
            self._foreign[id_] = digest
        elif self._served.publish(zone, digest):
            self._foreign.pop(id_, None)

    def _withdraw(self, id_: EnvironmentId) -> None:
        self._foreign.pop(id_, None)
        self._served.withdraw(id_)
