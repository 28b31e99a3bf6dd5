"""How a watcher finds what nobody announces: documents that were changed by hand, and bad ones that are mended.

Sample         some of the environments that are served, other ones with each comparison
BadDocuments   large documents that are bad: each is read again only when it looks different
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice

from store.stored import Stored
from zones.names import EnvironmentId

SAMPLE_OCTETS = 1 << 20  # of documents in one comparison; a store of a few hundred environments is read as a whole
SAMPLE_STEP = 20  # documents in a round trip, so that the client library decodes no large reply without a break
SMALL = 65_536  # octets; a bad document up to that is read again with each comparison, for it costs little


@dataclass(slots=True)
class Sample:
    """Goes round all environments that are served."""

    _remaining: Iterator[EnvironmentId] | None = None  # of the round that is under way

    def steps(self, served: Collection[EnvironmentId]) -> Iterator[list[EnvironmentId]]:
        """The next of ``served``, `SAMPLE_STEP` at a time, until the round ends. The next call goes on from there."""
        if self._remaining is None:
            self._remaining = iter(list(served))
        while some := list(islice(self._remaining, SAMPLE_STEP)):
            yield [id_ for id_ in some if id_ in served]
        self._remaining = None


@dataclass(slots=True)
class BadDocuments:
    """Remembers how each large bad document looked when it was read."""

    _looks: dict[EnvironmentId, tuple[bytes | None, int]] = field(default_factory=dict)

    def note(self, stored: Stored, *, is_bad: bool) -> None:
        """Notes whether ``stored``, which was read, is bad."""
        self._looks.pop(stored.id, None)
        if is_bad and stored.size > SMALL:
            self._looks[stored.id] = stored.line, stored.size

    @property
    def environments(self) -> list[EnvironmentId]:
        """The environments that have one."""
        return list(self._looks)

    def is_unchanged(self, stored: Stored) -> bool:
        """Whether ``stored``, of which only the size was read, looks as it did."""
        return self._looks.get(stored.id) == (stored.line, stored.size)
