"""The guard against mass deletion: what has vanished from the source, and is served until somebody says that it may go.

Absence is no deletion. An environment is deleted by its index entry, which then says so; one that is merely missing,
or a whole data set that is, has been lost. And a deletion of very much in one step may be a mistake. The guard holds
such a withdrawal back: what was served stays, until

    a confirmation   `interlock guard confirm`, or the API: the next step withdraws what the source lacks
    the data         is back: nothing is left to be withdrawn
    a time           `GuardPolicy.release_after` is over, if one is set

The functions judge one step: a comparison with the index, one batch of changes, or one document. They are pure; `Guard`
remembers what is held.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from store.changes import BEGINNING, Change, Position, milliseconds_between
from store.guard import Confirmation
from store.index import IndexEntry
from zones.hosts import Hosts
from zones.names import EnvironmentId
from zones.withdrawal import FEW, loss
from zones.zone import Zone

FAILOVER_MILLISECONDS = 60_000  # of history that a failover may lose; what lacks more is an older copy of the data
SHOWN = 5  # environments or hosts that a text names; the rest is a number
BACK = "all of it is back in the source, or was deleted there"  # why a hold ends by itself
REMEDY = "bring the data back, or run 'interlock guard confirm' if they are to be withdrawn"

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What is held back."""

    DATA_SET = "data_set"
    """All changes: the source holds another data set, or an older copy of this one."""
    ENVIRONMENTS = "environments"
    """The withdrawal of environments."""
    NAMES = "names"
    """Documents that lack many names of their environments."""
    HOSTS = "hosts"
    """The removal of hosts from the mesh."""


ALL_KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """How much may vanish in one step."""

    share: float = 0.3
    """Of the environments that are served, and of all hosts. With 1 or more nothing is ever held."""
    name_share: float = 0.5
    """Of the names of one environment."""
    release_after: float = 0.0
    """Seconds after which what is held is withdrawn unasked; 0 for never."""

    @property
    def is_off(self) -> bool:
        """Whether nothing is ever held."""
        return self.share >= 1


Index = Mapping[EnvironmentId, IndexEntry]
ServedDigests = Mapping[EnvironmentId, tuple[int, str]]
"""The revision and the digest that is served of each environment."""


def environments_to_hold(
    policy: GuardPolicy, served: int, deleted: AbstractSet[EnvironmentId], missing: AbstractSet[EnvironmentId]
) -> frozenset[EnvironmentId]:
    """Which environments stay, of those that one step would withdraw while ``served`` are served.

    ``deleted`` are those whose index entry says so: one alone passes, and more do up to the share. ``missing`` are
    those of which the index says nothing, and all of these stay: nothing of ours ever removes an entry.
    """
    if policy.is_off:
        return frozenset()
    many = len(deleted) > 1 and len(deleted) + len(missing) > policy.share * served
    return frozenset(missing | deleted if many else missing)


def unnamed_to_hold(policy: GuardPolicy, served: int, unnamed: AbstractSet[EnvironmentId]) -> frozenset[EnvironmentId]:
    """Which environments stay, of those that an agent which came back did not name while ``served`` are served.

    Some may have moved away from this host while it was gone, so up to the share, or one of several, pass.
    """
    many = len(unnamed) > policy.share * served and (len(unnamed) > 1 or len(unnamed) == served)
    return frozenset(unnamed) if many and not policy.is_off else frozenset()


def is_successor(served: ServedDigests, index: Index) -> bool:
    """Whether ``index`` has all that is served, as it is or newer."""
    return all(
        (entry := index.get(id_)) is not None and (entry.digest == digest or entry.revision > revision)
        for id_, (revision, digest) in served.items()
    )


def is_rolled_back(policy: GuardPolicy, served: int, older: int) -> bool:
    """Whether the index has ``older`` of ``served`` environments at an older revision, and these are too many."""
    return not policy.is_off and older > 1 and older > policy.share * served


def is_older_copy(applied: str, common: str) -> bool:
    """Whether a stream whose newest change until ``applied`` is ``common`` lacks more than a failover loses."""
    return milliseconds_between(common, applied) > FAILOVER_MILLISECONDS


def loses_many_names(policy: GuardPolicy, before: Zone, after: Zone) -> str:
    """What of ``before`` is gone in ``after``, if that is too much for one step; empty if it is not.

    A document may be several commits ahead of the one before it. Then each of them may have lost a few names.
    """
    lost = loss(before.environment, after.environment)
    commits = max(1, after.revision - before.revision)
    if policy.is_off or not lost.is_mass(policy.name_share) or lost.lost < FEW * commits:
        return ""
    return f"{lost.lost} of {lost.of} names"


def hosts_to_hold(policy: GuardPolicy, before: Hosts, after: Hosts, forgotten: Collection[str]) -> frozenset[str]:
    """The hosts that have vanished, if there are too many; ``forgotten`` are those whose removal a change announced."""
    vanished = before.hosts.keys() - after.hosts.keys() - after.unreadable.keys() - set(forgotten)
    total = len(before.hosts)
    many = vanished and (len(vanished) == total or (len(vanished) > 1 and len(vanished) > policy.share * total))
    return frozenset(vanished) if many and not policy.is_off else frozenset()


