"""Hosts in the store: each is one document, which its agent registers. That the agent lives, its lease says (`leases`).

Nothing writes the document of a host but `HostStore.register` and `HostStore.forget`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress

from store.changes import CHANGES_KEPT
from store.client import CHECK_IT, Script
from store.connection import Connection
from store.errors import EndpointTaken, HostChanged, KeyTaken, Refused, Unavailable, Unreplicated, WrongKey
from store.index import read_number
from store.keys import ALL_HOSTS
from store.leases import Lease, not_held
from store.scripts import read_script
from zones.errors import Invalid
from zones.hosts import Host, Hosts, decode_host, encode_host

MAX_ATTEMPTS = 20  # to change a host; changes of hosts are rare, so more than a few attempts hardly ever happen

CHANGE_SCRIPT = Script(
    read_script("change_host", shared=("wrong_type", "holds_lease", "append_change", "drop_wrong_acks"))
)
READ_SCRIPT = Script(read_script("read_hosts"), only_reads=True)


class HostStore:
    """Reads and writes hosts. All methods raise `Unavailable`.

    Those that take a ``lease`` raise `store.errors.LeaseNotHeld` unless it is held: an agent changes its own host with
    it. Without one, an administrator asks.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys

    async def read(self) -> Hosts:
        """All hosts that are registered."""
        keys = self._keys
        revision, fields, down = await self._connection.read(
            READ_SCRIPT, [keys.hosts_revision, keys.hosts, keys.hosts_down]
        )
        hosts, unreadable = {}, {}
        for field, read in zip(fields[::2], fields[1::2], strict=True):
            id_ = field.decode(errors="replace")
            try:
                hosts[id_] = _decode(id_, read)
            except Invalid as error:
                unreadable[id_] = str(error)
        counted = read_number(revision or b"0")
        if counted is None:
            raise WrongKey(f"store {self._connection.url}: {self._keys.hosts_revision} holds no number: {CHECK_IT}")
        return Hosts(counted, hosts, unreadable, frozenset(host.decode(errors="replace") for host in down))

    async def registered(self, ids: Iterable[str]) -> frozenset[str]:
        """Those of ``ids`` that are registered, be their documents readable or not."""
        if not (wanted := list(ids)):
            return frozenset()
        async with self._connection.client() as redis:
            found = await redis.hmget(self._keys.hosts, wanted)
        return frozenset(id_ for id_, document in zip(wanted, found, strict=True) if document is not None)

    async def down(self) -> frozenset[str]:
        """The hosts that are down: `store.leases` says when."""
        async with self._connection.client() as redis:
            found = await redis.hgetall(self._keys.hosts_down)
        return frozenset(host.decode(errors="replace") for host in found)

    async def find(self, id_: str) -> Host | None:
        """The host ``id_``; None if it is not registered, or its document cannot be read."""
        async with self._connection.client() as redis:
            read = await redis.hget(self._keys.hosts, id_)
        with suppress(Invalid):
            return _decode(id_, read) if read else None
        return None

    async def register(self, host: Host, before: Host | None = None, lease: Lease | None = None) -> int:
        """Writes the document of ``host`` and returns the revision of all hosts. Doing it again changes nothing.

        With ``before``, it does so only if the store holds ``before`` until then, and raises `HostChanged` if not.
        Raises `KeyTaken` or `EndpointTaken` if another host, alive or not, has a key or the endpoint of ``host``.
        """
        try:
            outcome, detail = await self._write(
                host.id, encode_host(host), encode_host(before) if before else b"", lease
            )
        except (Refused, Unreplicated):
            raise
        except Unavailable:
            # The server may have made the change though its reply was lost, as with a commit.
            found = await self.read()
            if not self._connection.waits and found.hosts.get(host.id) == host:
                return found.revision
            raise
        match outcome:
            case b"lease":
                raise not_held(lease)
            case b"changed":
                raise HostChanged(f"host {host.id!r} was changed by somebody else just now: look at it again")
            case b"key":
                raise KeyTaken(
                    f"host {detail.decode()!r} has this public key, and no two can share one: remove the private key"
                    " that was copied, and a new one is made"
                )
            case b"endpoint":
                raise EndpointTaken(
                    f"host {detail.decode()!r} is registered at {host.endpoint}: give this one another endpoint, or"
                    " forget that one if it is gone"
                )
        return int(detail)

    async def change(
        self, id_: str, change: Callable[[Host], Host], lease: Lease | None = None
    ) -> tuple[int, Host] | None:
        """Replaces the host ``id_`` by what ``change`` makes of it; reads it again if another client was first.

        Returns the revision of all hosts and the new host, or None if ``id_`` is not registered. Raises as `register`
        does.
        """
        for _ in range(MAX_ATTEMPTS):
            before = (await self.read()).hosts.get(id_)
            if before is None:
                return None
            after = change(before)
            try:
                return await self.register(after, before, lease), after
            except HostChanged as changed:
                last = changed
        raise last

    async def forget(self, id_: str, lease: Lease | None = None) -> None:
        """Removes the document, the lease and the credential of the host ``id_``. Environments that name it stay."""
        outcome, _ = await self._write(id_, b"", lease=lease)
        if outcome == b"lease":
            raise not_held(lease)

    async def _write(
        self, id_: str, written: bytes, before: bytes = b"", lease: Lease | None = None
    ) -> tuple[bytes, bytes]:
        keys = self._keys
        outcome, detail = await self._connection.write(
            CHANGE_SCRIPT,
            [
                keys.epoch,
                keys.hosts,
                keys.hosts_revision,
                keys.changes,
                keys.lease(id_),
                keys.acks(ALL_HOSTS),
                keys.credentials,
                keys.enrolments,
                keys.hosts_down,
                keys.hosts_missed,
            ],
            [id_, written, secrets.token_hex(8), CHANGES_KEPT, before, lease.incarnation if lease else ""],
        )
        return outcome, detail


def _decode(id_: str, read: bytes) -> Host:
    host = decode_host(read)
    if host.id != id_:
        raise Invalid(f"the document says that it is {host.id!r}'s", field="id")
    return host
