"""What the store holds of one environment, its document and its line in the index, and what is wrong with the two.

The writers here keep both in step. Where they are not, somebody has written to the store by hand, a server has thrown
keys away for want of memory, or bits have rotted: the environment is damaged. Nobody builds on what is damaged: readers
keep the last good document, and writers refuse, until somebody has said what is to count.
"""

from __future__ import annotations

from dataclasses import dataclass

from store.errors import Corrupt
from store.index import NO_HOSTS, IndexEntry, decode_entry
from zones import document
from zones.errors import Invalid
from zones.hosts import hosts_of
from zones.model import Environment
from zones.names import EnvironmentId

MAX_DOCUMENT = 16 << 20  # octets; some 150,000 instances. What is larger is not one of ours, and would hold up queries
NO_STRING = -1  # in place of the size of a document whose key is of a wrong type
EXCERPT = 40  # octets of a bad line that are quoted
SHOWN = 5  # hosts that a text names


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds of one environment, as of one moment."""

    id: EnvironmentId
    """The environment."""
    line: bytes | None
    """Its line in the index; None if it has none."""
    entry: IndexEntry | None
    """What the line says."""
    size: int
    """The size of its document in octets; 0 if there is none, `NO_STRING` if its key is of a wrong type."""
    written: bytes | None
    """The document; None if there is none, or it is larger than the reader wanted."""
    digest: str
    """The digest of ``written``; empty if that is None."""

    @classmethod
    def of(cls, id_: EnvironmentId, line: bytes | None, size: int, written: bytes | None) -> Stored:
        """From what the script has read."""
        entry = None if line is None else decode_entry(line)
        return cls(id_, line, entry, size, written, "" if written is None else document.digest(written))

    @property
    def damage(self) -> str:
        """What is wrong, in words; empty if the document and the line agree. The document itself may still be bad."""
        entry = self.entry
        if entry is None:
            return "there is a document, and the index has no line of it" if self.size else ""
        if not entry.revision:
            return f"its line in the index cannot be read: {(self.line or b'')[:EXCERPT]!r}"
        if entry.digest is None:
            return "there is a document, though the index says that it was deleted" if self.is_half_deleted else ""
        if not self.size:
            return "the document is gone, though the index says that there is one"
        if self.size == NO_STRING:
            return "its document is no string"
        if self.size > MAX_DOCUMENT:
            return f"its document has {self.size} octets, and one of more than {MAX_DOCUMENT} is not read"
        if self.written is not None and self.digest != entry.digest:
            return "its document is not the one that the index names: one of the two was changed by hand, or is spoilt"
        return ""

    def wrong_hosts(self, environment: Environment) -> str:
        """What is wrong with the hosts that the line names, where the document is ``environment``; empty if nothing is.

        The next commit puts them right. Until then, an agent that knows the index alone may follow too much or too
        little.
        """
        named, actual = self.entry.hosts if self.entry else None, hosts_of(environment)
        if named is None or named == actual:
            return ""
        return f"its line in the index names other hosts ({_shown(named)}) than those with a member ({_shown(actual)})"

    @property
    def is_half_deleted(self) -> bool:
        """Whether its document is there though its line says that it was deleted: no writer of ours does that."""
        return self.entry is not None and bool(self.entry.revision) and self.entry.digest is None and self.size != 0

    def decode(self) -> Environment | None:
        """The environment; None if it does not exist. Raises `Corrupt`."""
        if self.damage:
            raise Corrupt(f"environment {self.id!r} is damaged in the store: {self.damage}")
        if self.written is None:
            return None
        environment = self.decode_document()
        if self.entry and environment.revision != self.entry.revision:
            raise Corrupt(
                f"environment {self.id!r} is damaged in the store: the index has it at revision {self.entry.revision},"
                f" and the document at {environment.revision}"
            )
        document.remember_digest(environment, self.digest)
        return environment

    def decode_document(self) -> Environment:
        """The environment that the document describes, whatever the index says. Raises `Corrupt`."""
        try:
            environment = document.decode(self.written or b"")
        except Invalid as error:
            raise Corrupt(f"environment {self.id!r} is damaged in the store: {error}") from error
        if environment.id != self.id:
            raise Corrupt(
                f"environment {self.id!r} is damaged in the store: its document says that it is {environment.id!r}'s"
            )
        return environment


def find_damage(stored: Stored) -> str:
    """All that can be wrong with ``stored``, in words; empty if nothing is."""
    try:
        environment = stored.decode()
    except Corrupt as error:
        return str(error)
    wrong = "" if environment is None else stored.wrong_hosts(environment)
    return wrong and f"environment {stored.id!r} is damaged in the store: {wrong}"


def _shown(hosts: frozenset[str]) -> str:
    more = f" and {len(hosts) - SHOWN} more" if len(hosts) > SHOWN else ""
    return (", ".join(sorted(hosts)[:SHOWN]) or NO_HOSTS) + more
