"""What the watcher has published to this host, and what of it has changed since the last pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from zones.hosts import Hosts
from zones.model import Environment
from zones.names import EnvironmentId


@dataclass(frozen=True, slots=True)
class Changes:
    """What a pass is about to apply."""

    environments: tuple[Environment, ...]
    """The documents that are new since the last pass, as they were when the pass began."""
    hosts_revision: int | None
    """The revision of the registered hosts; None where they are as they were."""

    def __bool__(self) -> bool:
        return bool(self.environments) or self.hosts_revision is not None


@dataclass(slots=True)
class Published:
    """The newest of everything that was published to this host."""

    environments: dict[EnvironmentId, Environment] = field(default_factory=dict)
    """The documents of all environments that have a member on this host."""
    hosts: Hosts = field(default_factory=lambda: Hosts(0, {}, {}))
    """All registered hosts."""
    is_loaded: bool = False
    """Whether every such environment has been published once."""
    stale_since: float | None = None
    """The Unix time of the snapshot that all of it is from; None where it is followed."""
    _changed: set[EnvironmentId] = field(default_factory=set)
    """The environments whose document no pass has applied yet."""
    _has_new_hosts: bool = False
    """Whether ``hosts`` has changed since a pass applied it."""

    def put(self, environment: Environment) -> None:
        """``environment`` is the newest document of its id."""
        self.environments[environment.id] = environment
        self._changed.add(environment.id)

    def remove(self, id_: EnvironmentId) -> None:
        """The environment ``id_`` is gone, or has no member on this host any more."""
        self.environments.pop(id_, None)
        self._changed.discard(id_)

    def set_hosts(self, hosts: Hosts) -> None:
        """``hosts`` are all that are registered now."""
        self.hosts = hosts
        self._has_new_hosts = True

    def take_changes(self) -> Changes:
        """What has changed since it was last taken. A pass that fails gives it back with `restore`."""
        changed = tuple(self.environments[id_] for id_ in self._changed if id_ in self.environments)
        changes = Changes(changed, self.hosts.revision if self._has_new_hosts else None)
        self._changed, self._has_new_hosts = set(), False
        return changes

    def restore(self, changes: Changes) -> None:
        """``changes`` were not applied."""
        self._changed |= {environment.id for environment in changes.environments}
        self._has_new_hosts |= changes.hosts_revision is not None
