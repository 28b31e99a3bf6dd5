"""From documents to the zones that are served: what the `Watcher` and the feed's `Follower` have in common.

    compile(id, document)  ->  Zone     decodes, checks and compiles; a large document in a thread, as queries go on
    publish(zone)                       replaces the zone that was served for its environment

A bad document is quarantined: its environment keeps the last good zone, and no other environment is affected.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import Protocol

from support.breaks import Breaks
from support.clock import unix_milliseconds
from support.text import shorten
from watcher.census import Census
from watcher.starting import Starting
from zones import document, parts
from zones.addresses import Platform
from zones.errors import ZonesError
from zones.model import Environment
from zones.names import EnvironmentId
from zones.parts import Touched
from zones.placement import NONE_AWAY, HostsAway, is_on_any
from zones.zone import Zone, compile_next, compile_zone

LARGE_DOCUMENT = 65_536  # octets; a larger one is compiled in a thread, so that queries need not wait for it
VERY_LARGE = 30_000  # instances; the ids of fewer are copied within some milliseconds

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """Is given each zone that is learned, one whole environment at a time. It is called in the event loop."""

    def announce(self, zone: Zone) -> None:
        """``zone`` is pending: it is not served yet, and will be published once there are routes to all that is in it.

        The feed's `Follower` calls it, so that no client is told "no such name" about a name that is about to exist.
        The `Watcher` never calls it: it publishes at once what it learns.
        """

    def publish(self, zone: Zone) -> None:
        """``zone`` replaces what was served for its environment."""

    def withdraw(self, environment: EnvironmentId) -> None:
        """``environment`` no longer exists, or has no member any more on the host whose environments are followed."""

    def restored(self, as_of: float) -> None:
        """What is published until `loaded` is from a snapshot, current at the Unix time ``as_of`` (seconds)."""

    def source_away(self) -> None:
        """The source does not answer, or has lost data. All that a snapshot holds, if there is one, is published."""

    def loaded(self) -> None:
        """All environments that exist have been published. From now on, one that is not known does not exist."""


@dataclass(slots=True)
class WatcherCounts:
    """What has happened since the start, for metrics."""

    changes: int = 0
    """Changes that were received."""
    published: int = 0
    """Zones that were published."""
    withdrawn: int = 0
    """Environments that were withdrawn."""
    gaps: int = 0
    """Times that a change did not name the one before it, so that one may have been missed."""
    compared: int = 0
    """Comparisons of the store's index with what is served."""
    repaired: int = 0
    """Differences that a regular comparison has found, and mended."""
    rollbacks: int = 0
    """Times that the store was found to have gone back behind changes that were applied here."""
    stale_reads: int = 0
    """Reads of documents that were older than the change that had announced them."""
    lost_connections: int = 0
    """Times that the connection to the store or the agent was lost."""


@dataclass(frozen=True, slots=True)
class _ServedZone:
    digest: str  # of its document
    zone: Zone


