"""The book of fresh workloads: not yet in a document that was published to this host.

An attach needs the workload to be reached before its instance is committed, or soon after that, when the document has
often not been published yet. The plan follows the published documents: it would leave the workload out, and remove its
route if it had one. So the plan includes a workload that has an entry here, until its attach has failed, or a document
of at least the revision that it was committed at is published.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from sys import maxsize

from zones.names import EnvironmentId


@dataclass(slots=True)
class FreshWorkloads:
    """The fresh workloads of this host, each known by the host's end of its veth."""

    _committed: dict[str, tuple[EnvironmentId, float]] = field(default_factory=dict)
    """The environment of each fresh workload, and the revision that it was committed at; infinite before."""

    def add(self, link: str, environment: EnvironmentId, revision: int) -> None:
        """The workload at ``link`` was committed at ``revision`` of ``environment``."""
        self._committed[link] = (environment, revision)

    @contextmanager
    def uncommitted(self, link: str, environment: EnvironmentId) -> Iterator[None]:
        """The workload at ``link`` is fresh until the body ends, and after it if the body has added it."""
        self._committed[link] = uncommitted = (environment, inf)
        try:
            yield
        finally:
            if self._committed.get(link) == uncommitted:
                del self._committed[link]

    def __contains__(self, link: object) -> bool:
        return link in self._committed

    def remove_published(self, environment: EnvironmentId, revision: int) -> None:
        """The document of ``environment`` at ``revision`` was published: it decides about workloads up to it."""
        self._remove(environment, revision)

    def remove_all(self, environment: EnvironmentId) -> None:
        """``environment`` is gone here, and none of its workloads stays but those that are not committed yet.

        Such a one may bring it back, as the next member of it on this host.
        """
        self._remove(environment, maxsize)

    def _remove(self, environment: EnvironmentId, revision: int) -> None:
        for link, (id_, committed) in list(self._committed.items()):
            if id_ == environment and committed <= revision:
                del self._committed[link]
