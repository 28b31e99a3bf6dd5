"""Acknowledgements: which revision of an environment the agent of each host has programmed.

`store.keys.ALL_HOSTS` in place of an environment's id stands for the documents of all hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from store.batches import Batches
from store.client import Script
from store.connection import Connection
from store.index import decode_entry, read_number
from store.keys import ALL_HOSTS
from store.leases import Lease, is_live, not_held
from store.scripts import read_script

ACKNOWLEDGE_SCRIPT = Script(
    read_script("acknowledge_revisions", shared=("wrong_type", "holds_lease", "split_hosts", "drop_wrong_acks"))
)
LAGGING_SCRIPT = Script(read_script("read_lagging"), only_reads=True)
PROGRESS_SCRIPT = Script(read_script("read_progress", shared=("split_hosts",)), only_reads=True)

TOGETHER = 0.0  # seconds: deploys wait for them; what has arrived by the event loop's next turn goes together
MOST_TOGETHER = 50  # acknowledgements in one command; the first one of a session may name each environment of its host

_Acknowledgement = tuple[Lease, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the hosts are with an environment, or with the documents of all hosts, as of one moment."""

    live: frozenset[str]
    """The hosts that are to acknowledge, live, and are able."""
    acknowledged: Mapping[str, int]
    """The newest revision that each host has acknowledged."""

    def lagging(self, revision: int, but: str) -> frozenset[str]:
        """The hosts, ``but`` one, whose acknowledgement of ``revision`` is still to come."""
        return frozenset(host for host in self.live if self.acknowledged.get(host, 0) < revision) - {but}


class AckStore:
    """Reads and writes acknowledgements. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._acknowledgements = Batches(self._acknowledge, seconds=TOGETHER, most=MOST_TOGETHER)

    async def acknowledge(self, lease: Lease, revisions: Mapping[str, int]) -> None:
        """Records that the agent of the host that ``lease`` names has programmed ``revisions``: environment → revision.

        Environments in which the host has no member any more are passed over: nobody waits for it there. Raises
        `store.errors.LeaseNotHeld` unless ``lease`` is held.
        """
        if revisions and not await self._acknowledgements.reply((lease, revisions)):
            raise not_held(lease)

    async def _acknowledge(self, acknowledgements: Sequence[_Acknowledgement]) -> Sequence[int]:
        keys = [self._keys.environments, self._keys.hosts]
        arguments: list[str | int] = [ALL_HOSTS]
        for lease, revisions in acknowledgements:
            keys += [self._keys.lease(lease.host), *map(self._keys.acks, revisions)]
            arguments += [lease.host, lease.incarnation, len(revisions)]
            for id_, revision in revisions.items():
                arguments += [id_, revision]
        async with self._connection.client() as redis:
            taken: Sequence[int] = await ACKNOWLEDGE_SCRIPT.run(redis, keys, arguments)
        return taken

    async def read(self, id_: str) -> dict[str, int]:
        """Host id → the newest revision of ``id_`` that its agent has programmed."""
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._keys.acks(id_))
        return {host.decode(errors="replace"): read_number(revision) or 0 for host, revision in fields.items()}

    async def progress(self, id_: str) -> Progress:
        """How far those hosts are that have a member of ``id_``, or all, if it is `ALL_HOSTS`."""
        keys = self._keys
        hosts, fields, leases = await self._connection.read(
            PROGRESS_SCRIPT,
            [keys.environments, keys.acks(id_), keys.hosts],
            [id_, ALL_HOSTS, keys.lease("")],
        )
        names = [host.decode(errors="replace") for host in hosts]
        acknowledged = zip(fields[::2], fields[1::2], strict=True)
        return Progress(
            frozenset(host for host, lease in zip(names, leases, strict=True) if is_live(lease)),
            {host.decode(errors="replace"): read_number(revision) or 0 for host, revision in acknowledged},
        )

    async def lagging(self, id_: str, revision: int, hosts: Iterable[str]) -> frozenset[str]:
        """Those of ``hosts`` whose acknowledgement of ``revision`` of ``id_`` is still to come.

        A host without a lease does not lag, nor does one that has no member of ``id_`` any more: neither will
        acknowledge.
        """
        if not (wanted := list(hosts)):
            return frozenset()
        keys = [self._keys.environments, self._keys.acks(id_), *map(self._keys.lease, wanted)]
        entry, acknowledged, leases = await self._connection.read(LAGGING_SCRIPT, keys, [id_, *wanted])
        behind = frozenset(
            host
            for host, has, lease in zip(wanted, acknowledged, leases, strict=True)
            if is_live(lease) and (read_number(has or b"0") or 0) < revision
        )
        members = decode_entry(entry).hosts if entry else None
        return behind if members is None else behind & members
