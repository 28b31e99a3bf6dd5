"""What the store holds of one environment, its document and its line in the index, and what is wrong with the two.

To a large document the differences are added that the newest commits have made, and the digest in the line is the one
that follows from all of them.

The writers here keep both in step. Where they are not, somebody has written to the store by hand, a server has thrown
keys away for want of memory, or bits have rotted: the environment is damaged. Nobody builds on what is damaged: readers
keep the last good document, and writers refuse, until somebody has said what is to count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from store.errors import Corrupt
from store.index import NO_HOSTS, IndexEntry, decode_entry
from zones import document, parts
from zones.errors import ZonesError
from zones.hosts import hosts_of
from zones.model import Environment
from zones.names import EnvironmentId
from zones.parts import Difference

MAX_DOCUMENT = 16 << 20  # octets; some 150,000 instances. What is larger is not one of ours, and would hold up queries
NO_STRING = -1  # in place of the size of a document whose key is of a wrong type
# How each difference begins, as in read_environments.lua.
_REVISIONS = re.compile(rb'\{"id":"[^"]*","before":(?P<before>\d{1,15}),"revision":(?P<revision>\d{1,15})\b')
EXCERPT = 40  # octets of a bad line that are quoted
SHOWN = 5  # hosts that a text names


@dataclass(frozen=True, slots=True)
class Known:
    """What a reader has of an environment already."""

    revision: int
    """The revision."""
    digest: str
    """The digest that the index had for it."""


class Stored(Struct, frozen=True, gc=False):
    """What the store holds of one environment, as of one moment."""

    id: EnvironmentId
    """The environment."""
    line: bytes | None
    """Its line in the index; None if it has none."""
    entry: IndexEntry | None
    """What the line says."""
    size: int
    """The size of its document in octets; 0 if there is none, `NO_STRING` if a key is of a wrong type."""
    written: bytes | None
    """The document; None if there is none, if it is larger than the reader wanted, or if it was not needed."""
    digest: str
    """The digest of the newest revision: that of ``written``, or of ``since``, and of all ``differences``. Empty if
    both are None."""
    differences: tuple[bytes, ...] = ()
    """The differences to ``written``, or to ``since``, in their order."""
    since: Known | None = None
    """What the reader has, if ``differences`` are all that it lacks; None where the document was to be read."""
    beside: tuple[bytes, ...] = ()
    """All differences that lie beside the document, also such as lead to no revision; none where they were not read."""

    @classmethod
    def of(
        cls,
        id_: EnvironmentId,
        line: bytes | None,
        size: int,
        written: bytes | None,
        differences: Sequence[bytes] = (),
        since: Known | None = None,
    ) -> Stored:
        """From what the script has read.

        ``differences`` are in their order to ``since``, else each comes after its revision, in any order.
        """
        entry = None if line is None else decode_entry(line)
        beside: tuple[bytes, ...] = ()
        if not since:
            beside = tuple(differences[1::2])
            differences = _chain(beside, entry.revision if entry else 0)
        digest = since.digest if since else "" if written is None else document.digest(written)
        if not since and entry and digest == entry.digest:
            differences = ()  # a release that knows none of them has written the document
        for each in differences:
            digest = parts.next_digest(digest, each)
        return cls(id_, line, entry, size, written, digest, tuple(differences), since, beside)

    @property
    def read(self) -> int:
        """The octets of what was read."""
        return len(self.written or b"") + sum(map(len, self.differences))

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
        if self.digest and self.digest != entry.digest:
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
            environment = parts.apply_differences(document.decode(self.written or b""), self.decode_differences())
        except ZonesError as error:
            raise Corrupt(f"environment {self.id!r} is damaged in the store: {error}") from error
        if environment.id != self.id:
            raise Corrupt(
                f"environment {self.id!r} is damaged in the store: its document says that it is {environment.id!r}'s"
            )
        return environment

    def decode_readable(self) -> Environment:
        """The highest revision that the document and what lies beside it lead to, whatever is missing.

        Raises `Corrupt`.
        """
        environment = replace(self, differences=()).decode_document()
        following = {int(found["before"]): each for each in self.beside if (found := _REVISIONS.match(each))}
        while written := following.pop(environment.revision, None):
            try:
                environment = parts.apply_difference(environment, parts.decode(written))
            except ZonesError:
                break
        return environment

    def decode_differences(self) -> list[Difference]:
        """The differences. Raises `Invalid`."""
        return [parts.decode(each) for each in self.differences]

    def follow(self, environment: Environment) -> Environment:
        """What ``differences`` make of ``environment``, which is the one that ``since`` tells of. Raises `Corrupt`."""
        try:
            followed = parts.apply_differences(environment, self.decode_differences())
        except ZonesError as error:
            raise Corrupt(f"environment {self.id!r} is damaged in the store: {error}") from error
        if self.differences:
            document.remember_digest(followed, self.digest)
        return followed

    def folded(self) -> Stored:
        """The same with all differences in the document, as releases read it that know no differences.

        What is damaged stays as it is.
        """
        if not self.differences or find_damage(self) or self.entry is None:
            return self
        written = document.encode(self.decode_document())
        rest = (self.line or b"").split(b" ")[2:]
        line = b" ".join([str(self.entry.revision).encode(), document.digest(written).encode(), *rest])
        return Stored.of(self.id, line, len(written), written)


def _chain(beside: Sequence[bytes], newest: int) -> list[bytes]:
    """Those of the differences ``beside`` a document that lead to the revision ``newest``, in their order.

    If none leads there, those that lead to the highest one. All others count for nothing: somebody has put them there.
    """
    leading = {int(found["revision"]): found for each in beside if (found := _REVISIONS.match(each))}
    chain: list[bytes] = []
    revision = newest if newest in leading else max(leading, default=0)
    while found := leading.pop(revision, None):
        chain.append(found.string)
        revision = int(found["before"])
    return chain[::-1]


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
