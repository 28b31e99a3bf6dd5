"""How many names an environment loses from one revision to another: what a guard against mass deletion weighs.

A service, a name of custom records, and each copy by which a service shrinks count as one name. A deploy that replaces
all instances of a service by as many others loses none, and a renamed service is still there under its former name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zones.model import Environment, Service

FEW = 10  # names; a commit that loses fewer is everyday work, such as deleting a service of some instances


@dataclass(frozen=True, slots=True)
class Loss:
    """What one revision has and a later one lacks."""

    lost: int
    """The number of names that are lost."""
    of: int
    """The number of names that there were."""

    @property
    def is_notable(self) -> bool:
        """Whether so many names are lost that it may be a mass deletion."""
        return self.lost >= FEW

    def is_mass(self, share: float) -> bool:
        """Whether more than ``share`` of the names are lost, and not only a few."""
        return self.is_notable and self.lost > share * self.of


def loss(before: Environment, after: Environment) -> Loss:
    """What ``after`` lacks of ``before``."""
    services = _with_former_names(after.services)
    lost = len(before.records.keys() - after.records.keys())
    of = len(before.records)
    for name, service in before.services.items():
        of += 1 + len(service.instances)
        now = services.get(name)
        if now is None:
            lost += 1 + len(service.instances)
        elif now is not service:
            lost += max(0, len(service.instances) - len(now.instances))
    return Loss(lost, of)


def _with_former_names(services: Mapping[str, Service]) -> dict[str, Service]:
    former = {name: service for service in services.values() for name in service.former_names}
    return former | dict(services)
