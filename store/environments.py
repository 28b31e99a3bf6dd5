"""Environments in the store: each is one document, and each commit replaces it whole.

Nothing writes an environment but `EnvironmentStore.commit` and `EnvironmentStore.delete`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Network

from store.aside import LARGE, Aside, is_large
from store.changes import CHANGES_KEPT
from store.client import Script
from store.connection import Connection
from store.errors import NetworkTaken, Refused, RevisionConflict, Unavailable, Unreplicated
from store.index import DELETED, IndexEntry, decode_entry, join_hosts, read_number
from store.leases import Lease, not_held
from store.scripts import read_script
from store.stored import MAX_DOCUMENT, Stored
from zones import document
from zones.errors import Conflict, Missing
from zones.hosts import hosts_of
from zones.model import Environment
from zones.names import EnvironmentId
from zones.quota import QuotaExceeded

COMMIT_SCRIPT = Script(
    read_script(
        "commit_environment",
        shared=("wrong_type", "holds_lease", "split_hosts", "append_change", "drop_wrong_acks", "note_deleted"),
    )
)
READ_SCRIPT = Script(read_script("read_environments"), only_reads=True)
GIVE_NETWORK_SCRIPT = Script(read_script("give_network"))

KEPT_ASIDE = 7 * 86_400  # seconds for which a damaged document is kept that was replaced: until somebody has looked


class EnvironmentStore:
    """Reads and writes environments. All methods raise `Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys
        self.aside = Aside()
        """Does the work on large documents."""

    async def index(self) -> dict[EnvironmentId, IndexEntry]:
        """The index entry of every environment that exists or existed."""
        return {id_: decode_entry(line) for id_, line in (await self.lines()).items()}

    async def lines(self) -> dict[EnvironmentId, bytes]:
        """The line of the index of every environment that exists or existed."""
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._keys.environments)
        # An id that is no text is none of ours. Its replacement here names no document, so nothing is served for it.
        return {EnvironmentId(id_.decode(errors="replace")): line for id_, line in fields.items()}

    async def stored(self, ids: Iterable[EnvironmentId], most: int = MAX_DOCUMENT) -> dict[EnvironmentId, Stored]:
        """What the store holds of each of ``ids``, all as of one moment; of a document above ``most`` octets its size.

        A document of more than `MAX_DOCUMENT` octets is never read.
        """
        wanted = list(ids)
        if not wanted:
            return {}
        keys = [self._keys.environments, *map(self._keys.environment, wanted)]
        lines, sizes, documents = await self._connection.read(READ_SCRIPT, keys, [min(most, MAX_DOCUMENT), *wanted])
        return {
            id_: Stored.of(id_, line, size, written)
            for id_, line, size, written in zip(wanted, lines, sizes, documents, strict=True)
        }

    async def read(self, id_: EnvironmentId) -> tuple[int, Environment | None]:
        """The newest revision of ``id_`` (0 if it never existed) and the environment (None if it does not exist).

        Raises `Corrupt`.
        """
        stored = (await self.stored([id_]))[id_]
        environment = await self.aside.call(id_, stored.decode) if stored.size > LARGE else stored.decode()
        return (stored.entry.revision if stored.entry else 0), environment

    async def networks(self) -> dict[str, str]:
        """Network → the environment that it belongs to, which may have been deleted since."""
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._keys.networks)
        return {network.decode(errors="replace"): id_.decode(errors="replace") for network, id_ in fields.items()}

    async def owner_of(self, network: IPv6Network) -> str:
        """The environment to which ``network`` belongs or belonged; empty if none was ever in it."""
        async with self._connection.client() as redis:
            found: bytes | None = await redis.hget(self._keys.networks, str(network))
        return found.decode(errors="replace") if found else ""

    async def networks_of(self, id_: EnvironmentId) -> list[str]:
        """The networks that belong to ``id_``: one for each time that it was created."""
        return [network for network, owner in (await self.networks()).items() if owner == id_]

    async def give_network(self, network: str, id_: EnvironmentId, owner: str) -> bool:
        """Makes ``network`` belong to ``id_``, if it belongs to ``owner`` now (empty: to nobody)."""
        given = await self._connection.write(GIVE_NETWORK_SCRIPT, [self._keys.networks], [network, id_, owner])
        return bool(given)

    async def commit(
        self, environment: Environment, expected: int, leases: Sequence[Lease] = (), most: int | None = None
    ) -> None:
        """Makes ``environment`` the newest revision, if the newest so far is ``expected`` (0: it never existed).

        Its document may have ``most`` octets, if that is given; else it raises `zones.quota.QuotaExceeded`.
        What is committed in the name of hosts needs their ``leases``. Raises `RevisionConflict`, `NetworkTaken`, and
        `LeaseNotHeld`, which names the host, unless all of them are held.
        """

        def prepare() -> tuple[bytes, IndexEntry]:
            written = _encode(environment)
            if most is not None and len(written) > most:
                raise QuotaExceeded(environment.id, "document", most, len(written))
            return written, IndexEntry(environment.revision, document.digest(written), hosts_of(environment))

        prepared = await self.aside.call(environment.id, prepare) if is_large(environment) else prepare()
        written, entry = prepared
        await self._write(environment.id, str(environment.network), expected, entry, written, leases)
        document.remember_digest(environment, entry.digest or "")

    async def delete(self, environment: Environment, keep: int = 0) -> int:
        """Deletes ``environment``, if it is still at its revision, and returns the revision of the deletion.

        Its document is kept for ``keep`` seconds, in which `undelete` can bring it back. Raises `RevisionConflict`.
        """
        entry = IndexEntry(environment.revision + 1, None)
        await self._write(environment.id, str(environment.network), environment.revision, entry, b"", keep=keep)
        return entry.revision

    async def undelete(self, environment: Environment, expected: int, kept: int) -> None:
        """Makes ``environment`` the newest revision, in the network that it had before the deletion ``kept``.

        ``kept`` is the revision of that deletion, which must be kept still, and ``expected`` the newest revision so
        far. Raises `RevisionConflict`, and `Missing` if it is kept no more.
        """
        written = _encode(environment)
        entry = IndexEntry(environment.revision, document.digest(written), hosts_of(environment))
        await self._write(environment.id, str(environment.network), expected, entry, written, kept=kept)

    async def overwrite(self, found: Stored, environment: Environment | None, revision: int) -> None:
        """Makes ``environment`` what ``found`` is to be, which is damaged; None deletes it, with ``revision``.

        The document that was there is kept aside for `KEPT_ASIDE` seconds. Raises `RevisionConflict` if the line in the
        index is not what was found any more, and `NetworkTaken`.
        """
        written = b"" if environment is None else _encode(environment)
        hosts = frozenset[str]() if environment is None else hosts_of(environment)
        network = "" if environment is None else str(environment.network)
        entry = IndexEntry(revision, document.digest(written) if written else None, hosts)
        await self._write(found.id, network, 0, entry, written, found=found)

    async def _write(
        self,
        id_: EnvironmentId,
        network: str,
        expected: int,
        entry: IndexEntry,
        written: bytes,
        leases: Sequence[Lease] = (),
        found: Stored | None = None,
        keep: int = 0,
        kept: int | None = None,
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
                    keys.aside(id_),
                    keys.deleted,
                    keys.deleted_document(id_, entry.revision if kept is None else kept),
                    *(keys.lease(lease.host) for lease in leases),
                ],
                [
                    id_,
                    expected,
                    entry.revision,
                    digest,
                    network,
                    written,
                    hosts,
                    epoch,
                    CHANGES_KEPT,
                    b"" if found is None else b"=" + (found.line or b""),
                    KEPT_ASIDE,
                    keep,
                    b"" if kept is None else b"1",
                    *(lease.incarnation for lease in leases),
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
                raise not_held(leases[int(detail) - 1])
            case b"revision":
                raise RevisionConflict(id_, expected, read_number(detail) or 0)
            case b"gone":
                raise Missing(f"the environment {id_!r} that was deleted by revision {kept} is kept no more")
            case b"network":
                raise NetworkTaken(f"the network {network} belongs or belonged to {detail.decode()!r}")

    async def _holds(self, id_: EnvironmentId, entry: IndexEntry) -> bool:
        async with self._connection.client() as redis:
            found = await redis.hget(self._keys.environments, id_)
        return found is not None and decode_entry(found) == entry


def _encode(environment: Environment) -> bytes:
    written = document.encode(environment)
    if len(written) > MAX_DOCUMENT:
        raise Conflict(
            f"environment {environment.id!r} would have a document of {len(written)} octets, and {MAX_DOCUMENT} are the"
            " most: delete what is not used, or share it out over several environments"
        )
    return written
