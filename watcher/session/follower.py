"""The agent's end of a session: publishes what the control plane names for this host. It needs no store.

    begin     the snapshot on disk, unless a control plane has named soon all that is in it    publish(zone)
    judge     once everything was named in a session: what of it may be applied                withdraw(id)
    follow    what is said after that, as it is said                                           publish(zone)

`watcher.session.view` puts the messages together. While there is no session, all that was published stays. A session
that has begun anew names everything again, and only when it has is it judged:

- What it does not name is an absence and no deletion. The control plane is asked whether somebody has said that it is
  gone; if not, it stays (`watcher.guard`).
- Another data set holds everything, unless it has all that is served.
- A control plane that the store does not answer (`Stale`) may be behind: nothing is withdrawn because it does not name
  it, and nothing goes back to an older revision. If nothing was loaded before, it counts as a snapshot.

What was held is let go when it is named again, or somebody confirms that it is deleted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from store.changes import BEGINNING, Position
from support.breaks import Breaks
from watcher.guard import (
    ALL_KINDS,
    BACK,
    Guard,
    Kind,
    hosts_to_hold,
    is_successor,
)
from watcher.keeper import SOON, SnapshotKeeper, restore
from watcher.publisher import Publisher, ServedZones, ShowsServed, WatcherCounts
from watcher.session.view import Named, SessionView
from watcher.snapshot import Contents, Snapshot
from zones.addresses import Platform
from zones.hosts import Hosts, hosts_of
from zones.names import EnvironmentId
from zones.parts import Touched
from zones.zone import Zone

ASK_EVERY = 5.0  # seconds between two questions about what is held: somebody may have said meanwhile that it is gone
FORMER_NAMES_EVERY = 1.0  # seconds; how much longer than its time a former name may be answered

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SessionFollower(ShowsServed):
    """Follows a control plane for ever, in place of a `Watcher`."""

    view: SessionView
    """What the control plane has said."""
    platform: Platform
    """The address plan by which zones are compiled."""
    publisher: Publisher
    """Is given each zone."""
    on_hosts: Callable[[Hosts], None]
    """Is called with all hosts that are known, after each change, but before an environment that may need one."""
    ask_gone: Callable[[Collection[EnvironmentId]], Awaitable[Collection[EnvironmentId]]]
    """Asks the control plane which of some environments are gone by a word; gives none if it cannot say."""
    on_confirmed: Callable[[], None] = lambda: None
    """Is called after everything that was held has been let go because somebody has confirmed it."""
    wall_clock: Callable[[], float] = time.time
    """The store's clock, in Unix seconds."""
    snapshots: SnapshotKeeper | None = None
    """Has what was served before this start; None: nothing of it is kept."""
    guard: Guard = field(default_factory=Guard)
    """Holds on to what the control plane does not name any more, if that is too much."""
    counts: WatcherCounts = field(default_factory=WatcherCounts)
    """What has happened since the start; ``changes`` are documents that were named."""
    _served: ServedZones = field(init=False)
    _hosts: Hosts | None = None  # as ``on_hosts`` was given them last
    _judged: int = 0  # the session that was judged last, counted from 1
    _is_stale: bool = False  # whether it was judged while the store did not answer the control plane
    _is_loaded: bool = False
    _is_restored: bool = False
    _ask_again_at: float = 0.0  # when what is held is asked for again, in seconds of time.monotonic
    _lost_at: float | None = None  # when the view was current last, in seconds of time.monotonic

    def __post_init__(self) -> None:
        self._served = ServedZones(self.platform, self.publisher, self.wall_clock, self.counts)

    async def run(self) -> None:
        """Follows until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._keep_time())

    # What others read

    @property
    def connected(self) -> bool:
        """Whether the control plane confirms at this moment that all is current."""
        return self.view.connected and self.view.is_loaded and self.view.stale_since is None

    @property
    def last_contact(self) -> float | None:
        """When all was current last, in seconds of ``time.monotonic``; None if it never was."""
        return time.monotonic() if self.connected else self._lost_at

    @property
    def held(self) -> tuple[str, ...]:
        """What has vanished and stays here, or at the control plane, a sentence each."""
        return (*self.guard.texts, *self.view.held)

    @property
    def snapshot_mark(self) -> Hashable | None:
        """Differs after each change of what is served; None before all has been loaded."""
        hosts = (self._hosts.revision, self._hosts.down) if self._hosts else None
        return (self.counts.published, self.counts.withdrawn, hosts, self.guard.epoch) if self._is_loaded else None

    def snapshot_contents(self) -> Contents:
        """What is served now, for a snapshot."""
        return Contents(self._served.kept, Position(self.guard.epoch, BEGINNING), self._hosts)

    # The start

    async def _follow(self) -> None:
        if not self._is_loaded:
            await self._begin()
        while True:
            await self._apply()
            await self.view.wait()

    async def _begin(self) -> None:
        """Serves what the snapshot holds, if no control plane names everything soon, or names less than there was."""
        snapshot = await self.snapshots.open() if self.snapshots else None
        try:
            async with asyncio.timeout(SOON):
                while not self.view.is_loaded:
                    await self.view.wait()
        except TimeoutError:
            pass
        is_named = self.view.is_loaded and self.view.stale_since is None
        is_needed = snapshot is not None and not (is_named and self._has_all(snapshot))
        if snapshot and is_needed:
            await self._restore(snapshot)
        if is_needed or not is_named:
            self.publisher.source_away()

    def _has_all(self, snapshot: Snapshot) -> bool:
        """Whether the session has named all that is in ``snapshot``. If not, the guard judges what is missing."""
        known, named = snapshot.revisions, self.view.environments
        is_other = self.view.epoch != snapshot.position.epoch
        is_older = any(named[id_].revision < revision for id_, revision in known.items() if id_ in named)
        return not (is_other or is_older or known.keys() - self.view.named)

    async def _restore(self, snapshot: Snapshot) -> None:
        self.publisher.restored(snapshot.confirmed)
        self._is_restored = True
        self.guard.epoch = snapshot.position.epoch
        if snapshot.hosts:
            self._set_hosts(snapshot.hosts)
        await restore(snapshot, self._served, lambda _: True)
        shown = {"environments": len(self.revisions), "age_seconds": int(time.time() - snapshot.confirmed)}
        log.warning("restored_from_snapshot", extra=shown)

    # Judging

    async def _apply(self) -> None:
        """Brings what is served to what the session has said, as far as it may be."""
        view = self.view
        if view.connected and view.is_loaded:
            is_open = view.is_confirmed
            view.is_confirmed = False
            if is_open or self._is_to_be_judged():
                await self._judge(ALL_KINDS if is_open else self.guard.overdue)
            if not self.guard.holds_back(Kind.DATA_SET):
                await self._take()
            if is_open:
                self.on_confirmed()
        self.counts.lost_connections = view.lost
        if self.connected:
            self._lost_at = time.monotonic()

    def _is_to_be_judged(self) -> bool:
        view, guard = self.view, self.guard
        if self._judged != view.sessions or self._is_stale != (view.stale_since is not None):
            return True
        is_due = guard.holds_back(Kind.ENVIRONMENTS) and time.monotonic() >= self._ask_again_at
        # A control plane that goes on with another data set says so in the middle of a session.
        return is_due or view.epoch != guard.epoch or bool(guard.overdue)

    async def _judge(self, opened: AbstractSet[Kind]) -> None:
        """Decides what of a session that has named everything is applied, and does so."""
        view, guard, served = self.view, self.guard, set(self._served.environments)
        self._judged, self._is_stale = view.sessions, view.stale_since is not None
        if Kind.DATA_SET not in opened and (why := self._other_data_set()):
            guard.hold(Kind.DATA_SET, served, why)
            return
        guard.release(Kind.DATA_SET, "confirmed" if Kind.DATA_SET in opened else BACK)
        guard.epoch = view.epoch
        view.changed |= dict.fromkeys(view.named)
        if not self._is_stale:
            await self._judge_unnamed(opened)
            if not self._is_judged:
                return
        self._judge_hosts(opened)
        await self._take()
        self._note_loaded()

    async def _judge_unnamed(self, opened: AbstractSet[Kind]) -> None:
        """Withdraws what is served and not named, if it is gone by a word; what is merely missing is held."""
        unnamed = set(self._served.environments) - self.view.named
        gone = unnamed if Kind.ENVIRONMENTS in opened or self.guard.policy.is_off else set[EnvironmentId]()
        if unnamed - gone:
            session = self.view.sessions
            gone = set(await self.ask_gone(unnamed))
            if session != self.view.sessions:
                return  # the next one is judged by itself
        self._withdraw(gone - self.view.named)
        held = set(self._served.environments) - self.view.named
        self.guard.hold(Kind.ENVIRONMENTS, held, "environments have vanished from the control plane, and are served on")
        self._ask_again_at = time.monotonic() + ASK_EVERY

    def _other_data_set(self) -> str:
        """What is wrong with the data set that the store holds now; empty if it goes on from what is served."""
        view, guard = self.view, self.guard
        served = self._served.digests
        if guard.policy.is_off or not served or view.epoch == guard.epoch or is_successor(served, view.index):
            return ""
        return "the store holds other data than what is served" if view.environments else "the store is empty"

    def _note_loaded(self) -> None:
        if self._is_loaded:
            return
        if self._is_stale:
            if not self._is_restored:
                self._is_restored = True
                self.publisher.restored(self.view.stale_since or 0.0)
            self.publisher.source_away()
            return
        self._is_loaded = True
        self.publisher.loaded()
        log.info("loaded", extra={"environments": len(self.revisions)})

    # Taking what was said

    async def _take(self) -> None:
        view = self.view
        while self._is_judged and (view.changed or view.have_hosts_changed):
            self._take_hosts()
            breaks = Breaks()
            while self._is_judged and view.changed and not view.have_hosts_changed:
                id_ = next(iter(view.changed))
                del view.changed[id_]
                if named := view.environments.get(id_):
                    await self._publish(id_, named)
                elif id_ not in view.unreadable:
                    self._withdraw([id_])
                if reason := view.unreadable.get(id_):
                    self._served.quarantine(id_, reason)
                await breaks.take()

    @property
    def _is_judged(self) -> bool:
        """Whether the session is the one that was judged last, and not one that has begun since."""
        return self._judged == self.view.sessions and self.view.is_loaded

    async def _publish(self, id_: EnvironmentId, named: Named) -> None:
        self.counts.changes += 1
        served = self._served.zone(id_)
        if self._is_stale and served and named.revision < served.revision:
            return  # judged anew when the store answers the control plane
        if self._served.confirm_served(id_, named.digest):
            self.guard.let_go(Kind.ENVIRONMENTS, id_)
            return
        compiled = await self._compile(id_, named, served)
        if compiled is None or self.view.environments.get(id_) is not named:
            return  # it is bad, or something newer was said of it meanwhile
        zone, touched = compiled
        owner = self._served.owner(zone.environment.network)
        if owner not in (None, id_) and owner not in self.view.named:
            # The owner was withdrawn while there was no session: the store never gives two environments one network.
            self._withdraw([EnvironmentId(owner or "")])
        if self._served.publish(zone, named.digest, touched):
            self.guard.let_go(Kind.ENVIRONMENTS, id_)
            self.view.note_published(named, zone.environment)

    async def _compile(
        self, id_: EnvironmentId, named: Named, served: Zone | None
    ) -> tuple[Zone, Touched | None] | None:
        """The zone of ``named``, and by what it differs from the one that is ``served``; None if it is bad."""
        further = named.since(self._served.digest(id_))
        if served and further is not None:
            return await self._served.follow(served, further)
        zone = await self._served.compile(id_, named.document, named.written)
        return (zone, None) if zone else None

    def _take_hosts(self) -> None:
        """Passes on what was said of hosts. One that is not named any more was forgotten, or is not needed."""
        if self.view.have_hosts_changed:
            for id_ in self.view.hosts:
                self.guard.let_go(Kind.HOSTS, id_)
            self._give_hosts(id_ for one in self.guard.held if one.kind is Kind.HOSTS for id_ in one.names)

    def _judge_hosts(self, opened: AbstractSet[Kind]) -> None:
        """The same for a session that has named everything: one that it does not name is merely missing."""
        before, after = self._hosts or Hosts(0, {}, {}), self.view.all_hosts
        vanished = before.hosts.keys() - after.hosts.keys() - after.unreadable.keys()
        held: AbstractSet[str] = frozenset()
        served = self._served.environments
        if self._is_stale:
            held = vanished
        elif Kind.HOSTS not in opened:
            many = hosts_to_hold(self.guard.policy, before, after, vanished - self._needed_hosts(served))
            held = many | (vanished & self._needed_hosts(self._served.environments - self.view.named))
        if not self._is_stale:
            self.guard.hold(Kind.HOSTS, held, "the control plane does not name hosts any more, which stay in the mesh")
        self._give_hosts(held)

    def _needed_hosts(self, environments: Collection[EnvironmentId]) -> set[str]:
        zones = (self._served.zone(id_) for id_ in environments)
        return set().union(*(hosts_of(zone.environment) for zone in zones if zone))

    def _give_hosts(self, held: Iterable[str]) -> None:
        """Gives ``on_hosts`` those that were named, and as they were those of ``held`` and the unreadable ones."""
        self.view.have_hosts_changed = False
        hosts, before = self.view.all_hosts, self._hosts.hosts if self._hosts else {}
        kept = {id_: before[id_] for id_ in (*held, *hosts.unreadable) if id_ in before and id_ not in hosts.hosts}
        down = hosts.down | (self._hosts.down & kept.keys() if self._hosts else frozenset())
        self._set_hosts(replace(hosts, hosts={**kept, **hosts.hosts}, down=down))

    def _set_hosts(self, hosts: Hosts) -> None:
        if hosts != self._hosts:
            self._hosts = hosts
            self.on_hosts(hosts)

    def _withdraw(self, ids: Iterable[EnvironmentId]) -> None:
        for id_ in ids:
            self.guard.let_go(Kind.ENVIRONMENTS, id_)
            self._served.withdraw(id_)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(FORMER_NAMES_EVERY)
            self._served.end_former_names()
            if self.guard.held:
                self.view.wake()
