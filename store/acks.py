"""Acknowledgements: which revision of an environment the agent of each host has programmed.

`store.keys.ALL_HOSTS` in place of an environment's id stands for the documents of all hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

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

    async def acknowledge(self, lease: Lease, revisions: Mapping[str, int]) -> None:
        """Records that the agent of the host that ``lease`` names has programmed ``revisions``: environment → revision.

        Environments in which the host has no member any more are passed over: nobody waits for it there. Raises
        `store.errors.LeaseNotHeld` unless ``lease`` is held.
        """
        if not revisions:
            return
        keys = self._keys
        async with self._connection.client() as redis:
            taken = await ACKNOWLEDGE_SCRIPT.run(
                redis,
                [keys.environments, keys.hosts, keys.lease(lease.host), *map(keys.acks, revisions)],
                [lease.host, ALL_HOSTS, lease.incarnation, *chain.from_iterable(revisions.items())],
            )
        if not taken:
            raise not_held(lease)

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
