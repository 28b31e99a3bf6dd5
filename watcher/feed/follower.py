"""The resolver's end of the feed: publishes what the agent of this host has routes to. It needs no store.

    Pending      ─►  announce(zone)     and so with Change
    Ready        ─►  publish(zone)      and a reply to the agent, which acknowledges the revision to the store
    Serve        ─►  publish(zone)      and a reply
    Withdrawn    ─►  withdraw(id)
    Loaded       ─►  withdraw each environment that this connection did not name, if these are not too many
    Confirmed    ─►  withdraw those too
    Away         ─►  publish(zone)      of each that has instances on a host to which there is no path, or is one again
    Clock        ─►  former names end by the store's clock, though the one of this host is wrong

While the agent is away, all that was published stays. When it is back it names every environment again, and only
its `Loaded` takes away those that it did not name. An agent that came back with an empty view names none:
`watcher.guard` holds on to what is served until the agent names or withdraws it, or somebody confirms that it is
deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.breaks import Breaks
from watcher.feed.errors import FeedBroken
from watcher.feed.protocol import (
    Away,
    Change,
    Clock,
    Confirmed,
    Loaded,
    Pending,
    Ready,
    Refused,
    Reply,
    Serve,
    Served,
    Update,
    Withdrawn,
    decode_update,
    encode,
    own_address,
)
from watcher.guard import Guard, Kind, unnamed_to_hold
from watcher.keeper import SOON, SnapshotKeeper, restore
from watcher.publisher import Publisher, ServedZones, ShowsServed, WatcherCounts
from watcher.snapshot import Contents
from zones import document, parts
from zones.addresses import Platform
from zones.hosts import Hosts
from zones.names import EnvironmentId
from zones.parts import Touched
from zones.placement import NONE_AWAY, HostsAway
from zones.zone import Zone

RETRY = 0.25  # seconds between two attempts to connect; on a socket of this host an attempt costs next to nothing
FORMER_NAMES_EVERY = 1.0  # seconds; how much longer than its time a former name may be answered

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _PendingZone:
    zone: Zone
    digest: str  # of its document
    touched: Touched | None = None  # by what it differs from the zone that is served; None: nobody knows


@dataclass(slots=True)
class Follower(ShowsServed):
    """Follows the agent of this host for ever, in place of a `Watcher`."""

    path: Path
    """The unix socket that the agent serves."""
    platform: Platform
    """The address plan by which zones are compiled."""
    publisher: Publisher
    """Is given each zone."""
    wall_clock: Callable[[], float] = time.time
    """This host's clock, in Unix seconds."""
    snapshots: SnapshotKeeper | None = None
    """Has what was served before this start; None: nothing of it is kept."""
    counts: WatcherCounts = field(default_factory=WatcherCounts)
    """What has happened since the start; ``changes`` are the documents that came as `Pending`."""
    guard: Guard = field(default_factory=Guard)
    """Holds on to what the agent does not name any more, if that is too much."""
    settled: Callable[[EnvironmentId], Awaitable[None]] | None = None
    """Returns when all that answer do so from what was published; None where that is so at once."""
    connected: bool = False
    """Whether the agent is connected now."""
    _ahead: float = 0.0  # by how many seconds this host's clock is ahead of the store's
    _served: ServedZones = field(init=False)
    _pending: dict[EnvironmentId, _PendingZone] = field(default_factory=dict)
    _newest: dict[EnvironmentId, _PendingZone] = field(default_factory=dict)  # what this connection made pending last
    _named: set[EnvironmentId] = field(default_factory=set)  # those that this connection has named
    _heard: set[EnvironmentId] = field(default_factory=set)  # those that the agent has named or withdrawn so far
    _has_heard_away: bool = False  # whether this connection has said which hosts have no path
    _lost_at: float | None = None  # when the connection was lost, in seconds of time.monotonic
    _is_loaded: bool = False
    _reason: str = ""  # why the last attempt to connect failed; logged once, not with every attempt

    def __post_init__(self) -> None:
        self._served = ServedZones(self.platform, self.publisher, self._now, self.counts)

    async def run(self) -> None:
        """Follows until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_for_ever())
            tasks.create_task(self._end_former_names())
            tasks.create_task(self._restore_unless_loaded())

    @property
    def snapshot_mark(self) -> Hashable | None:
        """Differs after each change of what is served; None before all has been loaded."""
        counts, down = self.counts, self._served.away.down
        return (counts.published, counts.withdrawn, down) if self._is_loaded else None

    def snapshot_contents(self) -> Contents:
        """What is served now, for a snapshot."""
        return Contents(self._served.kept, hosts=Hosts(0, {}, {}, self._served.away.down))

    @property
    def reason(self) -> str:
        """Why the agent does not answer; empty while it does."""
        return self._reason

    @property
    def last_contact(self) -> float | None:
        """When the agent was last connected, in seconds of ``time.monotonic``; None if it never was."""
        return time.monotonic() if self.connected else self._lost_at

    async def _follow_for_ever(self) -> None:
        while True:
            try:
                await self._follow()
            except (OSError, EOFError, FeedBroken) as error:
                self._note_lost(error)
                await asyncio.sleep(RETRY)

    async def _end_former_names(self) -> None:
        while True:
            await asyncio.sleep(FORMER_NAMES_EVERY)
            self._served.end_former_names()
            if Kind.ENVIRONMENTS in self.guard.overdue:
                self._withdraw_held("the time to hold it is over")

    async def _restore_unless_loaded(self) -> None:
        """Serves what the snapshot holds, if the agent does not name all environments soon."""
        await asyncio.sleep(SOON)
        if self._is_loaded:
            return
        snapshot = await self.snapshots.open() if self.snapshots else None
        if snapshot and not self._is_loaded:
            self.publisher.restored(snapshot.confirmed)
            if snapshot.hosts and not self._has_heard_away:
                await self._served.set_away(HostsAway(down=snapshot.hosts.down))
            await restore(snapshot, self._served, self._is_unnamed)
            log.warning(
                "restored_from_snapshot",
                extra={"environments": len(self.revisions), "age_seconds": int(time.time() - snapshot.confirmed)},
            )
        if not self._is_loaded:
            self.publisher.source_away()

    def _is_unnamed(self, id_: EnvironmentId) -> bool:
        """Whether the agent has said nothing of ``id_`` yet, and not that it does not exist."""
        return not self._is_loaded and id_ not in self._heard and self._served.digest(id_) is None

    async def _follow(self) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=_connected(self.path))
        try:
            self._note_connected()
            breaks = Breaks()
            while True:
                if reply := await self._apply(decode_update(await _read_line(reader))):
                    if self.settled:
                        await self.settled(reply.id)
                    writer.write(encode(reply))
                    await writer.drain()
                await breaks.take()
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _note_connected(self) -> None:
        log.info("agent_connected", extra={"socket": str(self.path)})
        self.connected, self._reason = True, ""
        self._named.clear()
        self._newest.clear()
        self._has_heard_away = False

    def _note_lost(self, error: Exception) -> None:
        reason = "it has closed the connection" if isinstance(error, EOFError) else str(error)
        if reason != self._reason:
            log.warning("agent_unavailable", extra={"socket": str(self.path), "reason": reason})
        if self.connected:
            self.counts.lost_connections += 1
            self._lost_at = time.monotonic()
        self.connected, self._reason = False, reason

    async def _apply(self, update: Update) -> Reply | None:
        """Does what ``update`` says, and returns the reply to it, if it takes one."""
        match update:
            case Pending() | Change():
                await self._take_pending(update)
            case Ready(id_, revision):
                return _reply(id_, revision, is_served=self._publish_pending(id_, revision))
            case Serve(id_, revision, read):
                return _reply(id_, revision, is_served=await self._publish_other(id_, read))
            case Withdrawn(id_):
                self._heard.add(id_)
                self._named.discard(id_)
                self._newest.pop(id_, None)
                self._withdraw([id_])
            case Loaded():
                self._withdraw_unnamed()
                if not self._has_heard_away:
                    await self._served.set_away(NONE_AWAY)  # the agent knows of none
                self._load()
            case Clock(ahead):
                self._ahead = ahead / 1000
                self._served.end_former_names()
            case Away(hosts):
                self._has_heard_away = True
                await self._served.set_away(hosts)
                self._announce_again()
            case Confirmed():
                self._withdraw_held("confirmed")
        return None

    async def _take_pending(self, update: Pending | Change) -> None:
        id_ = update.id
        self.counts.changes += 1
        self._named.add(id_)
        self._heard.add(id_)
        self.guard.let_go(Kind.ENVIRONMENTS, id_)
        before = self._newest.pop(id_, None)
        if isinstance(update, Pending):
            pending = await self._compile(update)
        elif before:
            pending = await self._compile_change(update, before)
        else:
            raise FeedBroken(f"the agent sent a change of {id_!r}, of which nothing is known here")
        if pending:  # else it is bad, and what was pending before stays so
            self._newest[id_] = self._pending[id_] = pending
            self.publisher.announce(pending.zone)

    async def _compile(self, update: Pending) -> _PendingZone | None:
        zone = await self._served.compile(update.id, update.document)
        return _PendingZone(zone, document.digest(update.document)) if zone else None

    async def _compile_change(self, update: Change, before: _PendingZone) -> _PendingZone | None:
        served, digest = self._served.zone(update.id), parts.next_digest(before.digest, update.difference)
        is_served = served is not None and served.environment is before.zone.environment
        followed = await self._served.follow(served if served and is_served else before.zone, [update.difference])
        return _PendingZone(followed[0], digest, followed[1] if is_served else None) if followed else None

    def _announce_again(self) -> None:
        """What is pending leaves out the same hosts as what is served: else queries would wait for their instances."""
        for id_, pending in self._pending.items():
            zone = self._served.compile_again(pending.zone)
            self._pending[id_] = replace(pending, zone=zone)
            self.publisher.announce(zone)

    def _publish_pending(self, id_: EnvironmentId, revision: int) -> bool:
        pending = self._pending.get(id_)
        if pending is None or pending.zone.revision != revision:
            return False  # the document that was to become pending was bad
        if not self._publish(pending.zone, pending.digest, pending.touched):
            return False
        del self._pending[id_]
        return True

    async def _publish_other(self, id_: EnvironmentId, read: bytes) -> bool:
        """Publishes a zone while another stays pending."""
        zone = await self._served.compile(id_, read)
        return zone is not None and self._publish(zone, document.digest(read))

    def _publish(self, zone: Zone, digest: str, touched: Touched | None = None) -> bool:
        owner = self._served.owner(zone.environment.network)
        if owner and owner not in self._named:
            # The owner was withdrawn while we were not connected: the agent never has two environments of one network.
            self._withdraw([owner])
        return self._served.publish(zone, digest, touched)

    def _withdraw_unnamed(self) -> None:
        served, unnamed = set(self._served.environments), {*self._served.environments, *self._pending} - self._named
        held = unnamed_to_hold(self.guard.policy, len(served), unnamed & served)
        self._withdraw(unnamed - held)
        self.guard.hold(Kind.ENVIRONMENTS, held, "the agent does not name environments any more that it named before")

    def _withdraw_held(self, why: str) -> None:
        held = [EnvironmentId(name) for one in self.guard.held for name in one.names]
        self.guard.release(Kind.ENVIRONMENTS, why)
        self._withdraw(held)

    def _withdraw(self, ids: Iterable[EnvironmentId]) -> None:
        for id_ in ids:
            self.guard.let_go(Kind.ENVIRONMENTS, id_)
            was_pending = self._pending.pop(id_, None)
            if not self._served.withdraw(id_) and was_pending:
                self.publisher.withdraw(id_)

    def _now(self) -> float:
        return self.wall_clock() - self._ahead

    def _load(self) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            self.publisher.loaded()
            log.info("loaded", extra={"environments": len(self.revisions)})


def _reply(id_: EnvironmentId, revision: int, *, is_served: bool) -> Reply:
    return Served(id_, revision) if is_served else Refused(id_, revision)


def _connected(path: Path) -> socket.socket:
    """A socket that is connected to the agent's. It has an address that says what this resolver understands."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # then it is sent everything whole
            sock.bind(own_address())
        sock.connect(str(path))  # of a unix socket: it succeeds at once, or fails
    except BaseException:
        sock.close()
        raise
    return sock


async def _read_line(reader: StreamReader) -> bytes:
    """The next line, however long: a document is as large as its environment. Raises ``EOFError``."""
    parts = []
    while True:
        try:
            parts.append(await reader.readuntil(b"\n"))
        except LimitOverrunError as error:
            parts.append(await reader.readexactly(error.consumed))
        except IncompleteReadError:
            raise EOFError from None
        else:
            return b"".join(parts)
