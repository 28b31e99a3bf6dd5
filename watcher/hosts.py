"""From the store to the mesh and to the zones: all hosts, as often as one of them may have changed.

Who has no use for their documents, as a resolver without a mesh, still learns which hosts are down: their instances are
not answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace

from store.errors import Refused, WrongKey
from store.store import Store
from watcher.guard import Guard, Kind, hosts_to_hold
from zones.hosts import Hosts

HOSTS = "the list of hosts"
HOSTS_DOWN = "the list of the hosts that are down"


@dataclass(slots=True)
class HostReader:
    """Reads all hosts, and tells of each change."""

    store: Store
    """Where they are read."""
    guard: Guard
    """Holds back what vanishes without a word, or too much at once."""
    on_hosts: Callable[[Hosts], None] | None
    """Is called with all hosts; None: their documents are not read."""
    on_down: Callable[[frozenset[str]], Awaitable[None]]
    """Is called with those that are down, after ``on_hosts``."""
    hosts: Hosts | None = None
    """As ``on_hosts`` was given them last; without that, none but those that are down."""
    last_good: Hosts | None = None
    """Those of before this start, for a document that cannot be read; None where nobody knows."""

    async def restore(self, hosts: Hosts | None) -> None:
        """Tells of ``hosts``, which are those of a snapshot."""
        if hosts:
            await self._tell(hosts)

    async def read(self, *, forgotten: Collection[str] = (), opened: frozenset[Kind] = frozenset()) -> bool:
        """Reads all hosts and tells of them if they have changed; returns whether they have.

        ``forgotten`` are hosts of which a change was announced. Nothing of the kinds in ``opened`` is held back. The
        first read is no change.
        """
        before = self.hosts
        if self.on_hosts is None:
            await self._tell(Hosts(0, {}, {}, await self._down()))
            return before is not None and before != self.hosts
        try:
            hosts = with_last_good(await self.store.hosts.read(), before or self.last_good)
        except WrongKey as error:
            hosts = self._known(error)
        else:
            self.guard.note_unreadable(HOSTS)
        if before and Kind.HOSTS not in opened:
            held = hosts_to_hold(self.guard.policy, before, hosts, forgotten)
            self.guard.hold(Kind.HOSTS, held, "hosts have vanished from the store, and stay in the mesh")
            if held:
                return False
        if hosts == before:
            return False
        await self._tell(hosts)
        return before is not None

    async def _tell(self, hosts: Hosts) -> None:
        self.hosts = hosts
        if self.on_hosts:
            self.on_hosts(hosts)
        await self.on_down(hosts.down)

    async def _down(self) -> frozenset[str]:
        """The hosts that are down; as they were known last where this cannot be read, for that stops no answer."""
        try:
            down = await self.store.hosts.down()
        except Refused as error:  # a user of the server that an earlier release asked for may not read it
            self.guard.note_unreadable(HOSTS_DOWN, str(error))
            return self.hosts.down if self.hosts else frozenset()
        self.guard.note_unreadable(HOSTS_DOWN)
        return down

    def _known(self, error: WrongKey) -> Hosts:
        """The hosts that were known last, for those in the store cannot be read. Raises ``error`` if none are."""
        known = self.hosts or self.last_good
        if known is None:
            raise error
        self.guard.note_unreadable(HOSTS, str(error))
        return known


def with_last_good(hosts: Hosts, before: Hosts | None) -> Hosts:
    """``hosts``, and of each whose document cannot be read, as one of a newer release, what it was ``before``."""
    kept = {id_: before.hosts[id_] for id_ in hosts.unreadable if id_ in before.hosts} if before else {}
    return replace(hosts, hosts={**hosts.hosts, **kept}) if kept else hosts
