"""The memo: packed replies by the octets that asked for them, so that a name asked twice is parsed once.

A memo belongs to one environment's zone and goes when the zone is replaced; that is all its invalidation. It has two
generations: when the young one is full it becomes the old one, and the old one is forgotten, but for what is asked
again in between. So names that are asked often stay, and a flood of made-up ones passes through.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from weakref import WeakSet

from resolver.counts import Tally

GENERATION = 2048  # entries; names that one environment asks over and over are far fewer
BUDGET = 100_000  # entries of all memos: some 100 MB at the most, whoever asks whatever

Entry = tuple[Iterator[bytes], Tally]
"""Replies without their ID, taken in turn for ever, and the tally that counts them."""


class Budget:
    """Bounds all memos together: when ``entries`` have been added, all are emptied."""

    def __init__(self, entries: int = BUDGET) -> None:
        self._entries = entries
        self._spent = 0
        self._memos: WeakSet[Memo] = WeakSet()

    def new_memo(self) -> Memo:
        memo = Memo(self)
        self._memos.add(memo)
        return memo

    def spend(self) -> None:
        """Notes one more entry somewhere."""
        self._spent += 1
        if self._spent >= self._entries:
            self._spent = 0
            for memo in self._memos:
                memo.clear()


class Memo:
    """Bounded by two generations of `GENERATION` entries; ``young`` is open to the hot path."""

    __slots__ = ("__weakref__", "_budget", "_old", "young")

    def __init__(self, budget: Budget) -> None:
        self.young: dict[Hashable, Entry] = {}
        self._old: dict[Hashable, Entry] = {}
        self._budget = budget

    def recall(self, key: Hashable) -> Entry | None:
        """The entry of ``key``, made young again."""
        entry = self.young.get(key)
        if entry is None and (entry := self._old.get(key)):
            self.keep(key, entry)
        return entry

    def keep(self, key: Hashable, entry: Entry) -> None:
        if len(self.young) >= GENERATION:
            self._old = self.young
            self.young = {}
        self.young[key] = entry
        self._budget.spend()

    def clear(self) -> None:
        self.young.clear()
        self._old.clear()