@dataclass(slots=True)
class ServedZones:
    """The zones that ``publisher`` serves now, by environment, and the digest of the document of each."""

    platform: Platform
    """The address plan by which zones are compiled."""
    publisher: Publisher
    """Is given each zone."""
    wall_clock: Callable[[], float] = time.time
    """Seconds since the Unix epoch."""
    counts: WatcherCounts = field(default_factory=WatcherCounts)
    """Shared with the `Watcher` or `Follower`."""
    quarantined: dict[EnvironmentId, str] = field(default_factory=dict)
    """What is wrong with the newest document, of each environment whose newest document is bad."""
    starting: Starting = field(default_factory=Starting)
    """The instances in them that are not ready yet."""
    census: Census = field(default_factory=Census)
    """How many instances there are in them."""
    away: HostsAway = NONE_AWAY
    """The hosts to which there is no path: what is on them is left out of the zones."""
    _served: dict[EnvironmentId, _ServedZone] = field(default_factory=dict)
    _owners: dict[IPv6Network, EnvironmentId] = field(default_factory=dict)  # of the networks that are served
    _renamed: set[EnvironmentId] = field(default_factory=set)  # those with a service that has former names

    @property
    def environments(self) -> KeysView[EnvironmentId]:
        """The environments that are served."""
        return self._served.keys()

    @property
    def kept(self) -> dict[EnvironmentId, tuple[str, Environment]]:
        """The digest of the document, and the environment, of each that is served: what a snapshot keeps."""
        return {id_: (served.digest, served.zone.environment) for id_, served in self._served.items()}

    @property
    def revisions(self) -> dict[EnvironmentId, int]:
        """The revision that is served of each environment."""
        return {id_: served.zone.revision for id_, served in self._served.items()}

    @property
    def digests(self) -> dict[EnvironmentId, tuple[int, str]]:
        """The revision and the digest of the document that is served for each environment."""
        return {id_: (served.zone.revision, served.digest) for id_, served in self._served.items()}

    def zone(self, id_: EnvironmentId) -> Zone | None:
        """The zone that is served for ``id_``; None if none is."""
        served = self._served.get(id_)
        return served.zone if served else None

    def digest(self, id_: EnvironmentId) -> str | None:
        """The digest of the document that is served for ``id_``."""
        served = self._served.get(id_)
        return served.digest if served else None

    def owner(self, network: IPv6Network) -> EnvironmentId | None:
        """The environment that is served in ``network``."""
        return self._owners.get(network)

    def confirm_served(self, id_: EnvironmentId, digest: str) -> bool:
        """Whether the document with ``digest`` is served for ``id_`` already; if so, ends a quarantine of ``id_``."""
        if self.digest(id_) != digest:
            return False
        self.quarantined.pop(id_, None)
        return True

    async def compile(
        self, id_: EnvironmentId, read: bytes, differences: Sequence[bytes] = (), breaks: Breaks | None = None
    ) -> Zone | None:
        """The zone of the document ``read``, which should be ``id_``'s, with ``differences`` to it.

        None if it is bad; then the environment is quarantined. ``breaks`` are those of the work that this is part of.
        """

        def decode() -> Environment:
            environment = parts.apply_differences(document.decode(read), list(map(parts.decode, differences)))
            _check_identity(id_, environment)
            return environment

        def build(environment: Environment) -> Zone:
            return compile_zone(self.platform, environment, self._now(), self.away)

        try:
            if len(read) + sum(map(len, differences)) > LARGE_DOCUMENT:
                return await asyncio.to_thread(lambda: build(decode()))
            environment = decode()
            if breaks:
                await breaks.take()
            return build(environment)
        except ZonesError as error:
            self.quarantine(id_, str(error))
            return None

    async def follow(self, before: Zone, written: Sequence[bytes]) -> tuple[Zone, Touched] | None:
        """The zone that the differences ``written`` make of ``before``, which is served, and what they touch.

        None if they are bad; then the environment is quarantined.
        """

        def build() -> Zone:
            environment = parts.apply_differences(before.environment, differences)
            return compile_next(before, environment, touched, self._now())

        try:
            differences = [parts.decode(each) for each in written]
            touched = Touched.by(differences)
            is_large = sum(map(len, written)) > LARGE_DOCUMENT or _is_very_large(before.environment, touched)
            return (await asyncio.to_thread(build) if is_large else build()), touched
        except ZonesError as error:
            self.quarantine(before.id, str(error))
            return None

    def compile_again(self, zone: Zone) -> Zone:
        """``zone`` as it is now: former names may have ended, and hosts gone or come back, since it was compiled."""
        return compile_zone(self.platform, zone.environment, self._now(), self.away)

    def publish(self, zone: Zone, digest: str, touched: Touched | None = None) -> bool:
        """Publishes ``zone``, made from the document with ``digest``.

        It differs from the one that is served in what is ``touched`` alone; None: nobody knows. If its network is that
        of another environment, quarantines it and returns False.
        """
        network = zone.environment.network
        # The store's script refuses this too. But a document can get into the store without the script, and the
        # environment would then be answered to the other environment's clients.
        if (owner := self._owners.get(network, zone.id)) != zone.id:
            self.quarantine(zone.id, f"the network {network} belongs to {owner!r}")
            return False
        self.quarantined.pop(zone.id, None)
        if zone.away is not self.away:  # that has changed since the zone was compiled
            zone = self.compile_again(zone)
        self._serve(zone, digest, touched)
        return True

    async def set_away(self, away: HostsAway) -> None:
        """From now on the hosts in ``away`` are those without a path; publishes each zone again that this changes."""
        changed = away.difference(self.away)
        if not changed:
            return
        self.away = away
        breaks = Breaks()
        for id_ in list(self._served):
            served = self._served.get(id_)
            if served and served.zone.away is not self.away and is_on_any(served.zone.environment, changed):
                self._serve(self.compile_again(served.zone), served.digest)
            await breaks.take()

    def quarantine(self, id_: EnvironmentId, reason: str) -> None:
        """Notes that the newest document of ``id_`` is bad; the zone that is served for it stays."""
        if self.quarantined.get(id_) != reason:
            log.error("document_quarantined", extra={"environment": shorten(id_), "reason": reason})
        self.quarantined[id_] = reason

    def withdraw(self, id_: EnvironmentId) -> bool:
        """Ends the serving of ``id_``; returns whether it was served."""
        self.quarantined.pop(id_, None)
        if not self._forget(id_):
            return False
        self.starting.forget(id_)
        self.census.forget(id_)
        self.publisher.withdraw(id_)
        self.counts.withdrawn += 1
        return True

    def end_former_names(self) -> None:
        """Compiles each zone again that has a former name whose time is over.

        Also one whose former name was ended too early by a clock that was ahead, and has been set since.
        """
        now = self._now()
        for id_ in sorted(self._renamed):
            served = self._served[id_]
            if _next_end(served.zone.environment, now) != served.zone.valid_until:
                self._serve(self.compile_again(served.zone), served.digest)

    def _serve(self, zone: Zone, digest: str, touched: Touched | None = None) -> None:
        before, was_renamed = self.zone(zone.id), zone.id in self._renamed
        self._forget(zone.id)
        self._owners[zone.environment.network] = zone.id
        self._served[zone.id] = _ServedZone(digest, zone)
        document.remember_digest(zone.environment, digest)
        services = zone.environment.services
        named = touched.services if touched and before and not was_renamed else services
        if any(service.former_names for name in named if (service := services.get(name))):
            self._renamed.add(zone.id)
        self.publisher.publish(zone)
        self.counts.published += 1
        # What is shown of instances costs some tenths of a microsecond for each, which answers do not wait for.
        if touched and before:
            self.starting.note_next(before.environment, zone.environment, touched, time.monotonic())
            self.census.note_next(before, zone, touched)
        else:
            self.starting.note(zone.environment, time.monotonic())
            self.census.note(zone)

    def _forget(self, id_: EnvironmentId) -> bool:
        self._renamed.discard(id_)
        served = self._served.pop(id_, None)
        if served:
            del self._owners[served.zone.environment.network]
        return served is not None

    def _now(self) -> int:
        return unix_milliseconds(self.wall_clock)


