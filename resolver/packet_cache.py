"""The memo: packed replies by the octets that asked for them, so that a name asked twice is parsed once.

A memo belongs to one environment's zone and goes when the zone is replaced; that is all its invalidation. All memos
together have two generations: when the young one is full it becomes the old one, and the old one is forgotten, but for
what is asked again in between. So names that are asked often stay, and a flood of made-up ones passes through.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from weakref import WeakSet

from resolver.counts import Tally

GENERATION = 65_536  # entries of all memos; with the old one some 50 MB, at most 200 if all replies are large

Entry = tuple[Iterator[bytes], Tally]
"""Replies without their ID, taken in turn for ever, and the tally that counts them."""


class Memos:
    """All memos of a server. Bounded by two generations, however many environments there are."""

    def __init__(self) -> None:
        self._added = 0
        self._young: WeakSet[Memo] = WeakSet()
        self._old: WeakSet[Memo] = WeakSet()

    def new_memo(self) -> Memo:
        """An empty one."""
        return Memo(self)

    def note(self, memo: Memo) -> None:
        """Notes that ``memo`` has one more entry."""
        self._young.add(memo)
        self._added += 1
        if self._added >= GENERATION:
            self._added = 0
            for aged in self._old | self._young:
                aged.age()
            self._old, self._young = self._young, WeakSet()


class Memo:
    """The replies of one environment; ``young`` is open to the hot path."""

    __slots__ = ("__weakref__", "_memos", "_old", "young")

    def __init__(self, memos: Memos) -> None:
        self.young: dict[Hashable, Entry] = {}
        self._old: dict[Hashable, Entry] = {}
        self._memos = memos

    def recall(self, key: Hashable) -> Entry | None:
        """The entry of ``key``, made young again."""
        entry = self.young.get(key)
        if entry is None and (entry := self._old.get(key)):
            self.keep(key, entry)
        return entry

    def keep(self, key: Hashable, entry: Entry) -> None:
        """Remembers ``entry`` by ``key``."""
        self.young[key] = entry
        self._memos.note(self)

    def age(self) -> None:
        """Makes the young generation the old one, and forgets that."""
        self._old, self.young = self.young, {}
