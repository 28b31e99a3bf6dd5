"""Instances that do not become ready: in state *starting* for longer than any deploy takes. Time is an argument.

The documents do not say since when an instance is starting, so it counts from when this process learned of it first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zones.model import Environment, State
from zones.names import EnvironmentId
from zones.parts import Touched

STUCK = 60.0  # seconds; an attach ends after two barriers of 10 s, and programs that start take less than the rest


@dataclass(slots=True)
class Starting:
    """The instances that are starting, and since when."""

    _since: dict[EnvironmentId, dict[tuple[str, str], float]] = field(default_factory=dict)
    """By environment, and by service and instance: when the instance was first seen so, in monotonic seconds."""

    def note(self, environment: Environment, now: float) -> None:
        """Takes in the newest ``environment``, at ``now`` in monotonic seconds."""
        before = self._since.pop(environment.id, {})
        starting = State.STARTING  # to look up a member of an enum takes longer than to compare with it
        found = {
            (name, id_): before.get((name, id_), now)
            for name, service in environment.services.items()
            for id_, instance in service.instances.items()
            if instance.state is starting
        }
        if found:
            self._since[environment.id] = found

    def note_next(self, before: Environment, environment: Environment, touched: Touched, now: float) -> None:
        """Takes in the newest ``environment``, which differs from ``before`` in what is ``touched`` alone."""
        since = self._since.setdefault(environment.id, {})
        for name, id_, _, instance in touched.each_instance(before, environment):
            if instance and instance.state is State.STARTING:
                since.setdefault((name, id_), now)
            else:
                since.pop((name, id_), None)
        if not since:
            del self._since[environment.id]

    def forget(self, id_: EnvironmentId) -> None:
        """Takes in that the environment ``id_`` is not served any more."""
        self._since.pop(id_, None)

    def stuck(self, now: float) -> dict[EnvironmentId, int]:
        """For each environment that has some: how many instances have been starting for longer than `STUCK`."""
        counted = {id_: sum(now - since > STUCK for since in found.values()) for id_, found in self._since.items()}
        return {id_: number for id_, number in counted.items() if number}
