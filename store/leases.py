"""Leases: the agent of each host holds one for as long as it lives, and no other agent can hold it at that time.

A host's id is a name, and its keys can be copied with a disk. So an agent has an incarnation, which is not copied, and
the lease says which one is the host. What is done in the name of a host needs its lease.

A host whose lease has been gone for a grace is *down*: its instances are not answered any more. That is decided in one
place, by a script at the store, and announced as a change, so that all who answer say the same. The next renewal ends
it, in the same way and at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from store.batches import Batches
from store.changes import CHANGES_KEPT
from store.client import Script
from store.connection import Connection
from store.errors import LeaseNotHeld
from store.scripts import read_script

RENEW_SCRIPT = Script(read_script("renew_leases", shared=("wrong_type", "append_change")))
JUDGE_SCRIPT = Script(read_script("judge_leases", shared=("wrong_type", "append_change")))

LOOK_AT_LEAST = 250  # milliseconds between two looks at all leases, however many control planes ask for one
LOOK_AT_MOST = 5_000  # milliseconds; after a longer break leases may have ended because nobody could renew them
SETTLE = 30_000  # milliseconds after a break in which nobody is down: a thousand agents need some seconds to come back
UNINTERRUPTED = 2_000  # milliseconds between two looks; after a longer break leases may have ended while holders live
CLAIM_KEPT = 30_000  # milliseconds for which the holder is told of a claim that was refused; a claimant tries again
TOGETHER = 0.02  # seconds in which renewals become one command; of a thousand agents, each every 1.5 s, some 13 do
MOST_TOGETHER = 200  # renewals in one command, which the server works on for two milliseconds at most
_ABLE, _UNABLE = "able", "unable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one look at all leases has decided. Hosts are in the order of their ids, whatever the store's is."""

    down: tuple[str, ...]
    """The hosts that are down from now on."""
    up: tuple[str, ...]
    """The hosts that were down and have a lease again."""
    missed: tuple[str, ...]
    """The hosts without a lease that are not down, or not yet; none where somebody else has just looked."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The claim of one agent to be a host."""

    host: str
    """The id of the host."""
    incarnation: str
    """What tells the agent from every other one that says it is this host. One word."""


@dataclass(frozen=True, slots=True)
class _Renewal:
    lease: Lease
    milliseconds: int
    state: str
    where: str


class LeaseStore:
    """Renews and reads leases. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._renewals = Batches(self._renew, seconds=TOGETHER, most=MOST_TOGETHER)

    async def renew(self, lease: Lease, milliseconds: int, *, is_able: bool = True, where: str = "") -> str:
        """Makes ``lease`` end ``milliseconds`` from now; takes it where nobody holds it.

        A host that is not ``is_able`` keeps its lease, but is not live: nobody waits for it. Returns where another
        agent runs that has claimed to be this host lately, empty for none; ``where`` is that of this one, in words.
        Raises `LeaseNotHeld` where another agent holds the lease. After an outage, in which nobody could renew one,
        that is the one that held it last, for as long as a lease is held: a copy of its disk must not be faster.
        """
        renewal = _Renewal(lease, milliseconds, _ABLE if is_able else _UNABLE, where)
        outcome, detail = await self._renewals.reply(renewal)
        if outcome == b"held":
            raise LeaseNotHeld(f"another agent is the host {lease.host!r}, and lives")
        return str(detail.decode(errors="replace"))

    async def _renew(self, renewals: Sequence[_Renewal]) -> Sequence[tuple[bytes, bytes]]:
        keys = self._keys
        names = chain.from_iterable((keys.lease(one.lease.host), keys.claim(one.lease.host)) for one in renewals)
        wanted = chain.from_iterable(
            (one.lease.host, one.lease.incarnation, one.state, one.milliseconds, one.where) for one in renewals
        )
        async with self._connection.client() as redis:
            outcomes: Sequence[tuple[bytes, bytes]] = await RENEW_SCRIPT.run(
                redis,
                [keys.hosts_down, keys.hosts_revision, keys.changes, keys.hosts_missed, *names],
                [CHANGES_KEPT, CLAIM_KEPT, UNINTERRUPTED, *wanted],
            )
        return outcomes

    async def judge(
        self, grace: int, *, least: int = LOOK_AT_LEAST, most: int = LOOK_AT_MOST, settle: int = SETTLE
    ) -> Verdict:
        """Decides which hosts are down, for everybody: those whose lease has been gone for ``grace`` milliseconds.

        It must be called all the time by somebody who lets agents renew their leases. A break of more than ``most``
        milliseconds begins the time of all anew, with ``settle`` more; so does a moment in which no host has a lease.
        """
        keys = self._keys
        found = await self._connection.read(
            JUDGE_SCRIPT,
            [keys.hosts, keys.hosts_down, keys.hosts_missed, keys.hosts_revision, keys.changes],
            [keys.lease(""), grace, least, most, settle, CHANGES_KEPT, UNINTERRUPTED],
        )
        return Verdict(*(tuple(sorted(host.decode(errors="replace") for host in hosts)) for hosts in found))

    async def live(self, hosts: Iterable[str]) -> frozenset[str]:
        """Those of ``hosts`` whose agents live, and can do what they are told."""
        if not (wanted := list(hosts)):
            return frozenset()
        async with self._connection.client() as redis:
            leases = await redis.mget([self._keys.lease(host) for host in wanted])
        return frozenset(host for host, lease in zip(wanted, leases, strict=True) if is_live(lease))


def is_live(lease: bytes | None) -> bool:
    """Whether ``lease``, as it was read, is that of a host that lives and is able."""
    return lease is not None and not lease.endswith(b" unable")


def not_held(lease: Lease | None) -> LeaseNotHeld:
    """The error of a script that found that ``lease`` is not held."""
    host = lease.host if lease else ""
    return LeaseNotHeld(f"this agent does not hold the lease of the host {host!r}: nothing was changed", host)
