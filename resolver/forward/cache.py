"""What upstreams answered: for as long as they said (RFC 2308), and a day longer in case they fall silent (RFC 8767).

The wall around cachetools. Bounded in octets, and so in entries, for each counts as `SMALLEST` at least. Time is an
argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cachetools import LRUCache

from resolver.forward.exchange import Question
from resolver.wire.messages import Rcode, Reply
from zones.names import EnvironmentId
from zones.records import Opaque, RRset

SIZE = 64 << 20  # octets
SMALLEST = 1024  # octets an entry counts at least: what its Python objects take
FAILURE = 2  # seconds that a failure is remembered (RFC 9520 §3.2 asks for 1 to 300)
STALE = 86_400  # seconds after its end that an answer is still better than none (RFC 8767 §5)
STALE_TTL = 30  # seconds (RFC 8767 §5)
PREFETCH_SHARE = 0.1  # of its TTL left, an answer that is in use is fetched anew

Key = tuple[EnvironmentId, Question]
"""The environment is part of every key: one must not see, not even by the clock, what another asks."""


@dataclass(slots=True)
class Entry:
    """A reply, and from when to when it holds. ``uses`` counts how often it was given."""

    reply: Reply
    stored: float
    expires: float
    uses: int = 0
    _said: tuple[int, Reply] | None = None

    def is_fresh(self, now: float) -> bool:
        return now < self.expires

    def wants_refreshing(self, now: float) -> bool:
        """Whether it is in use and about to end."""
        return self.uses > 1 and self.expires - now < (self.expires - self.stored) * PREFETCH_SHARE

    def aged(self, now: float) -> Reply:
        """The reply with its TTLs counted down, at least 1. In one and the same second it is one and the same."""
        gone = int(now - self.stored)
        if self._said is None or self._said[0] != gone:
            self._said = gone, _with_ttls(self.reply, lambda ttl: max(1, ttl - gone))
        return self._said[1]

    def stale(self) -> Reply:
        """The reply as it is given after its end: nobody vouches for it any more."""
        return replace(_with_ttls(self.reply, lambda _: STALE_TTL), authentic=False)


class Cache:
    """Replies by environment and question."""

    def __init__(self, size: int = SIZE) -> None:
        self._entries: LRUCache[Key, Entry] = LRUCache(size, getsizeof=_size)
        self._failures: LRUCache[Key, tuple[float, Reply]] = LRUCache(size // SMALLEST // 16)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """How much of its size is used."""
        return int(self._entries.currsize)

    def find(self, key: Key, now: float) -> Entry | None:
        """What is known of ``key``, fresh or stale."""
        entry = self._entries.get(key)
        if entry is None or now >= entry.expires + STALE:
            return None
        entry.uses += 1
        return entry

    def failure(self, key: Key, now: float) -> Reply | None:
        """The failure that ``key`` met a moment ago."""
        until, reply = self._failures.get(key) or (now, None)
        return reply if now < until else None

    def store(self, key: Key, reply: Reply, now: float) -> None:
        """Keeps ``reply`` for as long as it says. A failure is kept beside a good answer, never in its place."""
        if reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            self._failures[key] = (now + FAILURE, reply)
            return
        self._failures.pop(key, None)
        entry = Entry(reply, now, now + lifetime(reply))
        if _size(entry) <= self._entries.maxsize:
            self._entries[key] = entry


def lifetime(reply: Reply) -> int:
    """For how many seconds ``reply`` may be said again: at least 1, so that one flight serves all who ask at once."""
    return min((rrset.ttl for rrset in (*reply.answer, *reply.authority)), default=1)


def _with_ttls(reply: Reply, change: Callable[[int], int]) -> Reply:
    def changed(rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        return tuple(replace(rrset, ttl=change(rrset.ttl)) for rrset in rrsets)

    return replace(reply, answer=changed(reply.answer), authority=changed(reply.authority))


def _size(entry: Entry) -> int:
    rrsets = (*entry.reply.answer, *entry.reply.authority)
    octets = sum(
        len(rrset.name) + sum(len(r.octets) if isinstance(r, Opaque) else 64 for r in rrset.rdatas) for rrset in rrsets
    )
    return max(SMALLEST, octets + 256 * sum(len(rrset.rdatas) for rrset in rrsets))
