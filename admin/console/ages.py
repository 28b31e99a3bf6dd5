"""Since when each instance is as it is: found by comparing what the watcher publishes with what was there before.

That is no part of an environment, so it is known from the start of this process on; what has not changed since is older
than that. It is compared a little later, and once for many changes, so that a busy platform pays no more for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from zones.model import Environment
from zones.names import EnvironmentId
from zones.placement import HostsAway, placement_of

PACE = 0.05  # seconds between two comparisons; what has changed meanwhile is compared together
MOST_KEPT = 100_000  # instances whose change is remembered, some ten megabytes; beyond that those of the oldest go


@dataclass(frozen=True, slots=True)
class _Seen:
    environment: Environment
    away: HostsAway


@dataclass(slots=True)
class Ages:
    """Since when instances are as they are."""

    began: float = field(default_factory=time.time)
    """When this process began to look, in Unix seconds."""
    _since: OrderedDict[EnvironmentId, dict[tuple[str, str], float]] = field(default_factory=OrderedDict)
    _kept: int = 0
    _before: dict[EnvironmentId, _Seen] = field(default_factory=dict)  # of those that are to be compared
    _now: dict[EnvironmentId, tuple[_Seen, float]] = field(default_factory=dict)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, before: tuple[Environment, HostsAway], now: tuple[Environment, HostsAway]) -> None:
        """An environment that was ``before`` has become ``now``."""
        id_ = now[0].id
        self._before.setdefault(id_, _Seen(*before))
        self._now[id_] = _Seen(*now), time.time()
        self._woken.set()

    def forget(self, id_: EnvironmentId) -> None:
        """The environment ``id_`` was deleted."""
        self._before.pop(id_, None)
        self._now.pop(id_, None)
        self._kept -= len(self._since.pop(id_, ()))

    def since(self, id_: EnvironmentId, service: str, instance: str) -> float | None:
        """Since when the instance is as it is, in Unix seconds; None: since before this process began to look."""
        return self._since.get(id_, {}).get((service, instance))

    async def run(self) -> None:
        """Compares what has changed, until it is cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            for id_ in list(self._now):
                self.compare(id_)
                await asyncio.sleep(0)
            await asyncio.sleep(PACE)

    def compare(self, id_: EnvironmentId) -> None:
        """Compares ``id_`` with what it was, if it has changed."""
        before, now = self._before.pop(id_, None), self._now.pop(id_, None)
        if before is None or now is None:
            return
        seen, when = now
        changed = _changed(before, seen)
        if not changed:
            return
        since = self._since.setdefault(id_, {})
        self._since.move_to_end(id_)
        self._kept += len(changed - since.keys())
        since.update(dict.fromkeys(changed, when))
        while self._kept > MOST_KEPT and len(self._since) > 1:
            self._kept -= len(self._since.popitem(last=False)[1])


def _changed(before: _Seen, now: _Seen) -> set[tuple[str, str]]:
    hosts = before.away.difference(now.away)
    found = set()
    for name, service in now.environment.services.items():
        old = before.environment.services.get(name)
        if not hosts and old == service:
            continue
        for id_, instance in service.instances.items():
            was = old.instances.get(id_) if old else None
            if (
                was is None
                or was.state is not instance.state
                or placement_of(was, before.away) is not placement_of(instance, now.away)
            ):
                found.add((name, id_))
    return found
