"""The book of fresh workloads: committed to the store, but not yet in a document that was published to this host.

An attach commits the instance and then needs the workload to be reached, often before the watcher has published the new
document. The plan follows the published documents: it would leave the workload out, and remove its route if it had one.
So the plan includes a workload that has an entry here, until a document of at least that revision is published.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zones.names import EnvironmentId


@dataclass(slots=True)
class FreshWorkloads:
    """The fresh workloads of this host, each known by the host's end of its veth."""

    _committed: dict[str, tuple[EnvironmentId, int]] = field(default_factory=dict)
    """The environment of each fresh workload, and the revision that it was committed at."""

    def add(self, link: str, environment: EnvironmentId, revision: int) -> None:
        """The workload at ``link`` was committed at ``revision`` of ``environment``."""
        self._committed[link] = (environment, revision)

    def __contains__(self, link: object) -> bool:
        return link in self._committed

    def remove_published(self, environment: EnvironmentId, revision: int) -> None:
        """The document of ``environment`` at ``revision`` was published: it decides about workloads up to it."""
        self._remove(environment, revision)

    def remove_all(self, environment: EnvironmentId) -> None:
        """``environment`` is gone, and none of its workloads stays."""
        self._remove(environment, None)

    def _remove(self, environment: EnvironmentId, revision: int | None) -> None:
        for link, (id_, committed) in list(self._committed.items()):
            if id_ == environment and (revision is None or committed <= revision):
                del self._committed[link]
