"""The updates of one session: which messages bring its host from what it was sent last to what is known now.

A change only marks an environment or a host. The messages are made when the session can take more, out of the
difference between what was sent and what is known then. So a slow session gets the newest revision, never a backlog:
however many commits are made while it is busy, they cost one mark for each environment.

A host is sent before the first environment that needs it, and taken back after the last one. No I/O happens here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from admin.hosts.known import KnownEnvironment
from admin.hosts.state import PlatformState
from watcher.session.protocol import (
    Confirmed,
    EnvironmentGone,
    EnvironmentUnreadable,
    Held,
    HostGone,
    HostsAre,
    Loaded,
    Stale,
    encode,
)
from zones.names import EnvironmentId


@dataclass(eq=False, slots=True)
class HostUpdates:
    """What ``host`` is to be sent from ``state``. It is a `Listener` of it."""

    host: str
    """The host of the session."""
    state: PlatformState
    """What is known."""
    takes_differences: bool = False
    """Whether the agent understands `EnvironmentChanged`."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there may be something to send."""
    _environments: dict[EnvironmentId, None] = field(default_factory=dict)  # marked, in the order of their marks
    _hosts: dict[str, None] = field(default_factory=dict)  # marked
    _sent: dict[EnvironmentId, KnownEnvironment] = field(default_factory=dict)
    _complaints: dict[EnvironmentId, str] = field(default_factory=dict)
    _had: set[EnvironmentId] = field(default_factory=set)
    _sent_hosts: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)  # the message of each, and its complaint
    _needed: Counter[str] = field(default_factory=Counter)  # hosts, by the number of sent environments that need them
    _sent_revision: int | None = None  # of all hosts
    _sent_epoch: tuple[str | None] | None = None
    _sent_held: tuple[str, ...] = ()
    _sent_stale: float | None = None
    _has_confirmed: bool = False

    def __post_init__(self) -> None:
        self._needed[self.host] = 1
        self._hosts[self.host] = None
        self._environments = dict.fromkeys(sorted(self.state.environments_on(self.host)))
        self._has_confirmed = self.state.has_confirmed  # which the host may have missed
        self.woken.set()

    def had(self, id_: str) -> bool:
        """Whether the host has, or has had, a member of the environment ``id_`` since the session began."""
        return id_ in self._had

    def note(self, id_: EnvironmentId) -> None:
        """Notes that the host has a member of ``id_``, which it has committed."""
        self._had.add(id_)

    @property
    def needed(self) -> frozenset[str]:
        """The hosts that share an environment with this one, itself included."""
        return frozenset(self._needed)

    @property
    def sent(self) -> Collection[EnvironmentId]:
        """The environments that the session has."""
        return self._sent.keys()

    def mark_environment(self, id_: EnvironmentId) -> None:
        """Notes that ``id_`` has changed."""
        self._environments[id_] = None
        self.woken.set()

    def mark_hosts(self, hosts: Collection[str]) -> None:
        """Notes that ``hosts`` have changed, or the revision of all hosts."""
        self._hosts |= dict.fromkeys(host for host in hosts if host in self._needed)
        self.woken.set()

    def mark_confirmed(self) -> None:
        """Notes that the host is to be told of a confirmation, after all that is marked so far."""
        self._has_confirmed = True
        self.woken.set()

    def wake(self) -> None:
        """Notes that something else has changed."""
        self.woken.set()

    def take(self) -> list[bytes]:
        """The next messages, which belong together; empty if the host knows all that it is to know."""
        while self._hosts:
            if messages := self._take_host(self._pop(self._hosts)):
                return messages
        if self._sent_revision != self.state.hosts.revision:
            self._sent_revision = self.state.hosts.revision
            return [encode(HostsAre(self._sent_revision))]
        while self._environments:
            if messages := self._take_environment(EnvironmentId(self._pop(self._environments))):
                return messages
        return self._take_rest()

    def _take_host(self, id_: str) -> list[bytes]:
        if id_ not in self._needed:
            return []
        message, complaint = self.state.host_message(id_), self.state.unreadable_message(id_)
        before = self._sent_hosts.get(id_, (b"", b""))
        self._sent_hosts[id_] = (message, complaint)
        if before[0] and not message and not complaint:
            return [encode(HostGone(id_))]
        return [one for one, other in zip((message, complaint), before, strict=True) if one and one != other]

    def _take_environment(self, id_: EnvironmentId) -> list[bytes]:
        known, before = self.state.environments.get(id_), self._sent.get(id_)
        wanted = known if known and self.host in known.members else None
        if wanted is before:
            return self._take_complaint(id_)
        messages: list[bytes] = []
        for host in (wanted.members if wanted else frozenset()) - (before.members if before else frozenset()):
            self._needed[host] += 1
            if self._needed[host] == 1:
                messages += self._take_host(host)
        if wanted:
            self._sent[id_] = wanted
            self._had.add(id_)
            message = wanted.message_since(before) if before and self.takes_differences else wanted.message
            messages += [message, *self._take_complaint(id_, is_sent_anew=True)]
        else:
            del self._sent[id_]
            self._complaints.pop(id_, None)
            messages.append(encode(EnvironmentGone(id_)))
        for host in (before.members if before else frozenset()) - (wanted.members if wanted else frozenset()):
            self._needed[host] -= 1
            if not self._needed[host]:
                del self._needed[host]
                if any(self._sent_hosts.pop(host, ())):
                    messages.append(encode(HostGone(host)))
        return messages

    def _take_complaint(self, id_: EnvironmentId, *, is_sent_anew: bool = False) -> list[bytes]:
        """That the newest document of ``id_``, which was sent, cannot be used; or its document again, if it can."""
        reason, before = self.state.quarantined.get(id_), self._complaints.pop(id_, None)
        known = self._sent.get(id_)
        if known is None:
            return []
        if reason is None:
            return [known.message] if before and not is_sent_anew else []
        self._complaints[id_] = reason
        return [encode(EnvironmentUnreadable(id_, reason))] if reason != before or is_sent_anew else []

    def _take_rest(self) -> list[bytes]:
        state, messages = self.state, list[bytes]()
        if state.stale_since != self._sent_stale:  # before `Loaded`, for it says how that is to be judged
            self._sent_stale = state.stale_since
            messages.append(encode(Stale(state.stale_since)))
        epoch = state.epoch_now()
        if state.is_loaded and self._sent_epoch != (epoch,):
            self._sent_epoch = (epoch,)
            messages.append(encode(Loaded(epoch)))
        if self._has_confirmed and self._sent_epoch is not None:  # after `Loaded`: what is not named by then may go
            self._has_confirmed = False
            messages.append(encode(Confirmed()))
        if state.held != self._sent_held:
            self._sent_held = state.held
            messages.append(encode(Held(state.held)))
        return messages

    @staticmethod
    def _pop(marked: dict[str, None] | dict[EnvironmentId, None]) -> str:
        first = next(iter(marked))
        del marked[first]  # type: ignore[arg-type]
        return first
