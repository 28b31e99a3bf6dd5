"""The comparison of the store's index with what is served: what differs, what of that is held back, what is read.

different          the environments whose served zone is not the one that the index names
other_data_set     whether all of that is held back, because the store goes on from another state
note_rollback      whether the store went back, which is reported
repair             reads what differs and is not held back
verify_some        looks at some that do not differ, for nobody announces what is changed by hand
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from store.changes import Position
from store.store import Store
from watcher.damage import SAMPLE_OCTETS, Sample
from watcher.environments import EnvironmentReader
from watcher.guard import (
    Guard,
    Index,
    Kind,
    environments_to_hold,
    is_older_copy,
    is_rolled_back,
    is_successor,
)
from watcher.publisher import ServedZones, WatcherCounts
from watcher.rollback import describe_rollback
from zones.names import EnvironmentId

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Comparison:
    """Compares, judges, and repairs."""

    store: Store
    """Holds the index."""
    served: ServedZones
    """What is served now."""
    guard: Guard
    """Holds back what vanishes without a word, or too much at once."""
    counts: WatcherCounts
    """What has happened since the start."""
    environments: EnvironmentReader
    """Reads what differs."""
    rolled_back: str = ""
    """When and how the store last went back behind changes that were applied here; empty if it never did."""
    _rolled_back_from: Position | None = None  # what was applied when the last rollback was reported
    _sample: Sample = field(default_factory=Sample)

    def different(self, index: Index) -> set[EnvironmentId]:
        """The environments whose served zone differs from ``index``."""
        environments = self.environments
        return {
            id_
            for id_ in {*index, *environments.known}
            if environments.known_digest(id_) != environments.wanted_digest(index.get(id_))
        }

    async def note_rollback(self, position: Position, index: Index) -> None:
        """Reports once if the store has gone back behind what was applied. The guard decides what follows."""
        before = Position(self.guard.epoch, self.guard.applied)
        if before == self._rolled_back_from:
            return
        common = await self.store.changes.newest_until(before.change)
        if reason := describe_rollback(before, position, common, self.served.digests, index):
            self._rolled_back_from = before
            self.counts.rollbacks += 1
            self.rolled_back = f"the store went back at {_format_time(self.served.wall_clock())}: {reason}"
            log.error("store_rolled_back", extra={"reason": reason, "before": before.change, "after": position.change})

    async def other_data_set(self, position: Position, index: Index, different: Iterable[EnvironmentId]) -> str:
        """What is wrong with the data set that the store holds now; empty if it goes on from what is served."""
        guard = self.guard
        if guard.policy.is_off:
            return ""
        if position.epoch != guard.epoch and not is_successor(self.served.digests, index):
            return "the store holds other data than what is served" if index else "the store is empty"
        older = sum(self.environments.is_older(id_, index.get(id_)) for id_ in different)
        if not is_rolled_back(guard.policy, len(self.served.environments), older):
            return ""
        common = guard.applied if guard.found else await self.store.changes.newest_until(guard.applied)
        if guard.found or is_older_copy(guard.applied, common):
            return "the store holds an older copy of the data"
        return ""

    async def repair(self, index: Index, different: set[EnvironmentId], opened: frozenset[Kind]) -> int:
        """Reads each environment in ``different``, unless it is held back; returns how many they were.

        Nothing of the kinds in ``opened`` is held back.
        """
        guard, environments, quarantined = self.guard, self.environments, self.served.quarantined
        gone = {id_ for id_ in different if environments.is_withdrawal(id_, index.get(id_))}
        missing = {id_ for id_ in gone if id_ not in index}
        held = frozenset[EnvironmentId]()
        if Kind.ENVIRONMENTS not in opened:
            deleted = gone - missing - await environments.half_deleted(gone - missing)
            held = environments_to_hold(guard.policy, len(self.served.environments), deleted, missing)
            self.hold_environments(held, only=True)
        held |= self._still_held_for_names(index, different, opened)
        found = different - held
        older = {id_ for id_ in different if environments.is_older(id_, index.get(id_))}
        unchanged = await self._unchanged_bad()
        await environments.read((different | quarantined.keys()) - held - unchanged, (gone | older) - held, opened)
        return len(found - quarantined.keys())

    async def verify_some(self) -> None:
        """Looks at some environments that are served, for nobody announces a document that is changed by hand.

        What was committed while it looks is left to the change that announces it.
        """
        octets = 0
        for some in self._sample.steps(self.served.environments):
            found = await self.store.environments.stored(id_ for id_ in some if id_ not in self.served.quarantined)
            damaged = {id_: stored for id_, stored in found.items() if self.environments.is_damaged(stored)}
            await self.environments.apply_all(damaged)
            octets += sum(max(stored.size, 0) for stored in found.values())
            if octets > SAMPLE_OCTETS:
                break

    def hold_environments(self, ids: Iterable[EnvironmentId], *, only: bool = False) -> None:
        """``ids`` are served on, though they have vanished; with ``only``, no others are."""
        hold = self.guard.hold if only else self.guard.hold_also
        hold(Kind.ENVIRONMENTS, ids, "environments have vanished from the store, and are served on")

    def _still_held_for_names(
        self, index: Index, different: set[EnvironmentId], opened: frozenset[Kind]
    ) -> frozenset[EnvironmentId]:
        """The environments whose newest document is the one that is held back for the names that it lacks."""
        for id_ in self.guard.names.keys() - different:
            self.guard.let_go(Kind.NAMES, id_)
        if Kind.NAMES in opened:
            return frozenset()
        wanted = self.environments.wanted_digest
        return frozenset(id_ for id_, digest in self.guard.names.items() if wanted(index.get(id_)) == digest)

    async def _unchanged_bad(self) -> set[EnvironmentId]:
        """The environments whose documents are large, bad, and as they were when they were read last."""
        bad = self.environments.bad
        found = await self.store.environments.stored(bad.environments, most=0)
        return {id_ for id_, stored in found.items() if bad.is_unchanged(stored)}


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
