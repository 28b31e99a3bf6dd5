"""Answers of upstreams that are asked for again and again, octet for octet: packed once, as long as they are fresh.

The TTLs of a cached answer change each second (`cache`), so without this each query for it would be parsed, and each
reply packed. A `RepeatedReply` stands in the packet cache, as the replies from a zone do. It looks at nothing but the
clock until a TTL changes. Then the cache must still have the very same answer, and the TTLs are counted down where
they stand in the octets. It ends when the forwarder must decide anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from resolver.forward.cache import Cache, CacheEntry, CacheKey
from resolver.wire.ttls import count_down, find_ttls


class RepeatedReply(Iterator[bytes]):
    """``packed``, the reply without its ID that was packed at ``now`` from ``entry``, the one of ``key`` in ``cache``.

    It ends when the answer is not fresh any more, should be fetched again, was replaced, or is no longer cached; and
    where not ``all_age``, that is where not all TTLs are those of the answer, with the first change of one. ``note`` is
    called with each reply, and ``clock`` gives the time in seconds.
    """

    # The entry is not among them: what the cache has dropped to be bounded must not live on here.
    __slots__ = (
        "_all_age", "_cache", "_clock", "_key", "_note", "_packed", "_passed", "_stored", "_ttls", "_until", "_uses",
    )  # fmt: skip

    def __init__(
        self,
        packed: bytes,
        *,
        cache: Cache,
        key: CacheKey,
        entry: CacheEntry,
        now: float,
        all_age: bool,
        clock: Callable[[], float],
        note: Callable[[], None],
    ) -> None:
        self._packed = packed
        self._cache = cache
        self._key = key
        self._stored = entry.stored
        self._passed = entry.seconds_passed(now)
        self._until = entry.changes_at(now)
        self._uses = 0  # since the cache was asked last
        self._ttls: Sequence[int] | None = None  # where they are, which is looked for when they must be changed
        self._all_age = all_age
        self._clock = clock
        self._note = note

    def __next__(self) -> bytes:
        now = self._clock()
        if now >= self._until:
            self._renew(now)
        self._uses += 1
        self._note()
        return self._packed

    def _renew(self, now: float) -> None:
        """Counts the TTLs down to ``now``. Raises `StopIteration` where that is not enough."""
        entry = self._cache.find(self._key, now)
        if entry is None or entry.stored != self._stored or not self._all_age:
            raise StopIteration
        entry.uses += self._uses
        self._uses = 0
        if not entry.is_fresh(now) or entry.wants_refreshing(now):
            raise StopIteration
        if self._ttls is None:
            self._ttls = find_ttls(self._packed)
        passed = entry.seconds_passed(now)
        self._packed = count_down(self._packed, self._ttls, passed - self._passed)
        self._passed = passed
        self._until = entry.changes_at(now)
