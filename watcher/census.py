"""How many instances there are, by their state and their placement: what an operator watches."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from zones.model import Instance, State
from zones.names import EnvironmentId
from zones.parts import Touched
from zones.placement import placement_of
from zones.zone import Zone

Kind = tuple[str, str]
"""The state of an instance, and its placement."""


@dataclass(slots=True)
class Census:
    """Counts the instances in the zones that are served, whenever one of these is replaced."""

    totals: Counter[Kind] = field(default_factory=Counter)
    """How many instances there are of each kind."""
    _by_environment: dict[EnvironmentId, Counter[Kind]] = field(default_factory=dict)

    def note(self, zone: Zone) -> None:
        """``zone`` is served from now on."""
        self.forget(zone.id)
        # Instances of one state on one host are alike: the rest is worked out once for all of them.
        alike: dict[tuple[State, str | None, bool], list[Instance]] = {}
        for service in zone.environment.services.values():
            for instance in service.instances.values():
                alike.setdefault((instance.state, instance.host, instance.attached), []).append(instance)
        found: Counter[Kind] = Counter()
        for instances in alike.values():
            found[instances[0].state.value, placement_of(instances[0], zone.away).value] += len(instances)
        self._by_environment[zone.id] = found
        self.totals.update(found)

    def note_next(self, before: Zone, zone: Zone, touched: Touched) -> None:
        """``zone`` is served instead of ``before``, from which it differs in what is ``touched`` alone."""
        found = self._by_environment.get(zone.id)
        if found is None or before.away is not zone.away:
            self.note(zone)
            return
        for _, _, old, new in touched.each_instance(before.environment, zone.environment):
            for instance, by in ((old, -1), (new, 1)):
                if instance:
                    kind = instance.state.value, placement_of(instance, zone.away).value
                    found[kind] += by
                    self.totals[kind] += by

    def forget(self, id_: EnvironmentId) -> None:
        """The environment ``id_`` is not served any more."""
        if found := self._by_environment.pop(id_, None):
            self.totals.subtract(found)
