"""What the console shows of environments without asking the store: what the watcher of this process has published.

What it costs to show is paid by whoever looks, not by whoever changes something: a change only marks its environment,
and what is counted in it is counted again when a page needs it.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from admin.console.ages import Ages
from zones.model import Environment, State
from zones.names import EnvironmentId
from zones.placement import HostsAway, Placement, placement_of
from zones.zone import Zone

Census = Counter[str]
"""What there is in an environment, or in all of them: ``services``, ``records``, ``peers`` and ``instances``; of these
those that are ``starting``, ``ready``, ``draining``, and ``unanswered``: under no name, for lack of a path to them."""


@dataclass(slots=True)
class Known:
    """An environment as it is served."""

    environment: Environment
    """The environment."""
    away: HostsAway
    """The hosts without a path, of those that it has a member on."""
    version: str
    """Another text with each change, be it of what is in the environment or of its hosts."""
    _census: Census | None = None

    @property
    def census(self) -> Census:
        """What there is in it."""
        if self._census is None:
            self._census = _count(self.environment, self.away)
        return self._census


@dataclass(slots=True)
class ConsoleState:
    """All environments as they are served. It is a `watcher.publisher.Publisher`."""

    environments: dict[EnvironmentId, Known] = field(default_factory=dict)
    """All environments."""
    is_loaded: bool = False
    """Whether all that exists is known, be it from a snapshot."""
    newest: tuple[EnvironmentId, int, float] | None = None
    """The environment that has changed last, its revision, and when, in Unix seconds; None: none since the start."""
    on_change: Callable[[EnvironmentId], None] = lambda _id: None
    """Is called with each environment that has changed, or was deleted."""
    ages: Ages = field(default_factory=Ages)
    """Since when each instance is as it is."""
    _changes: int = 0
    _changed: set[EnvironmentId] = field(default_factory=set)  # since `total` was worked out
    _counted: dict[EnvironmentId, Census] = field(default_factory=dict)  # what of each is in the total
    _total: Census = field(default_factory=Counter)
    _life: str = field(default_factory=lambda: secrets.token_hex(4))

    def version_of(self, id_: str) -> str | None:
        """The version of the environment ``id_``; None if there is none."""
        known = self.environments.get(EnvironmentId(id_))
        return known.version if known else None

    @property
    def version(self) -> str:
        """Another text with each change of any environment."""
        return f"{self._life}.{self._changes}"

    @property
    def total(self) -> Census:
        """What there is in all environments."""
        for id_ in self._changed:
            self._total.subtract(self._counted.pop(id_, Counter()))
            if known := self.environments.get(id_):
                self._counted[id_] = known.census
                self._total.update(known.census)
        self._changed.clear()
        return self._total

    # What the watcher calls

    def announce(self, zone: Zone) -> None:
        """Does nothing: who follows the store publishes at once."""

    def publish(self, zone: Zone) -> None:
        """``zone`` replaces what was known of its environment."""
        if before := self.environments.get(zone.id):
            self.ages.note((before.environment, before.away), (zone.environment, zone.away))
        elif self.is_loaded:
            nothing = replace(zone.environment, services={}, records={}, peers={})
            self.ages.note((nothing, zone.away), (zone.environment, zone.away))
        self.environments[zone.id] = Known(zone.environment, zone.away, self._next_version())
        if self.is_loaded:
            self.newest = zone.id, zone.revision, time.time()
        self._note(zone.id)

    def withdraw(self, environment: EnvironmentId) -> None:
        """``environment`` was deleted."""
        self.environments.pop(environment, None)
        self.ages.forget(environment)
        self._changes += 1
        self._note(environment)

    def restored(self, as_of: float) -> None:
        """What is published from now on is from a snapshot of the Unix time ``as_of``."""

    def source_away(self) -> None:
        """The store does not answer. All that a snapshot holds, if there is one, is known."""
        self.is_loaded = self.is_loaded or bool(self.environments)

    def loaded(self) -> None:
        """All that exists is known."""
        self.is_loaded = True

    def _note(self, id_: EnvironmentId) -> None:
        self._changed.add(id_)
        self.on_change(id_)

    def _next_version(self) -> str:
        self._changes += 1
        return self.version


def _count(environment: Environment, away: HostsAway) -> Census:
    census: Census = Counter({state.value: 0 for state in State})
    for service in environment.services.values():
        census["instances"] += len(service.instances)
        for instance in service.instances.values():
            census[instance.state.value] += 1
            census["unanswered"] += placement_of(instance, away) not in (Placement.UNMANAGED, Placement.ATTACHED)
    census["services"] = len(environment.services)
    census["records"] = sum(len(sets) for sets in environment.records.values())
    census["peers"] = len(environment.peers)
    return census
