"""Answers of upstreams: for their TTL (RFC 2308), and a day longer in case no upstream answers any more (RFC 8767).

The adapter around cachetools. The cache is bounded in octets, and so in entries, for each entry counts as `SMALLEST` at
least. Time is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from resolver.forward.exchange import Question
from resolver.wire.messages import Rcode, Reply
from zones.names import EnvironmentId
from zones.records import Opaque, RRset

SIZE = 64 << 20  # octets
SMALLEST = 1024  # octets an entry counts at least: what its Python objects take
FAILURE = 2  # seconds that a failure is cached (RFC 9520 §3.2 asks for 1 to 300)
STALE = 86_400  # seconds after the end of its TTL that an answer is still better than none (RFC 8767 §5)
STALE_TTL = 30  # seconds (RFC 8767 §5)
PREFETCH_SHARE = 0.1  # of the TTL: when less is left, an answer that is in use is fetched again

CacheKey = tuple[EnvironmentId, Question]
"""The environment is part of every key: no environment may learn, not even by timing, what another one asks."""


@dataclass(slots=True)
class CacheEntry:
    """A cached reply. Instants are seconds of a monotonic clock."""

    reply: Reply
    """The reply as it was received, with its full TTLs."""

    stored: float
    """When it was stored."""

    expires: float
    """When its smallest TTL is over."""

    uses: int = 0
    """How often it was found."""

    _aged: tuple[int, Reply] | None = None

    def is_fresh(self, now: float) -> bool:
        return now < self.expires

    def wants_refreshing(self, now: float) -> bool:
        """Whether it is in use and its TTL is almost over."""
        return self.uses > 1 and self.expires - now < (self.expires - self.stored) * PREFETCH_SHARE

    def seconds_passed(self, now: float) -> int:
        """How many seconds of its TTLs are over."""
        return int(now - self.stored)

    def aged(self, now: float) -> Reply:
        """The reply with its TTLs counted down, to 1 at least. Within one second this is the same object."""
        passed = self.seconds_passed(now)
        if self._aged is None or self._aged[0] != passed:
            self._aged = passed, _with_ttls(self.reply, lambda ttl: max(1, ttl - passed))
        return self._aged[1]

    def changes_at(self, now: float) -> float:
        """When `aged` gives another reply than at ``now``, or `wants_refreshing` may begin to be true."""
        refresh_at = self.expires - (self.expires - self.stored) * PREFETCH_SHARE
        next_second = self.stored + (self.seconds_passed(now) + 1)
        return min(next_second, refresh_at) if now < refresh_at else next_second

    def stale(self) -> Reply:
        """The reply as it is given when its TTL is over. It is no longer authentic."""
        return _with_ttls(self.reply, lambda _: STALE_TTL).changed(authentic=False)


class Cache:
    """Replies by environment and question."""

    def __init__(self, size: int = SIZE) -> None:
        self._entries: LRUCache[CacheKey, CacheEntry] = LRUCache(size, getsizeof=_size)
        self._failures: LRUCache[CacheKey, tuple[float, Reply]] = LRUCache(size // SMALLEST // 16)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """How much of its size is used, in octets."""
        return int(self._entries.currsize)

    def find(self, key: CacheKey, now: float) -> CacheEntry | None:
        """The entry of ``key``, fresh or stale; None if there is none."""
        entry = self._entries.get(key)
        if entry is None or now >= entry.expires + STALE:
            return None
        entry.uses += 1
        return entry

    def failure(self, key: CacheKey, now: float) -> Reply | None:
        """The failure that was stored for ``key`` less than `FAILURE` seconds ago; None if there is none."""
        until, reply = self._failures.get(key) or (now, None)
        return reply if now < until else None

    def store(self, key: CacheKey, reply: Reply, now: float) -> None:
        """Stores ``reply`` for its TTL. A failure is stored beside a good answer, never in its place."""
        if reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            self._failures[key] = (now + FAILURE, reply)
            return
        self._failures.pop(key, None)
        entry = CacheEntry(reply, now, now + lifetime(reply))
        if _size(entry) <= self._entries.maxsize:
            self._entries[key] = entry


def lifetime(reply: Reply) -> int:
    """For how many seconds ``reply`` may be given again: at least 1, so that one look-up answers many clients."""
    return min((rrset.ttl for rrset in (*reply.answer, *reply.authority)), default=1)


def _with_ttls(reply: Reply, change: Callable[[int], int]) -> Reply:
    def changed(rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        return tuple(rrset.changed(ttl=change(rrset.ttl)) for rrset in rrsets)

    return reply.changed(answer=changed(reply.answer), authority=changed(reply.authority))


def _size(entry: CacheEntry) -> int:
    rrsets = (*entry.reply.answer, *entry.reply.authority)
    octets = sum(
        len(rrset.name) + sum(len(r.octets) if isinstance(r, Opaque) else 64 for r in rrset.rdatas) for rrset in rrsets
    )
    return max(SMALLEST, octets + 256 * sum(len(rrset.rdatas) for rrset in rrsets))
