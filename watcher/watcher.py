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
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from store.changes import Change, Position
from store.errors import Unavailable
from store.index import DELETED, IndexEntry
from store.store import Store
from store.stored import Stored
from watcher.damage import SAMPLE_OCTETS, BadDocuments, Sample
from watcher.guard import (
    ALL_KINDS,
    BACK,
    Guard,
    Index,
    Kind,
    confirmation_of,
    environments_to_hold,
    hosts_to_hold,
    is_older_copy,
    is_rolled_back,
    is_successor,
    loses_many_names,
)
from watcher.keeper import SOON, SnapshotKeeper, restore, restore_one
from watcher.publisher import SLICE, Publisher, ServedZones, WatcherCounts
from watcher.rollback import describe_rollback
from watcher.snapshot import Contents, Snapshot
from zones.addresses import Platform
from zones.hosts import Hosts, hosts_of
from zones.names import EnvironmentId
from zones.zone import Zone

COMPARE_EVERY = 30.0  # seconds; the longest that a difference lasts which no change announced
COMPARE_HELD_EVERY = 5.0  # seconds, while a withdrawal is held: data that was lost may be back at any moment
RETRY_FIRST = 0.05  # seconds until the second attempt to connect; a restarted store is back in a moment
RETRY_LAST = 2.0  # seconds between attempts later on; a store that is away for long is not asked more often
READ_FIRST, READ_MOST = 20, 500  # documents in the first round trip, and at most in a later one, if not too large
READ_OCTETS = 1 << 20  # of documents in a round trip; while the client library decodes them, no query is answered
BUSY = 20  # changes at once from which they come faster than they can be followed one by one
PUBLISH_EVERY = 0.02  # seconds between two publications of an environment, then: fifty a second
STALE_ATTEMPTS = 5  # reads of a document that is older than its change says, before another server is looked for
STALE_PAUSE = 0.02  # seconds, times the number of the attempt: replicas are milliseconds behind, if they are healthy
NOTHING_ANNOUNCED: Mapping[EnvironmentId, Change] = {}

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
    wall_clock: Callable[[], float] | None = None
    """Unix seconds. None for the time of the store."""
    counts: WatcherCounts = field(default_factory=WatcherCounts)
    """What has happened since the start."""
    interest: str | None = None
    """The host whose environments are followed; None for all environments."""
    on_hosts: Callable[[Hosts], None] | None = None
    """Is called with all hosts when they are first known, and after each change of one of them, but before
    ``publisher`` is given the environments of the same batch of changes. None: hosts are not read."""
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
    rolled_back: str = ""
    """When and how the store last went back behind changes that were applied here; empty if it never did."""
    _position: Position = field(default=Position(None, ""))  # of the last change that was taken in
    _served: ServedZones = field(init=False)
    # The digests of documents that have no member on our host, though their index entries do not say so. They are kept
    # so that such a document is read once, and not with every comparison.
    _foreign: dict[EnvironmentId, str] = field(default_factory=dict)
    _hosts: Hosts | None = None  # as ``on_hosts`` was given them last
    _is_loaded: bool = False
    _rolled_back_from: Position | None = None  # what was applied when the last rollback was reported
    _is_restored: bool = False  # whether all that a snapshot holds is served
    _is_answering: bool = False  # whether the store has answered once
    _sample: Sample = field(default_factory=Sample)
    _bad: BadDocuments = field(default_factory=BadDocuments)
    _must_compare: bool = False  # whether a step has found something that only a comparison can judge
    _last_good: Snapshot | None = None  # until the first load has ended: what was served before this start
    _reason: str = ""  # why the last attempt failed; logged once, not with every attempt

    def __post_init__(self) -> None:
        clock = self.wall_clock or self.store.clock.now
        self._served = ServedZones(self.platform, self.publisher, clock, self.counts)

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
        counts, hosts = self.counts, self._hosts.revision if self._hosts else None
        return (counts.published, counts.withdrawn, hosts, self.guard.epoch) if self._is_loaded else None

    def snapshot_contents(self) -> Contents:
        """What is served now, for a snapshot."""
        return Contents(self._served.kept, Position(self.guard.epoch, self.guard.applied), self._hosts)

    @property
    def revisions(self) -> dict[EnvironmentId, int]:
        """The revision that is served of each environment."""
        return self._served.revisions

    @property
    def quarantined(self) -> Mapping[EnvironmentId, str]:
        """What is wrong with the newest document, of each environment whose newest document is bad."""
        return self._served.quarantined

    async def _begin(self) -> None:
        """Serves what the snapshot holds, if the store does not answer soon, or has lost some of it."""
        asked = asyncio.create_task(self._look())
        try:
            snapshot = await self.snapshots.open() if self.snapshots else None
            await asyncio.wait({asked}, timeout=SOON)
            found = await asked if self._is_answering else None
        finally:
            asked.cancel()
        self._last_good = snapshot
        is_needed = snapshot is not None and (found is None or self._has_lost(snapshot, *found))
        if snapshot and is_needed:
            await self._restore(snapshot)
        if found is None or is_needed:
            self.publisher.source_away()

    async def _look(self) -> tuple[Position, Index] | None:
        """The position and the index of the store; None if it does not answer."""
        try:
            position = await self.store.changes.position()
            self._is_answering = True
            return position, await self.store.environments.index()
        except Unavailable as error:
            self._note_lost(str(error))
            return None

    def _has_lost(self, snapshot: Snapshot, position: Position, index: Index) -> bool:
        """Whether the store has not all that is in ``snapshot``, by a look that leaves the judgement to the guard."""
        known = snapshot.revisions
        missing = {id_ for id_ in known if id_ not in index}
        older = sum((entry := index.get(id_)) is not None and entry.revision < known[id_] for id_ in known)
        deleted = {id_ for id_ in known if (entry := index.get(id_)) is not None and entry.digest is None}
        is_other = position.epoch != snapshot.position.epoch
        held = environments_to_hold(self.guard.policy, len(known), deleted, missing)
        if is_other or older or held:
            shown = {"is_other_data_set": is_other, "missing": len(missing), "older": older, "deleted": len(deleted)}
            log.warning("store_lacks_what_was_served", extra={**shown, "of": len(known)})
        return bool(is_other or older or held)

    async def _restore(self, snapshot: Snapshot) -> None:
        self.publisher.restored(snapshot.confirmed)
        self._take_position(snapshot.position)
        if self.on_hosts and snapshot.hosts:
            self._hosts = snapshot.hosts
            self.on_hosts(snapshot.hosts)
        await restore(snapshot, self._served, lambda _: True)
        self._is_restored = True
        shown = {"environments": len(self.revisions), "age_seconds": int(time.time() - snapshot.confirmed)}
        log.warning("restored_from_snapshot", extra=shown)

    async def _synchronize(self, *, is_confirmed: bool = False) -> int:
        self._must_compare = False
        await self.store.clock.read()
        # The position is read first: a commit that is made while we read comes again, as a change after it.
        position = await self.store.changes.position()
        is_confirmed |= self.guard.is_confirmed(await self.store.guard.read())
        index = await self.store.environments.index()
        # Before the first load has ended, what is served is not all that there was: it proves nothing.
        is_whole = self._is_loaded or self._is_restored
        is_open = is_confirmed or not is_whole or Kind.DATA_SET in self.guard.overdue
        opened = ALL_KINDS if is_open else self.guard.overdue
        self.counts.compared += 1
        await self._note_rollback(position, index)
        different = self._different(index)
        if Kind.DATA_SET not in opened and (why := await self._other_data_set(position, index, different)):
            self.guard.hold(Kind.DATA_SET, self._served.environments, why)
            self.guard.found = self._position = position
            self._note_contact()
            return 0
        for kind in {Kind.DATA_SET, *opened}:
            self.guard.release(kind, _why_released(is_confirmed, opened))
        repaired = int(await self._read_hosts(opened=opened)) + await self._repair(index, different, opened)
        if self._is_loaded:
            await self._verify_some()
        self._take_position(position)
        self._note_contact()
        if is_confirmed and self.on_confirmed:
            self.on_confirmed()
        if not self._is_loaded:
            self._is_loaded = True
            self.publisher.loaded()
            self._last_good = None
            log.info("loaded", extra={"environments": len(self.revisions), "position": self._position.change})
        return repaired

    async def _note_rollback(self, position: Position, index: Mapping[EnvironmentId, IndexEntry]) -> None:
        """Reports once if the store has gone back behind what was applied. The guard decides what follows."""
        before = Position(self.guard.epoch, self.guard.applied)
        if not self._is_loaded or before == self._rolled_back_from:
            return
        common = await self.store.changes.newest_until(before.change)
        if reason := describe_rollback(before, position, common, self._served.digests, index):
            self._rolled_back_from = before
            self.counts.rollbacks += 1
            self.rolled_back = f"the store went back at {_format_time(self._served.wall_clock())}: {reason}"
            log.error("store_rolled_back", extra={"reason": reason, "before": before.change, "after": position.change})

    def _take_position(self, position: Position) -> None:
        guard = self.guard
        if guard.epoch not in (None, position.epoch):
            log.warning("data_set_replaced", extra={"before": guard.epoch, "after": position.epoch})
        self._position, guard.epoch, guard.applied = position, position.epoch, position.change

    async def _tail(self) -> None:
        due = time.monotonic() + COMPARE_EVERY
        while True:
            changes = await self.store.changes.read_after(self._position.change)
            changes = await self.store.changes.read_more(changes)
            began = time.monotonic()
            self._note_contact()
            chain = [self._position.change, *(change.position for change in changes)]
            if any(change.previous != before for change, before in zip(changes, chain, strict=False)):
                self.counts.gaps += 1
                log.warning("gap", extra={"after": self._position.change, "next": changes[0].position})
                await self._synchronize()
            elif changes:
                self.counts.changes += len(changes)
                await self._take(changes)
            self._served.end_former_names()
            if len(changes) >= BUSY:
                # Whatever changes meanwhile is read and published once, and at least half of the time is for queries.
                await asyncio.sleep(max(PUBLISH_EVERY, time.monotonic() - began))
            if self.guard.held:
                due = min(due, time.monotonic() + COMPARE_HELD_EVERY)
            if time.monotonic() >= due or self._must_compare:
                # This reads the position too: a new primary may number its changes below our position, and then a read
                # after our position would return none of them.
                self.counts.repaired += await self._synchronize()
                due = time.monotonic() + COMPARE_EVERY

    async def _take(self, changes: list[Change]) -> None:
        """Does what ``changes`` say, which follow the position without a gap."""
        position = Position(self._position.epoch, changes[-1].position)
        if any(self.guard.is_confirmed(confirmation_of(change)) for change in changes):
            await self._synchronize(is_confirmed=True)
        elif self.guard.holds_back(Kind.DATA_SET):
            self._position = position
        else:
            forgotten = {change.host for change in changes if change.host is not None}
            if forgotten:
                await self._read_hosts(forgotten=forgotten)
            newest = {change.environment: change for change in changes if self._must_be_read(change)}
            deleted = {id_ for id_, change in newest.items() if change.digest == DELETED and self._served.digest(id_)}
            held = environments_to_hold(self.guard.policy, len(self.revisions), deleted, frozenset())
            if held:
                self._hold_environments(held)
            await self._read(newest.keys() - held, deleted - held, announced=newest)
            self._position, self.guard.applied = position, position.change
            self._must_compare |= self.guard.epoch is None  # the first change of all has given the data set its epoch

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

    def _different(self, index: Index) -> set[EnvironmentId]:
        """The environments whose served zone differs from ``index``."""
        return {
            id_
            for id_ in {*index, *self._served.environments, *self._foreign}
            if self._known_digest(id_) != self._wanted_digest(index.get(id_))
        }

    async def _other_data_set(self, position: Position, index: Index, different: set[EnvironmentId]) -> str:
        """What is wrong with the data set that the store holds now; empty if it goes on from what is served."""
        guard = self.guard
        if guard.policy.is_off:
            return ""
        if position.epoch != guard.epoch and not is_successor(self._served.digests, index):
            return "the store holds other data than what is served" if index else "the store is empty"
        older = sum(self._is_older(id_, index.get(id_)) for id_ in different)
        if not is_rolled_back(guard.policy, len(self.revisions), older):
            return ""
        common = guard.applied if guard.found else await self.store.changes.newest_until(guard.applied)
        if guard.found or is_older_copy(guard.applied, common):
            return "the store holds an older copy of the data"
        return ""

    async def _repair(self, index: Index, different: set[EnvironmentId], opened: frozenset[Kind]) -> int:
        """Reads each environment in ``different``, unless it is held; returns how many they were."""
        guard = self.guard
        gone = {id_ for id_ in different if self._is_withdrawal(id_, index.get(id_))}
        missing = {id_ for id_ in gone if id_ not in index}
        held = frozenset[EnvironmentId]()
        if Kind.ENVIRONMENTS not in opened:
            held = environments_to_hold(guard.policy, len(self.revisions), gone - missing, missing)
            self._hold_environments(held, only=True)
        for id_, digest in list(guard.names.items()):
            if id_ not in different:
                guard.let_go(Kind.NAMES, id_)
            elif Kind.NAMES not in opened and self._wanted_digest(index.get(id_)) == digest:
                held |= {id_}
        found = different - held - self.quarantined.keys()
        older = {id_ for id_ in different if self._is_older(id_, index.get(id_))}
        unchanged = await self._unchanged_bad()
        await self._read((different | self.quarantined.keys()) - held - unchanged, (gone | older) - held, opened)
        return len(found)

    async def _unchanged_bad(self) -> set[EnvironmentId]:
        """The environments whose documents are large, bad, and as they were when they were read last."""
        found = await self.store.environments.stored(self._bad.environments, most=0)
        return {id_ for id_, stored in found.items() if self._bad.is_unchanged(stored)}

    async def _verify_some(self) -> None:
        """Looks at some environments that are served, for nobody announces a document that is changed by hand.

        What was committed while it looks is left to the change that announces it.
        """
        octets = 0
        for some in self._sample.steps(self._served.environments):
            found = await self.store.environments.stored(id_ for id_ in some if id_ not in self.quarantined)
            damaged = {id_: stored for id_, stored in found.items() if stored.damage}
            await self._apply_all(damaged, frozenset(), frozenset())
            octets += sum(max(stored.size, 0) for stored in found.values())
            if octets > SAMPLE_OCTETS:
                break

    def _hold_environments(self, ids: Iterable[EnvironmentId], *, only: bool = False) -> None:
        hold = self.guard.hold if only else self.guard.hold_also
        hold(Kind.ENVIRONMENTS, ids, "environments have vanished from the store, and are served on")

    def _is_withdrawal(self, id_: EnvironmentId, entry: IndexEntry | None) -> bool:
        """Whether ``entry`` ends the serving of ``id_``, and not because its last member here was moved away."""
        if self._served.digest(id_) is None:
            return False
        if entry is None or entry.digest is None:
            return True
        return self._is_older(id_, entry) and not self._may_have_member_here(entry.hosts)

    def _is_older(self, id_: EnvironmentId, entry: IndexEntry | None) -> bool:
        zone = self._served.zone(id_)
        return zone is not None and entry is not None and entry.digest is not None and entry.revision < zone.revision

    async def _read_hosts(self, *, forgotten: Collection[str] = (), opened: frozenset[Kind] = frozenset()) -> bool:
        """Reads all hosts and gives them to ``on_hosts`` if they have changed; returns whether they have.

        ``forgotten`` are hosts of which a change was announced. The first read is no change.
        """
        if self.on_hosts is None:
            return False
        before = self._hosts
        earlier = self._last_good.hosts if self._last_good else None
        hosts = with_last_good(await self.store.hosts.read(), before or earlier)
        if before and Kind.HOSTS not in opened:
            held = hosts_to_hold(self.guard.policy, before, hosts, forgotten)
            self.guard.hold(Kind.HOSTS, held, "hosts have vanished from the store, and stay in the mesh")
            if held:
                return False
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

    async def _read(
        self,
        ids: Iterable[EnvironmentId],
        judged: AbstractSet[EnvironmentId],
        opened: frozenset[Kind] = frozenset(),
        announced: Mapping[EnvironmentId, Change] = NOTHING_ANNOUNCED,
    ) -> None:
        """Reads and publishes ``ids``, a few at a time: the first are served before the last are read.

        Those of ``judged`` may be withdrawn, or go back to an older revision. Raises `Unavailable` if what is read is
        older than a change in ``announced`` says.
        """
        waiting = sorted(ids, reverse=True)
        batch = READ_FIRST
        while waiting:
            some = [waiting.pop() for _ in range(min(batch, len(waiting)))]
            read = await self._documents(some, announced)
            octets = sum(len(one.written or b"") for one in read.values())
            batch = max(1, min(READ_MOST, READ_OCTETS * len(some) // max(octets, 1)))
            await self._apply_all(read, judged, opened)

    async def _documents(
        self, ids: list[EnvironmentId], announced: Mapping[EnvironmentId, Change]
    ) -> dict[EnvironmentId, Stored]:
        """The index entries and documents of ``ids``, which are at least as new as the changes in ``announced``."""
        for attempt in range(STALE_ATTEMPTS):
            read = await self.store.environments.stored(ids)
            stale = [id_ for id_, stored in read.items() if _is_stale(stored.entry, announced.get(id_))]
            if not stale:
                return read
            self.counts.stale_reads += 1
            await asyncio.sleep(STALE_PAUSE * attempt)
        reason = f"it told of a change of {stale[0]!r}, and then gave an older document"
        self.store.connection.end(reason)
        raise Unavailable(f"store {self.store.url}: {reason}")

    async def _apply_all(
        self,
        read: Mapping[EnvironmentId, Stored],
        judged: AbstractSet[EnvironmentId],
        opened: frozenset[Kind],
    ) -> None:
        started = time.monotonic()
        for id_, stored in read.items():
            entry = stored.entry
            is_judged = id_ in judged or Kind.ENVIRONMENTS in opened
            if not is_judged and (self._is_withdrawal(id_, entry) or self._is_older(id_, entry)):
                self._must_compare = True  # it has vanished after this step began: a comparison weighs all of that
            elif entry is None or entry.digest is None or not self._may_have_member_here(entry.hosts):
                self._withdraw(id_)
            elif stored.written is None:
                self._served.quarantine(id_, stored.damage)
                await self._serve_last_good(id_)
            else:
                await self._apply(stored, stored.written, opened)
            self._bad.note(stored, is_bad=id_ in self.quarantined)
            if time.monotonic() - started > SLICE:
                await asyncio.sleep(0)
                started = time.monotonic()

    async def _apply(self, stored: Stored, read: bytes, opened: frozenset[Kind]) -> None:
        id_, digest = stored.id, stored.digest
        if stored.damage:
            self._served.quarantine(id_, stored.damage)
            await self._serve_last_good(id_)
            if self._served.digest(id_) is not None:
                return  # that came from one of our writers; only somebody who looks can tell whether this is better
        if self._served.confirm_served(id_, digest):
            self._let_go(id_)
            return
        zone = await self._served.compile(id_, read)
        if zone is None:
            await self._serve_last_good(id_)
            return
        if not self._may_have_member_here(hosts_of(zone.environment)):
            # The index entry does not name the hosts. The digest is remembered, or each comparison would read it again.
            self._withdraw(id_)
            self._foreign[id_] = digest
        elif Kind.NAMES not in opened and (lacking := await self._lacking(zone)):
            self.guard.hold_names(id_, digest, lacking)
        elif self._served.publish(zone, digest):
            self._foreign.pop(id_, None)
            self._let_go(id_)
            if stored.damage:  # it is served for want of a better one
                self._served.quarantine(id_, stored.damage)

    async def _lacking(self, zone: Zone) -> str:
        """What ``zone`` lacks of the one that is served, if that is too much, and nobody has asked for it."""
        before = self._served.zone(zone.id)
        lacking = loses_many_names(self.guard.policy, before, zone) if before else ""
        if lacking and before and before.revision < await self.store.guard.allowed(zone.id) <= zone.revision:
            return ""
        return lacking

    async def _serve_last_good(self, id_: EnvironmentId) -> None:
        """Serves what was served before this start for ``id_``, which is quarantined, unless something is served."""
        snapshot = self._last_good
        if snapshot and id_ in snapshot and self._served.digest(id_) is None:
            reason = self.quarantined[id_]
            await restore_one(snapshot, self._served, id_, snapshot.read(id_), lambda _: True)
            self._served.quarantine(id_, reason)

    def _withdraw(self, id_: EnvironmentId) -> None:
        self._foreign.pop(id_, None)
        self._served.withdraw(id_)
        self._let_go(id_)

    def _let_go(self, id_: EnvironmentId) -> None:
        self.guard.let_go(Kind.ENVIRONMENTS, id_)
        self.guard.let_go(Kind.NAMES, id_)


def _is_stale(entry: IndexEntry | None, change: Change | None) -> bool:
    if change is None:
        return False
    if entry is None or entry.revision < change.revision:
        return True
    return entry.revision == change.revision and bool(change.digest) and (entry.digest or DELETED) != change.digest


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _why_released(is_confirmed: bool, opened: Collection[Kind]) -> str:
    if is_confirmed:
        return "confirmed"
    return "the time to hold it is over" if opened else BACK


def with_last_good(hosts: Hosts, before: Hosts | None) -> Hosts:
    """``hosts``, and of each whose document cannot be read, as one of a newer release, what it was ``before``."""
    kept = {id_: before.hosts[id_] for id_ in hosts.unreadable if id_ in before.hosts} if before else {}
    return replace(hosts, hosts={**hosts.hosts, **kept}) if kept else hosts
