"""The packet cache: packed replies by the octets of the query, so that a repeated query is not parsed again.

A packet cache belongs to one state of one scope and is dropped when that state is replaced; a reply from a zone needs
no other invalidation. A forwarded one ends by itself (`forward/repeats`). All packet caches of a server share one bound
and have two generations. When the recent generation is full it becomes the previous one, and the one before that is
dropped; an entry that is used moves to the recent generation. So names that are asked often stay, and a flood of
made-up names passes through.

A denial is kept when it is asked for the second time. Most names that do not exist are never asked for again, and a
flood of them is made of nothing else: to keep their replies would cost it as much as to make them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from weakref import WeakSet

from resolver.counts import ReplyCounter

GENERATION = 65_536  # entries of all packet caches; with the previous generation some 50 MB, 200 if all are large
REMEMBERED = 1 << 16  # marks, an octet each: they stay in the processor's caches, where the replies would not
MOST_MARKED = REMEMBERED // 8  # above that all are wiped out: one of eight denials would be taken for another
LARGE = 1024  # octets; a larger reply counts as so many entries as it has of these

PacketEntry = tuple[Iterator[bytes], ReplyCounter, int]
"""The replies without their ID: one for each rotation, again and again, for as long as they are right. Then the counter
of these replies, and as how many entries they count."""


def make_entry(replies: Iterator[bytes], counter: ReplyCounter, octets: int) -> PacketEntry:
    """The entry of ``replies``, each of ``octets`` octets."""
    return replies, counter, 1 + octets // LARGE


class PacketCaches:
    """All packet caches of a server. Together they hold two generations, however many environments there are."""

    def __init__(self) -> None:
        self._added = 0
        self._marks, self._marked = bytearray(REMEMBERED), 0
        self._with_recent: WeakSet[PacketCache] = WeakSet()
        self._with_previous: WeakSet[PacketCache] = WeakSet()

    def is_asked_again(self, key: Hashable) -> bool:
        """Whether ``key`` was given to this method before, and some ten thousand others at most since."""
        place = hash(key) % REMEMBERED
        if self._marks[place]:
            return True
        if self._marked >= MOST_MARKED:
            self._marks, self._marked = bytearray(REMEMBERED), 0
        self._marks[place] = 1
        self._marked += 1
        return False

    def new_cache(self) -> PacketCache:
        """An empty packet cache."""
        return PacketCache(self)

    def clear(self) -> None:
        """Drops all entries of all caches."""
        self._added = 0
        for each in self._with_previous | self._with_recent:
            each.clear()
        self._with_previous, self._with_recent = WeakSet(), WeakSet()

    def note_recent(self, cache: PacketCache) -> None:
        """Notes that ``cache`` has its first recent entry."""
        self._with_recent.add(cache)

    def count(self, entries: int) -> None:
        """Counts ``entries`` more of them; begins a new generation when this one is full."""
        self._added += entries
        if self._added >= GENERATION:
            self._added = 0
            for each in self._with_previous | self._with_recent:
                each.start_generation()
            self._with_previous, self._with_recent = self._with_recent, WeakSet()


class PacketCache:
    """Packed replies of one scope over one transport. ``recent`` is public because the hot path reads it directly."""

    __slots__ = ("__weakref__", "_caches", "_previous", "recent")

    def __init__(self, caches: PacketCaches) -> None:
        self.recent: dict[Hashable, PacketEntry] = {}
        self._previous: dict[Hashable, PacketEntry] = {}
        self._caches = caches

    def get(self, key: Hashable) -> PacketEntry | None:
        """The entry of ``key``; it moves to the recent generation."""
        entry = self.recent.get(key)
        if entry is None and (entry := self._previous.get(key)):
            self.put(key, entry)
        return entry

    def is_asked_again(self, key: Hashable) -> bool:
        """Whether it is worth while to store a denial under ``key``."""
        return self._caches.is_asked_again(key)

    def put(self, key: Hashable, entry: PacketEntry) -> None:
        """Stores ``entry`` under ``key``."""
        if not self.recent:
            self._caches.note_recent(self)
        self.recent[key] = entry
        self._caches.count(entry[2])

    def clear(self) -> None:
        """Drops all entries."""
        self._previous, self.recent = {}, {}

    def start_generation(self) -> None:
        """Makes the recent generation the previous one, which is dropped."""
        self._previous, self.recent = self.recent, {}
