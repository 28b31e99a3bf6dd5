"""What the control plane has said in a session, put together; `watcher.session.follower` judges and publishes it.

Putting a message in takes no time, and a later one of the same environment takes the place of an earlier one. So the
messages never wait for a host that is busy, and what waits is never more than what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from store.index import IndexEntry
from watcher.session.errors import SessionBroken
from watcher.session.protocol import (
    Confirmed,
    EnvironmentChanged,
    EnvironmentGone,
    EnvironmentIs,
    EnvironmentUnreadable,
    Examine,
    Held,
    HostGone,
    HostIs,
    HostsAre,
    HostUnreadable,
    Loaded,
    Stale,
    Update,
    Watch,
)
from zones import document
from zones.hosts import Host, Hosts
from zones.model import Environment
from zones.names import EnvironmentId

MOST_DIFFERENCES = 5_000  # of one environment, that wait because it is bad or the host is busy: then it comes whole


@dataclass(frozen=True, slots=True)
class Named:
    """The newest revision of an environment that the control plane has named."""

    revision: int
    """The revision."""
    digest: str
    """Its digest."""
    whole: bytes | Environment
    """An earlier revision, or this one: as `zones.document` encodes it, or itself where it is published."""
    differences: tuple[tuple[str, bytes], ...] = ()
    """What was said of it since, in order, as `zones.parts` encodes it; each with the digest of what it follows."""

    @property
    def document(self) -> bytes:
        """``whole``, as `zones.document` encodes it."""
        return self.whole if isinstance(self.whole, bytes) else document.encode(self.whole)

    @property
    def written(self) -> list[bytes]:
        """All ``differences``, without the digests."""
        return [one for _, one in self.differences]

    def since(self, digest: str | None) -> list[bytes] | None:
        """The differences that follow the revision with this ``digest``; None where there is no such revision."""
        for at, (before, _) in enumerate(self.differences):
            if before == digest:
                return [one for _, one in self.differences[at:]]
        return None

    def changed(self, update: EnvironmentChanged) -> Named:
        """What is named once ``update`` was said."""
        further = (*self.differences, (self.digest, bytes(update.difference)))
        return Named(update.revision, update.digest, self.whole, further)


@dataclass(slots=True)
class SessionView:
    """The newest of everything that was said."""

    connected: bool = False
    """Whether there is a session."""
    sessions: int = 0
    """How many sessions have begun."""
    lost: int = 0
    """How many sessions have ended."""
    is_loaded: bool = False
    """Whether everything has been named in this session."""
    epoch: str | None = None
    """The data set that the store holds; None before `is_loaded`, and for an empty one."""
    stale_since: float | None = None
    """Since when, in Unix seconds, the store does not answer the control plane; None while it answers."""
    environments: dict[EnvironmentId, Named] = field(default_factory=dict)
    """The environments that were named in this session."""
    unreadable: dict[EnvironmentId, str] = field(default_factory=dict)
    """Those whose newest document cannot be used, and why."""
    held: tuple[str, ...] = ()
    """What the control plane holds on to though it has vanished from the store, a sentence each."""
    is_confirmed: bool = False
    """Whether somebody has confirmed that what has vanished is deleted; the follower takes it back."""
    changed: dict[EnvironmentId, None] = field(default_factory=dict)
    """The environments of which something was said; the follower takes them out."""
    hosts: dict[str, Host] = field(default_factory=dict)
    """The hosts that were named in this session."""
    down: set[str] = field(default_factory=set)
    """Those of them that are down."""
    unreadable_hosts: dict[str, str] = field(default_factory=dict)
    """The hosts whose documents cannot be read, and why."""
    hosts_revision: int = 0
    """The revision up to which all changes of hosts have been named."""
    have_hosts_changed: bool = False
    """Whether something was said of hosts; the follower takes it back."""
    on_examine: Callable[[Examine], None] = lambda _: None
    """Is called where the control plane asks for facts about this host."""
    watch: Watch = field(default_factory=Watch)
    """Which look-ups the control plane asks for in this session."""
    on_watch: Callable[[Watch], None] = lambda _: None
    """Is called where that changes."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    # What the agent's connection calls

    def begin(self) -> None:
        """A session has begun: everything will be named again."""
        for forgotten in (self.environments, self.unreadable, self.changed, self.hosts, self.unreadable_hosts):
            forgotten.clear()
        self.down.clear()
        self.connected, self.sessions, self.is_loaded = True, self.sessions + 1, False
        self.epoch, self.stale_since, self.held, self.is_confirmed = None, None, (), False

    def end(self) -> None:
        """The session has ended. What was said in it stays as it is."""
        self.connected = False
        self.lost += 1
        self._take_watch(Watch())
        self.wake()

    def take(self, update: Update) -> None:
        """The control plane has said ``update``."""
        match update:
            case EnvironmentIs() | EnvironmentChanged() | EnvironmentUnreadable() | EnvironmentGone():
                self._take_environment(update)
            case HostIs() | HostGone() | HostUnreadable() | HostsAre():
                self._take_hosts(update)
                self.have_hosts_changed = True
            case Loaded(epoch):
                self.epoch, self.is_loaded = epoch, True
            case Held(texts):
                self.held = texts
            case Stale(since):
                self.stale_since = since
            case Confirmed():
                self.is_confirmed = True
            case Examine():
                self.on_examine(update)
                return
            case Watch():
                self._take_watch(update)
                return
        self.wake()

    def _take_watch(self, watch: Watch) -> None:
        self.watch = watch
        self.on_watch(watch)

    def _take_environment(
        self, update: EnvironmentIs | EnvironmentChanged | EnvironmentUnreadable | EnvironmentGone
    ) -> None:
        self.changed[update.id] = None
        if isinstance(update, EnvironmentUnreadable):
            self.unreadable[update.id] = update.reason
            return
        self.unreadable.pop(update.id, None)
        if isinstance(update, EnvironmentIs):
            read = bytes(update.document)
            self.environments[update.id] = Named(update.revision, update.digest or document.digest(read), read)
        elif isinstance(update, EnvironmentChanged):
            named = self.environments.get(update.id)
            if named is None or named.revision != update.before or len(named.differences) >= MOST_DIFFERENCES:
                known = f"revision {named.revision}" if named else "none"
                raise SessionBroken(
                    f"a change of revision {update.before} of {update.id!r} cannot be taken: {known} is known, and"
                    f" {len(named.differences) if named else 0} changes of it wait"
                )
            self.environments[update.id] = named.changed(update)
        else:
            self.environments.pop(update.id, None)

    def _take_hosts(self, update: HostIs | HostGone | HostUnreadable | HostsAre) -> None:
        match update:
            case HostIs(host, is_down):
                self.unreadable_hosts.pop(host.id, None)
                self.hosts[host.id] = host
                (self.down.add if is_down else self.down.discard)(host.id)
            case HostGone(id_):
                self.unreadable_hosts.pop(id_, None)
                self.hosts.pop(id_, None)
                self.down.discard(id_)
            case HostUnreadable(id_, reason):
                self.unreadable_hosts[id_] = reason
            case HostsAre(revision):
                self.hosts_revision = revision

    # What the follower reads

    def note_published(self, named: Named, environment: Environment) -> None:
        """``named`` is published as ``environment``, which later differences are to be applied to."""
        if self.environments.get(environment.id) is named:
            self.environments[environment.id] = Named(named.revision, named.digest, environment)

    async def wait(self) -> None:
        """Returns when something was said since it was called last."""
        await self._wake.wait()
        self._wake.clear()

    def wake(self) -> None:
        """Makes the follower look, though nothing was said."""
        self._wake.set()

    @property
    def named(self) -> set[EnvironmentId]:
        """All environments that exist here, as far as this session has said."""
        return {*self.environments, *self.unreadable}

    @property
    def index(self) -> Mapping[EnvironmentId, IndexEntry]:
        """The same as an index, for the guard."""
        return {id_: IndexEntry(one.revision, one.digest, None) for id_, one in self.environments.items()}

    @property
    def all_hosts(self) -> Hosts:
        """The hosts that were named, as of one moment."""
        return Hosts(self.hosts_revision, dict(self.hosts), dict(self.unreadable_hosts), frozenset(self.down))