def confirmation_of(change: Change) -> Confirmation | None:
    """The confirmation that ``change`` announces; None for a change of another kind."""
    return Confirmation(change.confirms, change.position) if change.confirms else None


@dataclass(frozen=True, slots=True)
class Held:
    """A withdrawal that is held back."""

    kind: Kind
    """What it would take away."""
    names: tuple[str, ...]
    """The environments or hosts that stay, in order."""
    reason: str
    """What has vanished, in one sentence without its final full stop."""
    since: float
    """Since when, in seconds of ``time.monotonic``."""

    def text(self, now: float) -> str:
        """What is held, since when, and what to do about it."""
        shown = ", ".join(self.names[:SHOWN]) + (f" and {len(self.names) - SHOWN} more" * (len(self.names) > SHOWN))
        return f"{self.reason} ({shown}), held for {now - self.since:.0f} s: {REMEDY}"


@dataclass(slots=True)
class Guard:
    """Remembers what is held back, and up to where the source was followed."""

    policy: GuardPolicy = GuardPolicy()
    """How much may vanish in one step."""
    clock: Callable[[], float] = time.monotonic
    """Seconds of a clock that never goes back."""
    epoch: str | None = None
    """The epoch of the data set that is served; None before it is known."""
    applied: str = BEGINNING
    """The position of the newest change that was applied, in that data set."""
    followed: str = ""
    """The change of the newest confirmation that was followed: it confirms nothing that vanishes later."""
    found: Position | None = None
    """Where the other data set stood when it was judged; None while none is held back."""
    names: dict[EnvironmentId, str] = field(default_factory=dict)
    """The digests of the documents that are held back because they lack many names, by environment."""
    holds: Counter[Kind] = field(default_factory=Counter)
    """How often something was held back since the start, by its kind."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """What the store holds beside environments and cannot be read, and why; what was known of it last counts on."""
    _held: dict[Kind, Held] = field(default_factory=dict)

    @property
    def held(self) -> tuple[Held, ...]:
        """All that is held back now."""
        return tuple(self._held.values())

    @property
    def texts(self) -> tuple[str, ...]:
        """What is held back now, and what cannot be read, for people."""
        now = self.clock()
        unreadable = (f"{what} cannot be read: {reason}" for what, reason in self.unreadable.items())
        return (*(one.text(now) for one in self.held), *unreadable)

    def holds_back(self, kind: Kind, name: str | None = None) -> bool:
        """Whether something of ``kind`` is held back, or ``name`` is among it."""
        held = self._held.get(kind)
        return held is not None and (name is None or name in held.names)

    def hold(self, kind: Kind, names: Iterable[str], reason: str) -> None:
        """From now on exactly ``names`` are held back as ``kind``; none of them ends that hold."""
        ordered, before = tuple(sorted(names)), self._held.get(kind)
        if not ordered:
            self.release(kind, BACK)
        elif before is None or before.names != ordered:
            self._held[kind] = Held(kind, ordered, reason, before.since if before else self.clock())
            self.holds[kind] += before is None
            shown = {"kind": kind.value, "number": len(ordered), "of": ordered[:SHOWN], "reason": reason}
            log.error("withdrawal_held", extra={**shown, "remedy": REMEDY})

    def hold_also(self, kind: Kind, names: Iterable[str], reason: str) -> None:
        """Holds ``names`` back too."""
        before = self._held.get(kind)
        self.hold(kind, {*(before.names if before else ()), *names}, reason)

    def hold_names(self, id_: EnvironmentId, digest: str, what: str) -> None:
        """Holds back the document with ``digest``, which lacks ``what`` of the environment ``id_``."""
        self.names[id_] = digest
        self.hold_also(Kind.NAMES, [id_], f"a new document lacks {what}")

    def let_go(self, kind: Kind, name: str) -> None:
        """``name`` is not held back any more: it is back, or was withdrawn by a word of its own."""
        if self.holds_back(kind, name):
            if kind is Kind.NAMES:
                self.names.pop(EnvironmentId(name), None)
            held = self._held[kind]
            self.hold(kind, (one for one in held.names if one != name), held.reason)

    def release(self, kind: Kind, why: str) -> None:
        """Nothing of ``kind`` is held back any more."""
        if held := self._held.pop(kind, None):
            log.warning("withdrawal_released", extra={"kind": kind.value, "number": len(held.names), "reason": why})
        if kind is Kind.DATA_SET:
            self.found = None
        if kind is Kind.NAMES:
            self.names.clear()

    def note_unreadable(self, what: str, reason: str = "") -> None:
        """``what`` cannot be read for ``reason``; none: it can be read."""
        if reason != self.unreadable.get(what, ""):
            self.unreadable.pop(what, None)
            if reason:
                self.unreadable[what] = reason
                log.error("store_unreadable", extra={"what": what, "reason": reason})

    def is_confirmed(self, confirmation: Confirmation | None) -> bool:
        """Whether ``confirmation`` is about what is held back, or about what the reader is about to find."""
        if confirmation is None or confirmation.change == self.followed:
            return False
        return confirmation.covers(self.found, self.applied)

    @property
    def overdue(self) -> frozenset[Kind]:
        """The kinds that have been held back for as long as the policy says."""
        after, now = self.policy.release_after, self.clock()
        return frozenset(one.kind for one in self.held if after and now - one.since >= after)
