"""The watcher: follows the store and publishes the zone of each environment that it holds.

    begin    the snapshot on disk, unless the store answers and has all that is in it     publish(zone)
    load     where the history stands, then the index, then the documents     \
    tail     changes after that point; each names an environment to read       }  publish(zone) · withdraw(id)
    compare  the index with what is served; a difference is read again        /

What is served is a function of what the store holds, never of the order in which changes arrive: a change only says
which environment to read, and the document that is read then is the newest. So a change that arrives twice, late or
out of order does no harm. Whenever a change may have been missed (a gap in the chain of positions, a new connection),
and every `COMPARE_EVERY` seconds, the watcher compares the index with what is served and reads what differs.

What is gone from the store is not always deleted: `watcher.guard` holds a withdrawal back that nobody has asked for.
Then what is served stays, and each comparison judges it anew.

A watcher with an ``interest`` follows the environments that have a member on one host, and no others. It withdraws an
environment that loses its last member there, as if it were deleted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field

from store.changes import ChangeBatch, Position
from store.errors import Unavailable, WrongKey
from store.guard import Confirmation
from store.index import DELETED
from store.store import Store
from support.breaks import pause
from watcher.comparison import Comparison
from watcher.environments import EnvironmentReader
from watcher.guard import ALL_KINDS, BACK, Guard, Index, Kind, confirmation_of, environments_to_hold
from watcher.hosts import HostReader
from watcher.keeper import SOON, SnapshotKeeper, restore
from watcher.publisher import Publisher, ServedZones, ShowsServed, WatcherCounts
from watcher.rollback import has_lost
from watcher.snapshot import Contents, Snapshot
from zones.addresses import Platform
from zones.hosts import Hosts
from zones.placement import HostsAway

COMPARE_EVERY = 30.0  # seconds; the longest that a difference lasts which no change announced
COMPARE_HELD_EVERY = 5.0  # seconds, while a withdrawal is held: data that was lost may be back at any moment
RETRY_FIRST = 0.05  # seconds until the second attempt to connect; a restarted store is back in a moment
RETRY_LAST = 2.0  # seconds between attempts later on; a store that is away for long is not asked more often
BUSY = 20  # changes at once from which they come faster than they can be followed one by one
PUBLISH_EVERY = 0.02  # seconds between two publications of an environment, then: fifty a second at most
FOLLOWING_SHARE = 0.2  # of the processor time that is for following the changes, then; the rest is for queries

CONFIRMATIONS = "the list of confirmations"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watcher(ShowsServed):
    """Follows the store for ever."""

    store: Store
    """The store to follow."""
    platform: Platform
    """The address plan by which zones are compiled."""
    publisher: Publisher
    """Is given each zone."""
    wall_clock: Callable[[], float] | None = None
    """Unix seconds. None for the time of the store."""
    counts: WatcherCounts = field(default_factory=WatcherCounts)
    """What has happened since the start."""
    interest: str | None = None
    """The host whose environments are followed; None for all environments."""
    on_hosts: Callable[[Hosts], None] | None = None
    """Is called with all hosts when they are first known, and after each change of one of them, but before
    ``publisher`` is given the environments of the same batch of changes. None: only which are down is read."""
    on_named: Callable[[Collection[str] | None], None] | None = None
    """Is called with the hosts of which changes were announced, be it of their documents or of their credentials; with
    None where an announcement may have been missed, unless the store holds another data set. None: nobody asks."""
    guard: Guard = field(default_factory=Guard)
    """Holds back what vanishes without a word, or too much at once."""
    on_confirmed: Callable[[], None] | None = None
    """Is called after everything that was held has been let go because somebody has confirmed it."""
    snapshots: SnapshotKeeper | None = None
    """Has what was served before this start; None: nothing of it is kept."""
    last_contact: float | None = None
    """When the store last answered, in seconds of ``time.monotonic``; None if it never did."""
    connected: bool = False
    """Whether the last request to the store was answered."""
    _position: Position = field(default=Position(None, ""))  # of the last change that was taken in
    _served: ServedZones = field(init=False)
    _environments: EnvironmentReader = field(init=False)
    _hosts: HostReader = field(init=False)
    _comparison: Comparison = field(init=False)
    _is_loaded: bool = False
    _is_restored: bool = False  # whether all that a snapshot holds is served
    _is_answering: bool = False  # whether the store has answered once
    _reason: str = ""  # why the last attempt failed; logged once, not with every attempt

    def __post_init__(self) -> None:
        store, guard, counts = self.store, self.guard, self.counts
        self._served = ServedZones(self.platform, self.publisher, self.wall_clock or store.clock.now, counts)
        self._environments = EnvironmentReader(store, self._served, guard, counts, self.interest)
        self._hosts = HostReader(store, guard, self.on_hosts, self._take_down)
        self._comparison = Comparison(store, self._served, guard, counts, self._environments)

    async def run(self) -> None:
        """Loads, then tails, until it is cancelled. If the store fails, it tries again after a delay that grows."""
        if not self._is_loaded:
            await self._begin()
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
    def reason(self) -> str:
        """Why the store does not answer; empty while it does."""
        return self._reason

    @property
    def snapshot_mark(self) -> Hashable | None:
        """Differs after each change of what is served; None before all has been loaded."""
        counts, hosts = self.counts, self._hosts.hosts
        known = (hosts.revision, hosts.down) if hosts else None
        return (counts.published, counts.withdrawn, known, self.guard.epoch) if self._is_loaded else None

    def snapshot_contents(self) -> Contents:
        """What is served now, for a snapshot."""
        return Contents(self._served.kept, Position(self.guard.epoch, self.guard.applied), self._hosts.hosts)

    @property
    def rolled_back(self) -> str:
        """When and how the store last went back behind changes that were applied here; empty if it never did."""
        return self._comparison.rolled_back

    async def _begin(self) -> None:
        """Serves what the snapshot holds, if the store does not answer soon, or has lost some of it."""
        asked = asyncio.create_task(self._look())
        try:
            snapshot = await self.snapshots.open() if self.snapshots else None
            await asyncio.wait({asked}, timeout=SOON)
            found = await asked if self._is_answering else None
        finally:
            asked.cancel()
        if snapshot:
            self._environments.last_good, self._hosts.last_good = snapshot, snapshot.hosts
        is_needed = snapshot is not None and (found is None or has_lost(self.guard.policy, snapshot, *found))
        if snapshot and is_needed:
            await self._restore(snapshot)
        if found is None or is_needed:
            self.publisher.source_away()

    async def _look(self) -> tuple[Position, Index] | None:
        """The position and the index of the store; None if it does not answer."""
        try:
            position, _, index = await self._state()
            return position, index
        except Unavailable as error:
            self._note_lost(str(error))
            return None

    async def _restore(self, snapshot: Snapshot) -> None:
        self.publisher.restored(snapshot.confirmed)
        self._take_position(snapshot.position)
        await self._hosts.restore(snapshot.hosts)
        await restore(snapshot, self._served, lambda _: True)
        self._is_restored = True
        shown = {"environments": len(self.revisions), "age_seconds": int(time.time() - snapshot.confirmed)}
        log.warning("restored_from_snapshot", extra=shown)

    async def _synchronize(self) -> int:
        """Compares the index with what is served, and repairs what differs; returns how much that was."""
        comparison, hosts = self._comparison, self._hosts
        self._environments.must_compare = False
        await self.store.clock.read()
        position, confirmation, index = await self._state()
        is_confirmed = self.guard.is_confirmed(confirmation)
        opened = self._opened(is_confirmed)
        self.counts.compared += 1
        if self._is_loaded or self._is_restored:  # else nobody knows what was served before
            await comparison.note_rollback(position, index)
        different = comparison.different(index)
        if Kind.DATA_SET not in opened and (why := await comparison.other_data_set(position, index, different)):
            self.guard.hold(Kind.DATA_SET, self._served.environments, why)
            for kind in ALL_KINDS - {Kind.DATA_SET}:  # as of a comparison that the loss has overtaken
                self.guard.release(kind, "the whole data set is held back now")
            self.guard.found = self._position = position
            self._note_contact()
            return 0
        for kind in {Kind.DATA_SET, *opened}:
            self.guard.release(kind, _why_released(is_confirmed, opened))
        repaired = int(await hosts.read(opened=opened)) + await comparison.repair(index, different, opened)
        if self._is_loaded:
            await comparison.verify_some()
        self._take_position(position)
        self._note_contact()
        if self.on_named:
            self.on_named(None)
        if is_confirmed and confirmation:
            self.guard.followed = confirmation.change
        if is_confirmed and self.on_confirmed:
            self.on_confirmed()
        if not self._is_loaded:
            self._note_loaded()
        return repaired

    async def _state(self) -> tuple[Position, Confirmation | None, Index]:
        """Where the history of the store stands, the newest confirmation, and the index."""
        while True:
            # The position is read first: a commit that is made while we read comes again, as a change after it.
            position = await self.store.changes.position()
            self._is_answering = True
            confirmation = await self._confirmation()
            index = await self.store.environments.index()
            if (await self.store.changes.position()).epoch == position.epoch:  # else the index can be of other data
                return position, confirmation, index

    async def _confirmation(self) -> Confirmation | None:
        """The newest one. Its key is nothing that a commit needs, so one of a wrong type stops nothing but itself."""
        try:
            confirmation = await self.store.guard.read()
        except WrongKey as error:
            self.guard.note_unreadable(CONFIRMATIONS, str(error))
            return None
        self.guard.note_unreadable(CONFIRMATIONS)
        return confirmation

    def _opened(self, is_confirmed: bool) -> frozenset[Kind]:
        """The kinds of which nothing is held back in this comparison."""
        # Before the first load has ended, what is served is not all that there was: it proves nothing.
        is_whole = self._is_loaded or self._is_restored
        is_open = is_confirmed or not is_whole or Kind.DATA_SET in self.guard.overdue
        return ALL_KINDS if is_open else self.guard.overdue

    def _note_loaded(self) -> None:
        self._is_loaded = True
        self.publisher.loaded()
        self._environments.last_good = self._hosts.last_good = None
        log.info("loaded", extra={"environments": len(self.revisions), "position": self._position.change})

    def _take_position(self, position: Position) -> None:
        guard = self.guard
        if guard.epoch not in (None, position.epoch):
            log.warning("data_set_replaced", extra={"before": guard.epoch, "after": position.epoch})
        self._position, guard.epoch, guard.applied = position, position.epoch, position.change

    async def _tail(self) -> None:
        due, are_many = time.monotonic() + COMPARE_EVERY, False
        while True:
            batch = await self.store.changes.read_batch(self._position.change, are_many=are_many)
            await pause()  # for what came while the client library decoded it
            spent, are_many = time.thread_time(), batch.count >= BUSY
            self._note_contact()
            if not batch.is_gapless:
                self.counts.gaps += 1
                log.warning("gap", extra={"after": self._position.change, "next": batch.newest[0].position})
                await self._synchronize()
            elif batch.count:
                self.counts.changes += batch.count
                await self._take(batch)
            elif await self.store.changes.has_gone_back(self._position):
                self._environments.must_compare = True
            self._served.end_former_names()
            if are_many:
                # Whatever changes meanwhile is read and published once, and most of the time is for queries. It is the
                # processor's: where that is wanted by others, or the store is slow, what passes meanwhile is theirs.
                spent = time.thread_time() - spent
                await asyncio.sleep(max(PUBLISH_EVERY, spent * (1 / FOLLOWING_SHARE - 1)))
            if self.guard.held:
                due = min(due, time.monotonic() + COMPARE_HELD_EVERY)
            if time.monotonic() >= due or self._environments.must_compare:
                self.counts.repaired += await self._synchronize()
                due = time.monotonic() + COMPARE_EVERY

    async def _take(self, batch: ChangeBatch) -> None:
        """Does what ``batch`` says, which follows the position without a gap."""
        changes, position = batch.newest, Position(self._position.epoch, batch.position)
        named = {change.host for change in changes if change.host is not None}
        if named and self.on_named:
            self.on_named(named)
        if any(self.guard.is_confirmed(confirmation_of(change)) for change in changes):
            await self._synchronize()  # which asks the store for it: the change alone is no word of anybody's
        elif self.guard.holds_back(Kind.DATA_SET):
            self._position = position
        else:
            environments = self._environments
            if named:
                await self._hosts.read(forgotten=named)
            newest = {change.environment: change for change in changes if environments.is_concerned(change)}
            deleted = {id_ for id_, change in newest.items() if change.digest == DELETED and self._served.digest(id_)}
            held = environments_to_hold(self.guard.policy, len(self._served.environments), deleted, frozenset())
            if held:
                self._comparison.hold_environments(held)
            await environments.read(newest.keys() - held, deleted - held, announced=newest)
            self._position, self.guard.applied = position, position.change
            # The first change of all has given the data set its epoch.
            environments.must_compare |= self.guard.epoch is None

    async def _take_down(self, hosts: frozenset[str]) -> None:
        await self._served.set_away(HostsAway(down=hosts))

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


def _why_released(is_confirmed: bool, opened: Collection[Kind]) -> str:
    if is_confirmed:
        return "confirmed"
    return "the time to hold it is over" if opened else BACK
