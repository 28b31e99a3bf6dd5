"""What is to be examined, and the name that is meant by it. A value."""

from __future__ import annotations

from dataclasses import dataclass

from interlock.errors import BadSetting
from interlock.settings.table import Settings
from zones.names import Name


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be examined; with nothing set, this machine."""

    name: str | None = None
    """A name, as a client would ask for it, or below the zone."""
    netns: str | None = None
    """The path of a workload's network namespace."""
    source: str | None = None
    """A client: an address, or ``INSTANCE.SERVICE``."""
    target: str | None = None
    """What the client connects to, in the same way."""
    port: int | None = None
    """The port that it connects to; None for those of the service."""
    host: str | None = None
    """A host whose agent is asked by the control plane."""

    @property
    def is_machine(self) -> bool:
        """Whether it is this machine as a whole."""
        return not (self.name or self.netns or self.source or self.target)


def labels_of(name: str | None, settings: Settings) -> tuple[str | None, str | None]:
    """The service, and the instance if one is named, that ``name`` is about."""
    if name is None:
        return None, None
    whole = absolute(name, settings)
    below = whole.below(settings.zone)
    labels = [one.decode("latin-1") for one in (whole.labels if below is None else below)]
    if not labels:
        return None, None
    is_instance = len(labels) == 2 and not labels[0].startswith("_") and labels[0] not in ("all", "one")
    return labels[-1], labels[0] if is_instance else None


def absolute(name: str, settings: Settings) -> Name:
    """``name`` with the zone, unless it has it or is a name of several labels. Raises `BadSetting`."""
    try:
        written = Name.parse(name)
        if written.below(settings.zone) is not None or name.endswith(".") or "." in name:
            return written
        return settings.zone.child(name)
    except ValueError as error:
        raise BadSetting(str(error)) from None