class ShowsServed:
    """What whoever follows something says of the zones that it serves."""

    __slots__ = ()
    _served: ServedZones

    @property
    def revisions(self) -> dict[EnvironmentId, int]:
        """The revision that is served of each environment."""
        return self._served.revisions

    @property
    def quarantined(self) -> Mapping[EnvironmentId, str]:
        """What is wrong with the newest document, of each environment whose newest document is bad."""
        return self._served.quarantined

    @property
    def stuck_starting(self) -> dict[EnvironmentId, int]:
        """How many instances do not become ready, of each environment that has such."""
        return self._served.starting.stuck(time.monotonic())

    @property
    def instances(self) -> Mapping[tuple[str, str], int]:
        """How many instances are served, by their state and their placement."""
        return self._served.census.totals


def _is_very_large(environment: Environment, touched: Touched) -> bool:
    """Whether a service of which some is ``touched`` has so many instances that not even their ids are copied soon."""
    services = (environment.services.get(name) for name in touched.services)
    return sum(len(service.instances) for service in services if service) > VERY_LARGE


def _next_end(environment: Environment, now: int) -> int | None:
    ends = (end for service in environment.services.values() for end in service.former_names.values() if end > now)
    return min(ends, default=None)


def _check_identity(id_: EnvironmentId, environment: Environment) -> None:
    if environment.id != id_:
        raise ZonesError(f"the document of {id_!r} says that it is {environment.id!r}'s", field="id")
