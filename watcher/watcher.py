"""The watcher: follows the store and publishes the zone of each environment that it holds.

    load     where the history stands, then the index, then the documents     \
    tail     changes after that point; each names an environment to read       }  publish(zone) · withdraw(id)
    compare  the index with what is served; a difference is read again        /

What is served is a function of what the store holds, never of the order in which it was heard: a change only says
which environment to look at, and what is read then is the truth as of that moment. So a change that comes twice,
late or out of order does no harm, and whenever one may have been missed (a gap in the chain of positions, a new
connection, every `COMPARE_EVERY` seconds) comparing the index with what is served mends it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import Protocol

from watcher.errors import Unavailable
from watcher.store import Entry, Position, Store
from zones import document
from zones.addresses import Platform
from zones.errors import ZonesError
from zones.model import Environment
from zones.names import EnvironmentId
from zones.zone import Zone, compile_zone

COMPARE_EVERY = 30.0  # seconds; how long a fault that nothing announces can last
RETRY_FIRST = 0.05  # seconds; a restarted store is back in the next moment
RETRY_LAST = 2.0  # seconds; a store that is away for long is asked no more often than this
LARGE_DOCUMENT = 65_536  # octets; a larger one is read in a thread, for queries should not wait for it
READ_FIRST, READ_MOST = 20, 500  # documents a round trip, by the size of those before them
READ_OCTETS = 1 << 20  # of documents a round trip: what the client library takes in without giving way to queries
SLICE = 0.005  # seconds of work at a time, then queries have their turn

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """Who is told what the watcher learns. Called from the event loop; each call is one whole environment."""

    def publish(self, zone: Zone) -> None:
        """``zone`` replaces what was served for its environment."""

    def withdraw(self, environment: EnvironmentId) -> None:
        """``environment`` no longer exists."""

    def loaded(self) -> None:
        """All that the store held has been published; from now on, what is not known does not exist."""


@dataclass(slots=True)
class Counts:
    """What has happened since the start, for metrics."""

    changes: int = 0
    published: int = 0
    withdrawn: int = 0
    gaps: int = 0
    compared: int = 0
    repaired: int = 0
    lost_connections: int = 0


@dataclass(frozen=True, slots=True)
class _Served:
    entry: Entry
    zone: Zone


@dataclass(slots=True)
class Watcher:
    """Follows ``store`` for ever. ``contact`` is when it last answered, in seconds of ``time.monotonic``."""

    store: Store
    platform: Platform
    publisher: Publisher
    wall_clock: Callable[[], float] = time.time
    counts: Counts = field(default_factory=Counts)
    quarantined: dict[EnvironmentId, str] = field(default_factory=dict)
    contact: float | None = None
    connected: bool = False
    _position: Position = field(default=Position(None, ""))
    _served: dict[EnvironmentId, _Served] = field(default_factory=dict)
    _owners: dict[IPv6Network, EnvironmentId] = field(default_factory=dict)
    _ending: dict[EnvironmentId, int] = field(default_factory=dict)
    _is_loaded: bool = False
    _reason: str = ""

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
                self._end_former_names()
                # Jitter, so that a thousand watchers do not come back in one instant.
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 no secret
                delay = min(delay * 2, RETRY_LAST)

    @property
    def revisions(self) -> dict[EnvironmentId, int]:
        """The revision that is served of each environment."""
        return {id_: served.zone.revision for id_, served in self._served.items()}

    async def _synchronize(self) -> int:
        # The position first: whatever is committed while we read comes again as a change after it.
        self._position = await self.store.position()
        different = await self._compare()
        self._heard()
        if not self._is_loaded:
            self._is_loaded = True
            self.publisher.loaded()
            log.info("loaded", extra={"environments": len(self._served), "position": self._position.change})
        return different

    async def _tail(self) -> None:
        due = time.monotonic() + COMPARE_EVERY
        while True:
            changes = await self.store.changes(self._position.change)
            self._heard()
            chain = [self._position.change, *(change.position for change in changes)]
            if any(change.previous != before for change, before in zip(changes, chain, strict=False)):
                self.counts.gaps += 1
                log.warning("gap", extra={"after": self._position.change, "next": changes[0].position})
                await self._synchronize()
            elif changes:
                self.counts.changes += len(changes)
                await self._read({change.environment for change in changes})
                self._position = Position(self._position.epoch, changes[-1].position)
            self._end_former_names()
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
        index = await self.store.index()
        self.counts.compared += 1
        different = {
            id_
            for id_ in index.keys() | self._served.keys()
            if self._served_entry(id_) != _live(index.get(id_)) and id_ not in self.quarantined
        }
        await self._read(different | self.quarantined.keys())
        return len(different)

    def _served_entry(self, id_: EnvironmentId) -> Entry | None:
        served = self._served.get(id_)
        return served.entry if served else None

    async def _read(self, ids: Iterable[EnvironmentId]) -> None:
        """Reads and publishes ``ids``, a few at a time: the first are answered before the last are read."""
        waiting = sorted(ids, reverse=True)
        batch = READ_FIRST
        while waiting:
            some = [waiting.pop() for _ in range(min(batch, len(waiting)))]
            read = await self.store.documents(some)
            octets = sum(len(one or b"") for _, one in read.values())
            batch = max(1, min(READ_MOST, READ_OCTETS * len(some) // max(octets, 1)))
            await self._take_all(read)

    async def _take_all(self, read: Mapping[EnvironmentId, tuple[Entry | None, bytes | None]]) -> None:
        started = time.monotonic()
        for id_, (entry, found) in read.items():
            if found is not None:
                await self._take(id_, found)
            elif _live(entry):
                self._quarantine(id_, "the document is gone, though the index says that there is one")
            else:
                self._withdraw(id_)
            if time.monotonic() - started > SLICE:
                await asyncio.sleep(0)
                started = time.monotonic()

    async def _take(self, id_: EnvironmentId, read: bytes) -> None:
        digest = document.digest(read)
        served = self._served.get(id_)
        if served and served.entry.digest == digest:
            self.quarantined.pop(id_, None)
            return
        try:
            zone = await self._compile(id_, read)
            self._check_network(zone.environment)
        except ZonesError as error:
            self._quarantine(id_, str(error))
            return
        self.quarantined.pop(id_, None)
        self._publish(zone, digest)

    def _quarantine(self, id_: EnvironmentId, reason: str) -> None:
        # The environment keeps its last good zone; all others go on.
        if self.quarantined.get(id_) != reason:
            log.error("document_quarantined", extra={"environment": id_, "reason": reason})
        self.quarantined[id_] = reason

    def _check_network(self, environment: Environment) -> None:
        # The store sees to it too, but a document can come another way, and would take over another's clients.
        owner = self._owners.get(environment.network, environment.id)
        if owner != environment.id:
            raise ZonesError(f"the network {environment.network} belongs to {owner!r}", field="network")

    async def _compile(self, id_: EnvironmentId, read: bytes) -> Zone:
        def build() -> Zone:
            environment = document.decode(read)
            _check_identity(id_, environment)
            return compile_zone(self.platform, environment, self._now())

        return await asyncio.to_thread(build) if len(read) > LARGE_DOCUMENT else build()

    def _publish(self, zone: Zone, digest: str) -> None:
        if served := self._served.get(zone.id):
            del self._owners[served.zone.environment.network]
        self._owners[zone.environment.network] = zone.id
        self._served[zone.id] = _Served(Entry(zone.revision, digest), zone)
        if zone.valid_until is None:
            self._ending.pop(zone.id, None)
        else:
            self._ending[zone.id] = zone.valid_until
        self.publisher.publish(zone)
        self.counts.published += 1

    def _withdraw(self, id_: EnvironmentId) -> None:
        self.quarantined.pop(id_, None)
        self._ending.pop(id_, None)
        if served := self._served.pop(id_, None):
            del self._owners[served.zone.environment.network]
            self.publisher.withdraw(id_)
            self.counts.withdrawn += 1

    def _end_former_names(self) -> None:
        now = self._now()
        for id_ in [id_ for id_, end in self._ending.items() if end <= now]:
            served = self._served[id_]
            self._publish(compile_zone(self.platform, served.zone.environment, now), served.entry.digest or "")

    def _now(self) -> int:
        return int(self.wall_clock() * 1000)


def _live(entry: Entry | None) -> Entry | None:
    return entry if entry and entry.digest is not None else None


def _check_identity(id_: EnvironmentId, environment: Environment) -> None:
    if environment.id != id_:
        raise ZonesError(f"the document of {id_!r} says that it is {environment.id!r}'s", field="id")
