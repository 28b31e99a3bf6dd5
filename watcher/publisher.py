"""From documents to the zones that are served: what is common to all who learn them, wherever they hear of them.

    compile(id, document)  ->  Zone     decoded, checked, compiled; a large one in a thread, for queries go on meanwhile
    publish(zone)                       what was served for its environment is replaced

What is bad is quarantined: its environment keeps the last good zone, and all others go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import Protocol

from support.clock import unix_milliseconds
from zones import document
from zones.addresses import Platform
from zones.errors import ZonesError
from zones.model import Environment
from zones.names import EnvironmentId
from zones.zone import Zone, compile_zone

LARGE_DOCUMENT = 65_536  # octets; a larger one is read in a thread, for queries should not wait for it
SLICE = 0.005  # seconds of work at a time, then queries have their turn

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """Who is told what is learnt. Called from the event loop; each call is one whole environment."""

    def announce(self, zone: Zone) -> None:
        """``zone`` will be published as soon as there is a way to all that is in it; nothing of it is true before.

        Whoever follows a host's agent (`watcher.feed.follower`) says so, in order that nobody is told "no such name" of
        one that is about to be. The `Watcher` never does: what it learns, it publishes at once.
        """

    def publish(self, zone: Zone) -> None:
        """``zone`` replaces what was served for its environment."""

    def withdraw(self, environment: EnvironmentId) -> None:
        """``environment`` no longer exists, or has no member where there is an interest."""

    def loaded(self) -> None:
        """All that there is has been published; from now on, what is not known does not exist."""


@dataclass(slots=True)
class Counts:
    """What has happened since the start, for metrics."""

    changes: int = 0
    published: int = 0
    withdrawn: int = 0
    gaps: int = 0
    compared: int = 0
    repaired: int = 0
    lost_connections: int = 0


@dataclass(frozen=True, slots=True)
class _Served:
    digest: str
    zone: Zone


@dataclass(slots=True)
class Published:
    """What ``publisher`` serves now, by environment, each known by the digest of its document.

    ``quarantined`` says of each environment whose newest document is bad what is wrong with it.
    """

    platform: Platform
    publisher: Publisher
    wall_clock: Callable[[], float] = time.time
    counts: Counts = field(default_factory=Counts)
    quarantined: dict[EnvironmentId, str] = field(default_factory=dict)
    _served: dict[EnvironmentId, _Served] = field(default_factory=dict)
    _owners: dict[IPv6Network, EnvironmentId] = field(default_factory=dict)
    _ending: dict[EnvironmentId, int] = field(default_factory=dict)

    @property
    def environments(self) -> Iterable[EnvironmentId]:
        """Those that are served."""
        return self._served.keys()

    @property
    def revisions(self) -> dict[EnvironmentId, int]:
        """The revision that is served of each environment."""
        return {id_: served.zone.revision for id_, served in self._served.items()}

    def digest(self, id_: EnvironmentId) -> str | None:
        """The digest of the document that is served for ``id_``."""
        served = self._served.get(id_)
        return served.digest if served else None

    def owner(self, network: IPv6Network) -> EnvironmentId | None:
        """The environment that is served in ``network``."""
        return self._owners.get(network)

    def keep(self, id_: EnvironmentId, digest: str) -> bool:
        """Whether the document of ``digest`` is served for ``id_`` already; then all is well with it, and it stays."""
        if self.digest(id_) != digest:
            return False
        self.quarantined.pop(id_, None)
        return True

    async def compile(self, id_: EnvironmentId, read: bytes) -> Zone | None:
        """The zone of the document ``read``, which is to be ``id_``'s; None if it is bad, and quarantined."""

        def build() -> Zone:
            environment = document.decode(read)
            _check_identity(id_, environment)
            return compile_zone(self.platform, environment, self._now())

        try:
            return await asyncio.to_thread(build) if len(read) > LARGE_DOCUMENT else build()
        except ZonesError as error:
            self.quarantine(id_, str(error))
            return None

    def publish(self, zone: Zone, digest: str) -> bool:
        """Has ``zone``, made from the document of ``digest``, be served; False if it must not, and is quarantined."""
        network = zone.environment.network
        # The store sees to it too, but a document can come another way, and would take over another's clients.
        if (owner := self._owners.get(network, zone.id)) != zone.id:
            self.quarantine(zone.id, f"the network {network} belongs to {owner!r}")
            return False
        self.quarantined.pop(zone.id, None)
        self._serve(zone, digest)
        return True

    def quarantine(self, id_: EnvironmentId, reason: str) -> None:
        """Notes that the newest document of ``id_`` is bad; what is served for it stays."""
        if self.quarantined.get(id_) != reason:
            log.error("document_quarantined", extra={"environment": id_, "reason": reason})
        self.quarantined[id_] = reason

    def withdraw(self, id_: EnvironmentId) -> bool:
        """Has ``id_`` be served no longer; gives whether it was."""
        self.quarantined.pop(id_, None)
        if not self._forget(id_):
            return False
        self.publisher.withdraw(id_)
        self.counts.withdrawn += 1
        return True

    def end_former_names(self) -> None:
        """Compiles anew what has former names whose time is over."""
        now = self._now()
        for id_ in [id_ for id_, end in self._ending.items() if end <= now]:
            served = self._served[id_]
            self._serve(compile_zone(self.platform, served.zone.environment, now), served.digest)

    def _serve(self, zone: Zone, digest: str) -> None:
        self._forget(zone.id)
        self._owners[zone.environment.network] = zone.id
        self._served[zone.id] = _Served(digest, zone)
        if zone.valid_until is not None:
            self._ending[zone.id] = zone.valid_until
        self.publisher.publish(zone)
        self.counts.published += 1

    def _forget(self, id_: EnvironmentId) -> bool:
        """Whether it was served."""
        self._ending.pop(id_, None)
        served = self._served.pop(id_, None)
        if served:
            del self._owners[served.zone.environment.network]
        return served is not None

    def _now(self) -> int:
        return unix_milliseconds(self.wall_clock)


def _check_identity(id_: EnvironmentId, environment: Environment) -> None:
    if environment.id != id_:
        raise ZonesError(f"the document of {id_!r} says that it is {environment.id!r}'s", field="id")
