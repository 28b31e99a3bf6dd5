"""What the control plane has said in a session, put together; `watcher.session.follower` judges and publishes it.

Putting a message in takes no time, and a later one of the same environment takes the place of an earlier one. So the
messages never wait for a host that is busy, and what waits is never more than what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from store.index import IndexEntry
from watcher.session.protocol import (
    Confirmed,
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
from zones.names import EnvironmentId


@dataclass(frozen=True, slots=True)
class Named:
    """The newest document of an environment that the control plane has named."""

    revision: int
    """Its revision."""
    digest: str
    """Its digest."""
    document: bytes
    """The environment, as `zones.document` encodes it."""


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
            case EnvironmentIs() | EnvironmentUnreadable() | EnvironmentGone():
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

    def _take_environment(self, update: EnvironmentIs | EnvironmentUnreadable | EnvironmentGone) -> None:
        self.changed[update.id] = None
        if isinstance(update, EnvironmentUnreadable):
            self.unreadable[update.id] = update.reason
            return
        self.unreadable.pop(update.id, None)
        if isinstance(update, EnvironmentIs):
            read = bytes(update.document)
            self.environments[update.id] = Named(update.revision, document.digest(read), read)
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
