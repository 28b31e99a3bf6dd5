"""The control plane's end of the mesh as parts of a process: the agents of hosts, served from what a watcher learns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from admin.counts import ApiCounts
from admin.hosts.errors import BadAuthority
from admin.hosts.service import HostsService
from interlock.errors import PartFailed
from interlock.process.supervise import Part
from interlock.settings.table import Settings
from store.store import Store
from support.listening import ListenError
from watcher.guard import REMEDY, Guard
from watcher.publisher import Publisher
from watcher.watcher import Watcher
from zones.addresses import Platform
from zones.names import EnvironmentId
from zones.zone import Zone

SHOWN = 5  # environments or hosts that a text names
NOTE_EVERY = 0.5  # seconds between two looks at the watcher: whether the store answers, and what is held


@dataclass(slots=True)
class HostsParts:
    """The service for agents, and what keeps it informed."""

    service: HostsService
    """Serves the agents."""

    @classmethod
    def of(cls, settings: Settings, store: Store, counts: ApiCounts) -> HostsParts:
        """The service that ``settings`` describe."""
        service = HostsService(
            store, settings.hosts_listen, commits=counts, quota=settings.default_quota, grace=settings.host_grace
        )
        return cls(service)

    def watch(self, platform: Platform, guard: Guard, publisher: Publisher | None = None) -> Watcher:
        """A watcher that tells the service all that it learns, and before that ``publisher``, if one is given."""
        service = self.service
        service.state.epoch_now = lambda: guard.epoch
        return Watcher(
            service.store,
            platform,
            Tee((publisher, service.state)) if publisher else service.state,
            on_hosts=service.state.take_hosts,
            on_named=service.sessions.name,
            on_confirmed=service.state.confirmed,
            guard=guard,
        )

    def parts(self, watcher: Watcher) -> tuple[Part, ...]:
        """The parts of the process; ``watcher`` is the one that is followed."""

        async def note(ready: Callable[[], None]) -> None:
            ready()
            while True:
                self._note(watcher)
                await asyncio.sleep(NOTE_EVERY)

        return Part("hosts", self._serve), Part("hosts_state", note)

    def _note(self, watcher: Watcher) -> None:
        state = self.service.state
        # Without the time for which it is held, which is another one at every look.
        held = tuple(
            f"{one.reason} ({', '.join(one.names[:SHOWN])}), and is held: {REMEDY}" for one in watcher.guard.held
        )
        state.note_store(is_answering=watcher.connected, held=held)
        state.note_quarantined(watcher.quarantined)

    async def _serve(self, ready: Callable[[], None]) -> None:
        try:
            await self.service.run(ready)
        except (ListenError, BadAuthority) as error:
            raise PartFailed(str(error)) from error


def watcher_part(watcher: Watcher) -> Part:
    """``watcher`` as a part. It is ready at once: while the store is away, it keeps asking for it by itself."""

    async def run(ready: Callable[[], None]) -> None:
        ready()
        await watcher.run()

    return Part("watcher", run)


@dataclass(frozen=True, slots=True)
class Tee:
    """A publisher that passes everything on to several."""

    publishers: tuple[Publisher, ...]
    """The publishers, in the order in which each learns of a change."""

    def announce(self, zone: Zone) -> None:
        self._each(lambda one: one.announce(zone))

    def publish(self, zone: Zone) -> None:
        self._each(lambda one: one.publish(zone))

    def withdraw(self, environment: EnvironmentId) -> None:
        self._each(lambda one: one.withdraw(environment))

    def restored(self, as_of: float) -> None:
        self._each(lambda one: one.restored(as_of))

    def source_away(self) -> None:
        self._each(lambda one: one.source_away())

    def loaded(self) -> None:
        self._each(lambda one: one.loaded())

    def _each(self, call: Callable[[Publisher], None]) -> None:
        for publisher in self.publishers:
            call(publisher)
