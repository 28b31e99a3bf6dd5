"""What upstreams answered: for as long as they said (RFC 2308), and a day longer in case they fall silent (RFC 8767).

The wall around cachetools. Bounded in octets, and so in entries, for each counts as `SMALLEST` at least. Time is an
argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cachetools import LRUCache

from resolver.forward.exchange import Question
from resolver.messages import Rcode, Reply
from zones.names import EnvironmentId
from zones.records import Opaque, RRset, RRType, Soa

SIZE = 64 << 20  # octets
SMALLEST = 1024  # octets an entry counts at least: what its Python objects take
LONGEST = 86_400  # seconds; a longer TTL is taken for this (RFC 8767 §4 suggests a week at most)
LONGEST_NEGATIVE = 300  # seconds; who asks for a name that is being made should not wait for hours (RFC 2308 §5)
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

    def is_fresh(self, now: float) -> bool:
        return now < self.expires

    def wants_refreshing(self, now: float) -> bool:
        """Whether it is in use and about to end."""
        return self.uses > 1 and self.expires - now < (self.expires - self.stored) * PREFETCH_SHARE

    def aged(self, now: float) -> Reply:
        """The reply with its TTLs counted down, at least 1; those of a stale one are `STALE_TTL`."""
        gone = int(now - self.stored)

        def age(rrset: RRset) -> RRset:
            ttl = max(1, min(rrset.ttl, LONGEST) - gone) if self.is_fresh(now) else STALE_TTL
            return replace(rrset, ttl=ttl)

        reply = self.reply
        return replace(reply, answer=tuple(map(age, reply.answer)), authority=tuple(map(age, reply.authority)))


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
    ttls = [rrset.ttl for rrset in reply.answer]
    soas = [(rrset.ttl, rrset.rdatas[0]) for rrset in reply.authority if rrset.rtype == RRType.SOA]
    # RFC 2308 §5: the lesser of the SOA's own TTL and its minimum.
    ttls += [min(ttl, rdata.minimum, LONGEST_NEGATIVE) for ttl, rdata in soas if isinstance(rdata, Soa)]
    return max(1, min((*ttls, LONGEST))) if ttls else 1


def _size(entry: Entry) -> int:
    rrsets = (*entry.reply.answer, *entry.reply.authority)
    octets = sum(
        len(rrset.name) + sum(len(r.octets) if isinstance(r, Opaque) else 64 for r in rrset.rdatas) for rrset in rrsets
    )
    return max(SMALLEST, octets + 256 * sum(len(rrset.rdatas) for rrset in rrsets))
