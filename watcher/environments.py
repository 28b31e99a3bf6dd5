"""From the store to what is served, environment by environment: each is published, withdrawn, held or quarantined.

    read         some environments, a few in each round trip: their lines in the index, and their documents
    apply_all    what was read: to what is served, or not, and why

Everything that a watcher serves has come by here, whether a change named it or a comparison found that it differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from store.changes import Change
from store.errors import Unavailable, WrongKey
from store.index import DELETED, IndexEntry
from store.store import Store
from store.stored import Known, Stored
from support.breaks import Breaks
from watcher.damage import BadDocuments
from watcher.guard import Guard, Kind, loses_many_names
from watcher.keeper import restore_one
from watcher.publisher import ServedZones, WatcherCounts
from watcher.snapshot import Snapshot
from zones.hosts import hosts_of
from zones.names import EnvironmentId
from zones.parts import Touched
from zones.zone import Zone

READ_MOST = 20  # documents in a round trip, if they are not too large; the library takes in what is read in one go
READ_OCTETS = 1 << 18  # of documents in a round trip; while the client library decodes them, no query is answered
STALE_ATTEMPTS = 5  # reads of a document that is older than its change says, before another server is looked for
STALE_PAUSE = 0.02  # seconds, times the number of the attempt: replicas are milliseconds behind, if they are healthy
NOTHING_ANNOUNCED: Mapping[EnvironmentId, Change] = {}


@dataclass(slots=True)
class EnvironmentReader:
    """Reads environments, and decides what becomes of each."""

    store: Store
    """Where they are read."""
    served: ServedZones
    """What is served now."""
    guard: Guard
    """Holds back what vanishes without a word, or too much at once."""
    counts: WatcherCounts
    """What has happened since the start."""
    interest: str | None
    """The host whose environments are followed; None for all environments."""
    last_good: Snapshot | None = None
    """What was served before this start; None once everything has been loaded."""
    must_compare: bool = False
    """Whether something was found that only a comparison can judge."""
    bad: BadDocuments = field(default_factory=BadDocuments)
    """How large bad documents looked when they were read."""
    # The digests of documents that have no member on our host, though their index entries do not say so. They are kept
    # so that such a document is read once, and not with every comparison.
    _foreign: dict[EnvironmentId, str] = field(default_factory=dict)

    @property
    def known(self) -> AbstractSet[EnvironmentId]:
        """The environments of which a document is known: it is served, or has no member on our host."""
        return self.served.environments | self._foreign.keys()

    def known_digest(self, id_: EnvironmentId) -> str | None:
        """The digest of the document of ``id_`` that is known."""
        return self.served.digest(id_) or self._foreign.get(id_)

    def wanted_digest(self, entry: IndexEntry | None) -> str | None:
        """The digest of the document that should be known where the index says ``entry``."""
        return entry.digest if entry and self._may_have_member_here(entry.hosts) else None

    def is_concerned(self, change: Change) -> bool:
        """Whether the environment that ``change`` names must be read."""
        id_ = change.environment
        if change.host is not None:
            return False
        return (
            self._may_have_member_here(change.hosts)
            or self.known_digest(id_) is not None
            or id_ in self.served.quarantined
        )

    def is_withdrawal(self, id_: EnvironmentId, entry: IndexEntry | None) -> bool:
        """Whether ``entry`` ends the serving of ``id_``, and not because its last member here was moved away."""
        if self.served.digest(id_) is None:
            return False
        if entry is None or entry.digest is None:
            return True
        return self.is_older(id_, entry) and not self._may_have_member_here(entry.hosts)

    def is_older(self, id_: EnvironmentId, entry: IndexEntry | None) -> bool:
        """Whether ``entry`` names an older revision of ``id_`` than the one that is served."""
        zone = self.served.zone(id_)
        return zone is not None and entry is not None and entry.digest is not None and entry.revision < zone.revision

    def is_damaged(self, stored: Stored) -> bool:
        """Whether ``stored``, which was read for no reason, is not what our writers would have made of it."""
        zone = self.served.zone(stored.id)
        is_served = zone is not None and self.served.digest(stored.id) == stored.digest
        return bool(stored.damage or (zone and is_served and stored.wrong_hosts(zone.environment)))

    async def half_deleted(self, ids: Iterable[EnvironmentId]) -> set[EnvironmentId]:
        """Those of ``ids``, which the index calls deleted, whose documents are still there: they are damaged."""
        waiting, found = list(ids), set[EnvironmentId]()
        while waiting:
            some, waiting = waiting[:READ_MOST], waiting[READ_MOST:]
            read = await self.store.environments.stored(some, most=0)
            found |= {id_ for id_, stored in read.items() if stored.is_half_deleted}
        return found

    async def read(
        self,
        ids: Iterable[EnvironmentId],
        judged: AbstractSet[EnvironmentId],
        opened: frozenset[Kind] = frozenset(),
        announced: Mapping[EnvironmentId, Change] = NOTHING_ANNOUNCED,
    ) -> None:
        """Reads and publishes ``ids``, a few at a time: the first are served before the last are read.

        Those of ``judged`` may be withdrawn, or go back to an older revision. Nothing of the kinds in ``opened`` is
        held back. Raises `Unavailable` if what is read is older than a change in ``announced`` says.
        """
        waiting = sorted(ids, reverse=True)
        batch = READ_MOST
        while waiting:
            some = [waiting.pop() for _ in range(min(batch, len(waiting)))]
            read = await self._documents(some, announced)
            octets = sum(one.read for one in read.values())
            batch = max(1, min(READ_MOST, READ_OCTETS * len(some) // max(octets, 1)))
            await self.apply_all(read, judged, opened)

    async def _documents(
        self, ids: list[EnvironmentId], announced: Mapping[EnvironmentId, Change]
    ) -> dict[EnvironmentId, Stored]:
        """The index entries and documents of ``ids``, which are at least as new as the changes in ``announced``."""
        if own := self._own(ids, announced):
            return own
        for attempt in range(STALE_ATTEMPTS):
            read = await self.store.environments.stored(ids, known=self._known(ids))
            stale = [id_ for id_, stored in read.items() if _is_stale(stored.entry, announced.get(id_))]
            if not stale:
                return read
            self.counts.stale_reads += 1
            await asyncio.sleep(STALE_PAUSE * attempt)
        reason = f"it told of a change of {stale[0]!r}, and then gave an older document"
        self.store.connection.end(reason)
        raise Unavailable(f"store {self.store.url}: {reason}")

    def _own(
        self, ids: Sequence[EnvironmentId], announced: Mapping[EnvironmentId, Change]
    ) -> dict[EnvironmentId, Stored] | None:
        """What the changes ``announced`` have written, where all are commits of this process; None if some are not.

        A control plane makes most of the commits that it hears of: a deploy waits for no reading of its own.
        """
        found = {}
        for id_ in ids:
            change = announced.get(id_)
            own = self.store.environments.written(id_, change.revision, change.digest) if change else None
            if own is None:
                return None
            found[id_] = own
        return found

    def _known(self, ids: Iterable[EnvironmentId]) -> dict[EnvironmentId, Known]:
        """What is served of ``ids``, to which the store is to give what follows; what is quarantined is read whole."""
        served, bad = self.served, self.served.quarantined
        zones = ((served.zone(id_), served.digest(id_)) for id_ in ids if id_ not in bad)
        return {zone.id: Known(zone.revision, digest) for zone, digest in zones if zone and digest}

    async def apply_all(
        self,
        read: Mapping[EnvironmentId, Stored],
        judged: AbstractSet[EnvironmentId] = frozenset(),
        opened: frozenset[Kind] = frozenset(),
    ) -> None:
        """Decides what becomes of each environment in ``read``; ``judged`` and ``opened`` are those of `read`."""
        breaks = Breaks()
        for id_, stored in read.items():
            entry = stored.entry
            is_judged = id_ in judged or Kind.ENVIRONMENTS in opened
            if not is_judged and (self.is_withdrawal(id_, entry) or self.is_older(id_, entry)):
                self.must_compare = True  # it has vanished after this step began: a comparison weighs all of that
            elif not stored.is_half_deleted and (
                entry is None or entry.digest is None or not self._may_concern_us(id_, entry)
            ):
                self._withdraw(id_)
            elif (stored.written is None and not stored.since) or stored.is_half_deleted:
                self.served.quarantine(id_, stored.damage)
                await self._serve_last_good(id_)
            else:
                await self._apply(stored, opened, breaks)
            self.bad.note(stored, is_bad=id_ in self.served.quarantined)
            await breaks.take()

    async def _apply(self, stored: Stored, opened: frozenset[Kind], breaks: Breaks) -> None:
        id_, digest = stored.id, stored.digest
        if stored.damage:
            self.served.quarantine(id_, stored.damage)
            await self._serve_last_good(id_)
            if self.served.digest(id_) is not None:
                return  # that came from one of our writers; only somebody who looks can tell whether this is better
        served = self.served.zone(id_)
        if served and self.served.digest(id_) == digest:
            self._confirm(stored, served)
            return
        compiled = await self._compile(stored, served, breaks)
        await breaks.take()
        if compiled is not None:
            await self._apply_zone(*compiled, stored, opened)
        elif self._names_us(stored):
            await self._serve_last_good(id_)
        else:
            self._withdraw(id_)

    async def _compile(self, stored: Stored, served: Zone | None, breaks: Breaks) -> tuple[Zone, Touched | None] | None:
        """The zone of ``stored``, and by what it differs from the one that is ``served``; None if that is bad."""
        id_, since = stored.id, stored.since
        if since is None:
            zone = await self.served.compile(id_, stored.written or b"", stored.differences, breaks)
            return (zone, None) if zone else None
        if served is None or (served.revision, self.served.digest(id_)) != (since.revision, since.digest):
            self.must_compare = True  # it was withdrawn, or put back, while this was read
            return None
        return await self.served.follow(served, stored.differences)

    def _confirm(self, stored: Stored, served: Zone) -> None:
        self._let_go(stored.id)
        if wrong := stored.wrong_hosts(served.environment):
            self.served.quarantine(stored.id, wrong)
        else:
            self.served.confirm_served(stored.id, stored.digest)

    async def _apply_zone(self, zone: Zone, touched: Touched | None, stored: Stored, opened: frozenset[Kind]) -> None:
        id_, digest = stored.id, stored.digest
        if not self._has_member_here(zone, stored):
            self._withdraw(id_)
            if self._names_us(stored):  # then each comparison would read it again, if the digest were not remembered
                self._foreign[id_] = digest
        elif Kind.NAMES not in opened and (lacking := await self._lacking(zone)):
            self.guard.hold_names(id_, digest, lacking)
        elif self.served.publish(zone, digest, touched):
            self._foreign.pop(id_, None)
            self._let_go(id_)
            if damage := stored.damage or ("" if touched else stored.wrong_hosts(zone.environment)):
                self.served.quarantine(id_, damage)  # it is served for want of a better one

    async def _lacking(self, zone: Zone) -> str:
        """What ``zone`` lacks of the one that is served, if that is too much, and nobody has asked for it."""
        before = self.served.zone(zone.id)
        lacking = loses_many_names(self.guard.policy, before, zone) if before else ""
        if lacking and before and before.revision < await self._allowed(zone.id) <= zone.revision:
            return ""
        return lacking

    async def _allowed(self, id_: EnvironmentId) -> int:
        try:
            return await self.store.guard.allowed(id_)
        except WrongKey:
            return 0  # each comparison names that key

    async def _serve_last_good(self, id_: EnvironmentId) -> None:
        """Serves what was served before this start for ``id_``, which is quarantined, unless something is served."""
        snapshot = self.last_good
        if snapshot and id_ in snapshot and self.served.digest(id_) is None:
            reason = self.served.quarantined[id_]
            await restore_one(snapshot, self.served, id_, snapshot.read(id_), lambda _: True)
            self.served.quarantine(id_, reason)

    def _may_concern_us(self, id_: EnvironmentId, entry: IndexEntry) -> bool:
        """Whether the document of ``id_`` must be looked at, or ``entry`` is enough to know that it has no member here.

        The hosts of an entry alone withdraw nothing: somebody may have changed them by hand.
        """
        return self._may_have_member_here(entry.hosts) or self.served.digest(id_) is not None

    def _has_member_here(self, zone: Zone, stored: Stored) -> bool:
        if self.interest is None:
            return True
        # To look through all instances takes long, so of a difference the commit is believed that it came with.
        named = stored.entry.hosts if stored.since and stored.entry else None
        return self.interest in (hosts_of(zone.environment) if named is None else named)

    def _names_us(self, stored: Stored) -> bool:
        return stored.entry is not None and self._may_have_member_here(stored.entry.hosts)

    def _may_have_member_here(self, hosts: frozenset[str] | None) -> bool:
        return self.interest is None or hosts is None or self.interest in hosts

    def _withdraw(self, id_: EnvironmentId) -> None:
        self._foreign.pop(id_, None)
        self.served.withdraw(id_)
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
