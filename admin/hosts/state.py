"""What the control plane knows and all sessions are sent from: environments, hosts, and how sure that is.

The watcher of this process publishes to it. Each change only marks it at the sessions that it concerns; `updates` makes
the messages of a session when that can take more.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from admin.hosts.known import KnownEnvironment
from admin.hosts.propagation import Propagation
from watcher.session.protocol import HostIs, HostUnreadable, encode
from zones.hosts import Hosts
from zones.names import EnvironmentId
from zones.zone import Zone

K = TypeVar("K", bound=str)


class Listener(Protocol):
    """A session, or whoever else is to hear that something has changed."""

    def mark_environment(self, id_: EnvironmentId) -> None:
        """The environment ``id_`` has changed, and has or had a member on the host of the session."""

    def mark_hosts(self, hosts: Collection[str]) -> None:
        """The documents of ``hosts`` have changed, or the revision of all hosts."""

    def mark_confirmed(self) -> None:
        """Somebody has confirmed that what has vanished is deleted."""

    def wake(self) -> None:
        """Something else has changed: what is held, how old it all is, or that all is loaded."""


@dataclass(slots=True)
class PlatformState:
    """What the control plane knows. It is the `watcher.publisher.Publisher` of a watcher of all environments."""

    environments: dict[EnvironmentId, KnownEnvironment] = field(default_factory=dict)
    """All environments."""
    hosts: Hosts = field(default_factory=lambda: Hosts(0, {}, {}))
    """All hosts."""
    is_loaded: bool = False
    """Whether all that exists is known, be it from a snapshot."""
    epoch_now: Callable[[], str | None] = lambda: None
    """Gives the epoch of the data set that all of it is of."""
    has_confirmed: bool = False
    """Whether somebody has confirmed, since this control plane follows the store, that what has vanished is deleted.

    Hosts that come back later are told it too. From then on this control plane itself holds on to what vanishes."""
    held: tuple[str, ...] = ()
    """What is held on to though it has vanished from the store, for people."""
    stale_since: float | None = None
    """Since when the store has not answered, in Unix seconds; None while it answers."""
    quarantined: Mapping[EnvironmentId, str] = field(default_factory=dict)
    """What is wrong with the newest document, of each environment whose newest document is bad."""
    propagation: Propagation = field(default_factory=Propagation)
    """How long commits take to reach hosts."""
    _noted_epoch: str | None = None
    _restored: float | None = None  # the Unix time of the snapshot, while all that is known is from one
    _by_host: defaultdict[str, set[EnvironmentId]] = field(default_factory=lambda: defaultdict(set))
    _host_messages: dict[str, tuple[HostIs, bytes]] = field(default_factory=dict)
    _listeners: defaultdict[str, set[Listener]] = field(default_factory=lambda: defaultdict(set))

    def environments_on(self, host: str) -> Collection[EnvironmentId]:
        """The environments that have a member on ``host``."""
        return self._by_host.get(host, ())

    def members(self, id_: str) -> frozenset[str]:
        """The hosts that have a member of the environment ``id_``."""
        known = self.environments.get(EnvironmentId(id_))
        return known.members if known else frozenset()

    def revision(self, id_: str) -> int:
        """The revision of the environment ``id_`` that is known; 0 for none."""
        known = self.environments.get(EnvironmentId(id_))
        return known.environment.revision if known else 0

    def host_message(self, id_: str) -> bytes:
        """The message about the host ``id_``, made once; empty where there is no document of it that can be read."""
        host = self.hosts.hosts.get(id_)
        if host is None:
            self._host_messages.pop(id_, None)
            return b""
        message, made = HostIs(host, id_ in self.hosts.down), self._host_messages.get(id_)
        if made is None or made[0] != message:
            made = self._host_messages[id_] = (message, encode(message))
        return made[1]

    def unreadable_message(self, id_: str) -> bytes:
        """The message that the document of the host ``id_`` cannot be read; empty if it can."""
        reason = self.hosts.unreadable.get(id_)
        return encode(HostUnreadable(id_, reason)) if reason else b""

    def add(self, host: str, listener: Listener) -> None:
        """From now on ``listener`` hears of what concerns ``host``."""
        self._listeners[host].add(listener)

    def remove(self, host: str, listener: Listener) -> None:
        """``listener`` hears of nothing any more."""
        self._listeners[host].discard(listener)
        if not self._listeners[host]:
            del self._listeners[host]

    # What the watcher calls

    def announce(self, zone: Zone) -> None:
        """Does nothing: who follows the store publishes at once."""

    def publish(self, zone: Zone) -> None:
        """``zone`` replaces what was known of its environment."""
        known = self.environments.get(zone.id)
        if known and known.environment is zone.environment:
            return  # compiled again from the same document, because of a host or of the time
        before = self.members(zone.id)
        now = known.followed_by(zone.environment) if known else KnownEnvironment.of(zone.environment)
        self.environments[zone.id] = now
        self._note_members(zone.id, before, now.members)
        if known:
            with_session = now.members & self._listeners.keys()
            self.propagation.published(zone.id, zone.revision, with_session, time.monotonic())

    def withdraw(self, environment: EnvironmentId) -> None:
        """``environment`` was deleted."""
        before = self.members(environment)
        self.environments.pop(environment, None)
        self.propagation.forget(environment)
        self._note_members(environment, before, frozenset())

    def restored(self, as_of: float) -> None:
        """What is published from now on is from a snapshot of the Unix time ``as_of``."""
        self._restored = as_of

    def source_away(self) -> None:
        """The store does not answer. All that a snapshot holds, if there is one, is known."""
        if self._restored is not None:
            self.is_loaded = True
            self.note_store(is_answering=False, held=self.held)
            self._wake_all()

    def loaded(self) -> None:
        """All that exists is known."""
        self.is_loaded, self._restored = True, None
        self._wake_all()

    def take_hosts(self, hosts: Hosts) -> None:
        """``hosts`` are all hosts from now on."""
        before, self.hosts = self.hosts, hosts
        changed = _different(before.hosts, hosts.hosts) | _different(before.unreadable, hosts.unreadable)
        changed |= before.down ^ hosts.down
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.mark_hosts(changed)

    def confirmed(self) -> None:
        """Somebody has confirmed that what has vanished is deleted."""
        self.has_confirmed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.mark_confirmed()

    # What the process looks at from time to time

    def note_store(self, *, is_answering: bool, held: tuple[str, ...] = ()) -> None:
        """Takes in whether the store answers, and what is held; and looks at the epoch."""
        stale_since = self.stale_since
        if is_answering:
            stale_since = None
        elif stale_since is None:
            stale_since = time.time() if self._restored is None else self._restored
        noted = (stale_since, held, self.epoch_now())
        if noted != (self.stale_since, self.held, self._noted_epoch):
            self.stale_since, self.held, self._noted_epoch = noted
            self._wake_all()

    def note_quarantined(self, reasons: Mapping[EnvironmentId, str]) -> None:
        """Takes in what is wrong with the newest document of each environment whose newest document is bad."""
        changed = _different(self.quarantined, reasons)
        self.quarantined = dict(reasons)
        for id_ in changed:
            for host in self.members(id_):
                for listener in self._listeners.get(host, ()):
                    listener.mark_environment(id_)

    def _note_members(self, id_: EnvironmentId, before: frozenset[str], after: frozenset[str]) -> None:
        for host in before - after:
            self._by_host[host].discard(id_)
            if not self._by_host[host]:
                del self._by_host[host]
        for host in after - before:
            self._by_host[host].add(id_)
        for host in before | after:
            for listener in self._listeners.get(host, ()):
                listener.mark_environment(id_)

    def _wake_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.wake()


def _different(before: Mapping[K, object], after: Mapping[K, object]) -> set[K]:
    return {id_ for id_ in before.keys() | after.keys() if before.get(id_) != after.get(id_)}
