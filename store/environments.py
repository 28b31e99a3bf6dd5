"""Environments in the store: each is one document, and each commit replaces it whole.

Nothing writes an environment but `EnvironmentStore.commit` and `EnvironmentStore.delete`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from ipaddress import IPv6Network

from store.changes import CHANGES_KEPT
from store.client import Script
from store.connection import Connection
from store.errors import Corrupt, NetworkTaken, Refused, RevisionConflict, Unavailable, Unreplicated
from store.index import DELETED, IndexEntry, decode_entry, join_hosts
from store.leases import Lease, not_held
from store.scripts import read_script
from zones import document
from zones.hosts import hosts_of
from zones.model import Environment
from zones.names import EnvironmentId

COMMIT_SCRIPT = Script(
    read_script(
        "commit_environment", shared=("wrong_type", "holds_lease", "split_hosts", "append_change", "drop_wrong_acks")
    )
)
READ_SCRIPT = Script(read_script("read_environments"))


class EnvironmentStore:
    """Reads and writes environments. All methods raise `Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys

    async def index(self) -> dict[EnvironmentId, IndexEntry]:
        """The index entry of every environment that exists or existed."""
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._keys.environments)
        # An id that is no text is none of ours. Its replacement here names no document, so nothing is served for it.
        return {EnvironmentId(id_.decode(errors="replace")): decode_entry(value) for id_, value in fields.items()}

    async def documents(
        self, ids: Iterable[EnvironmentId]
    ) -> dict[EnvironmentId, tuple[IndexEntry | None, bytes | None]]:
        """The index entry and the document of each of ``ids``, all as of one moment; None for each that is missing."""
        wanted = list(ids)
        if not wanted:
            return {}
        keys = [self._keys.environments, *map(self._keys.environment, wanted)]
        entries, documents = await self._connection.read(READ_SCRIPT, keys, wanted)
        return {
            id_: (decode_entry(entry) if entry else None, read)
            for id_, entry, read in zip(wanted, entries, documents, strict=True)
        }

    async def read(self, id_: EnvironmentId) -> tuple[int, Environment | None]:
        """The newest revision of ``id_`` (0 if it never existed) and the environment (None if it does not exist).

        Raises `Corrupt`.
        """
        entry, read = (await self.documents([id_]))[id_]
        if read is None:
            return (entry.revision if entry else 0), None
        try:
            environment = document.decode(read)
        except ValueError as error:
            raise Corrupt(f"{self._keys.environment(id_)}: {error}") from error
        return environment.revision, environment

    async def commit(self, environment: Environment, expected: int, lease: Lease | None = None) -> None:
        """Makes ``environment`` the newest revision, if the newest so far is ``expected`` (0: it never existed).

        An agent commits with its ``lease``. Raises `RevisionConflict`, `NetworkTaken`, and `LeaseNotHeld` unless the
        lease is held.
        """
        written = document.encode(environment)
        entry = IndexEntry(environment.revision, document.digest(written), hosts_of(environment))
        await self._write(environment.id, environment.network, expected, entry, written, lease)

    async def delete(self, environment: Environment) -> int:
        """Deletes ``environment``, if it is still at its revision, and returns the revision of the deletion.

        Raises `RevisionConflict`.
        """
        entry = IndexEntry(environment.revision + 1, None)
        await self._write(environment.id, environment.network, environment.revision, entry, b"")
        return entry.revision

    async def _write(
        self,
        id_: EnvironmentId,
        network: IPv6Network,
        expected: int,
        entry: IndexEntry,
        written: bytes,
        lease: Lease | None = None,
    ) -> None:
        keys, digest, hosts = self._keys, entry.digest or DELETED, join_hosts(entry.hosts or ())
        epoch = secrets.token_hex(8)
        try:
            outcome, detail = await self._connection.write(
                COMMIT_SCRIPT,
                [
                    keys.epoch,
                    keys.environments,
                    keys.environment(id_),
                    keys.networks,
                    keys.changes,
                    keys.acks(id_),
                    keys.lease(lease.host if lease else ""),
                ],
                [
                    id_,
                    expected,
                    entry.revision,
                    digest,
                    str(network),
                    written,
                    hosts,
                    epoch,
                    CHANGES_KEPT,
                    lease.incarnation if lease else "",
                ],
            )
        except (Refused, Unreplicated):
            raise
        except Unavailable:
            # The server may have made the commit though its reply was lost: the index says so.
            if not self._connection.waits and await self._holds(id_, entry):
                return
            raise
        match outcome:
            case b"lease":
                raise not_held(lease)
            case b"revision":
                raise RevisionConflict(id_, expected, int(detail))
            case b"network":
                raise NetworkTaken(f"the network {network} belongs or belonged to {detail.decode()!r}")

    async def _holds(self, id_: EnvironmentId, entry: IndexEntry) -> bool:
        async with self._connection.client() as redis:
            found = await redis.hget(self._keys.environments, id_)
        return found is not None and decode_entry(found) == entry
