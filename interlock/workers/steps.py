"""Steps: how a worker comes by the zone that is served now from the one that it has.

A worker has the zones that there were when it was forked, and its own since then. What it is sent of an environment is
the difference of the two revisions, so a change costs what it changes; or the document, where there is nothing before.

    pack_change(id, had, has)       ->  Change        in the process with the zones
    apply_change(resolver, change)                    in the worker: publish, announce, withdraw
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from msgspec import Struct

from resolver.server import Resolver
from zones import document, parts
from zones.addresses import Platform
from zones.names import EnvironmentId
from zones.placement import HostsAway
from zones.zone import Zone, compile_next, compile_zone


@dataclass(frozen=True, slots=True)
class Shown:
    """What the clients of one environment are served."""

    zone: Zone | None = None
    """The zone that answers; None where there is none yet."""
    pending: Zone | None = None
    """The zone that is announced; None where none is."""


class Base(Enum):
    """What a step begins with."""

    NOTHING = "nothing"
    ZONE = "zone"
    PENDING = "pending"


class Step(Struct, frozen=True):
    """How a zone is made."""

    base: Base
    """Which zone of the worker it is made from."""
    written: bytes
    """The document of its environment; from a base the difference, or nothing where the environment is the same."""
    now: int
    """The time as of which it is compiled, in Unix milliseconds."""
    away: HostsAway
    """The hosts whose instances it leaves out."""


# A message can have thousands of these and of steps, and a worker reads it in one go: of this kind it takes a tenth of
# the time that dataclasses would.
class Change(Struct, frozen=True):
    """What is served for one environment from now on."""

    id: EnvironmentId
    """The environment."""
    zone: Step | None
    """How the zone that answers is made; None: there is none."""
    pending: Step | None
    """How the zone that is announced is made; None: none is."""
    keeps_zone: bool = False
    """Whether the zone that answers is the one before; then ``zone`` says nothing."""
    keeps_pending: bool = False
    """Whether the zone that is announced is the one before; then ``pending`` says nothing."""

    @property
    def octets(self) -> int:
        """How large it is, about."""
        return sum(len(step.written) for step in (self.zone, self.pending) if step)


def pack_change(id_: EnvironmentId, had: Shown, has: Shown) -> Change:
    """What a worker is sent that serves ``had``, for it to serve ``has``."""
    keeps_zone, keeps_pending = has.zone is had.zone, has.pending is had.pending
    return Change(
        id_,
        None if keeps_zone or not has.zone else _pack(has.zone, had),
        None if keeps_pending or not has.pending else _pack(has.pending, had),
        keeps_zone,
        keeps_pending,
    )


def apply_change(resolver: Resolver, change: Change) -> None:
    """Has ``resolver`` serve what ``change`` says."""
    had, platform = shown(resolver, change.id), resolver.scopes.platform
    zone = had.zone if change.keeps_zone else _unpack(change.zone, had, platform)
    pending = had.pending if change.keeps_pending else _unpack(change.pending, had, platform)
    if zone is None and (had.zone or not pending or _has_moved(had.pending, pending)):
        resolver.withdraw(change.id)
    elif zone and (zone is not had.zone or (had.pending and not pending)):
        if had.pending and not pending:
            resolver.announce(zone)  # in place of what was pending, and is so no longer
        resolver.publish(zone)
    if pending and shown(resolver, change.id).pending is not pending:
        resolver.announce(pending)


def shown(resolver: Resolver, id_: EnvironmentId) -> Shown:
    """What ``resolver`` serves for the environment ``id_``."""
    state = resolver.scopes.state_of(id_)
    return Shown(state.zone, state.pending) if state else Shown()


def _has_moved(before: Zone | None, pending: Zone) -> bool:
    """Whether ``pending`` is of another environment with the name of the one ``before``: that has gone meanwhile."""
    return before is not None and before.environment.network != pending.environment.network


def _pack(zone: Zone, had: Shown) -> Step:
    now = _compiled_at(zone)
    bases = [(Base.PENDING, had.pending), (Base.ZONE, had.zone)]
    for base, known in bases:
        if known and known.environment is zone.environment:
            return Step(base, b"", now, zone.away)
    for base, known in bases:
        if known and known.environment.network == zone.environment.network:
            written = parts.encode(parts.difference(known.environment, zone.environment))
            return Step(base, written, now, zone.away)
    return Step(Base.NOTHING, document.encode(zone.environment), now, zone.away)


def _unpack(step: Step | None, had: Shown, platform: Platform) -> Zone | None:
    if step is None:
        return None
    base = {Base.NOTHING: None, Base.ZONE: had.zone, Base.PENDING: had.pending}[step.base]
    if base is None:
        return compile_zone(platform, document.decode(step.written), step.now, step.away)
    if not step.written:
        return compile_zone(platform, base.environment, step.now, step.away)
    difference = parts.decode(step.written)
    environment = parts.apply_difference(base.environment, difference)
    if step.away != base.away:
        return compile_zone(platform, environment, step.now, step.away)
    return compile_next(base, environment, parts.Touched.by([difference]), step.now)


def _compiled_at(zone: Zone) -> int:
    """A time as of which ``zone``'s environment has the former names that ``zone`` has, in Unix milliseconds."""
    if zone.valid_until is not None:
        return zone.valid_until - 1
    services = zone.environment.services.values()
    return max((end for service in services for end in service.former_names.values()), default=0)
