"""Environments in the store: each is one document, to which the differences are added that commits have made since.

A small document is replaced whole with each commit. To a large one a difference is added, and after many of them it is
written whole once more: so a commit costs what it changes, and who reads all of it reads at most twice its size.

Nothing writes an environment but `EnvironmentStore.commit` and `EnvironmentStore.delete`.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Network

from store.aside import LARGE, Aside, is_large
from store.changes import CHANGES_KEPT
from store.client import Script
from store.connection import Connection
from store.errors import NetworkTaken, Refused, RevisionConflict, Unavailable, Unreplicated
from store.index import DELETED, IndexEntry, decode_entry, encode_entry, join_hosts, read_number
from store.leases import Lease, not_held
from store.newest import Newest, NewestKept
from store.scripts import read_script
from store.stored import MAX_DOCUMENT, Known, Stored
from support.breaks import Breaks, pause
from zones import document, parts
from zones.errors import Conflict, Missing
from zones.hosts import hosts_of
from zones.model import Environment
from zones.names import EnvironmentId
from zones.parts import Difference
from zones.quota import QuotaExceeded

COMMIT_SCRIPT = Script(
    read_script(
        "commit_environment",
        shared=("wrong_type", "holds_lease", "split_hosts", "append_change", "drop_wrong_acks", "note_deleted"),
    )
)
READ_SCRIPT = Script(read_script("read_environments"), only_reads=True)
GIVE_NETWORK_SCRIPT = Script(read_script("give_network"))

WHOLE_UP_TO = 16 << 10  # octets; some 150 instances, which are written and read in less than a millisecond
VERY_LARGE = 4 << 20  # octets of a document; in a smaller one it is found within some milliseconds what has changed
SMALLER = 4  # times smaller than the document must a difference be: else it is no gain
WRITTEN_KEPT = 256  # documents of the last commits, 4 MB at most; the watcher of this process hears of them at once
MOST_DIFFERENCES = 2_000  # to one document, each some microseconds to whoever reads it whole

NOTHING_KNOWN: Mapping[EnvironmentId, Known] = {}

KEPT_ASIDE = 7 * 86_400  # seconds for which a damaged document is kept that was replaced: until somebody has looked


class EnvironmentStore:
    """Reads and writes environments. All methods raise `Unavailable`."""

    def __init__(self, connection: Connection, *, whole: bool = False) -> None:
        """With ``whole`` each commit writes its document whole, so that releases read it that know no differences."""
        self._connection = connection
        self._keys = connection.keys
        self._whole = whole
        self.kept = NewestKept()
        """What the last commits have written or read."""
        self.aside = Aside()
        """Does the work on large documents."""
        self._written: OrderedDict[EnvironmentId, Stored] = OrderedDict()  # by the last commits, small ones alone

    async def index(self) -> dict[EnvironmentId, IndexEntry]:
        """The index entry of every environment that exists or existed."""
        return {id_: decode_entry(line) for id_, line in (await self.lines()).items()}

    async def lines(self) -> dict[EnvironmentId, bytes]:
        """The line of the index of every environment that exists or existed."""
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._keys.environments)
        # An id that is no text is none of ours. Its replacement here names no document, so nothing is served for it.
        return {EnvironmentId(id_.decode(errors="replace")): line for id_, line in fields.items()}

    def written(self, id_: EnvironmentId, revision: int, digest: str) -> Stored | None:
        """What the store got with the commit of ``revision``, if this process made it of late; else it is to be read.

        Only for who has heard of that commit: what was written here may have been refused.
        """
        found = self._written.get(id_)
        return found if found and found.entry and (found.entry.revision, found.digest) == (revision, digest) else None

    async def stored(
        self,
        ids: Iterable[EnvironmentId],
        most: int = MAX_DOCUMENT,
        known: Mapping[EnvironmentId, Known] = NOTHING_KNOWN,
    ) -> dict[EnvironmentId, Stored]:
        """What the store holds of each of ``ids``, all as of one moment; of a document above ``most`` octets its size.

        Of those in ``known`` only what has followed, where that can be told. A document of more than `MAX_DOCUMENT`
        octets is never read.
        """
        wanted = list(ids)
        if not wanted:
            return {}
        found = await self._read(wanted, most, known)
        # The same revision can have another digest in a data set that has lost some commits and made others.
        strange = [id_ for id_, one in found.items() if one.since and (not one.entry or one.digest != one.entry.digest)]
        return found | (await self._read(strange, most, NOTHING_KNOWN) if strange else {})

    async def _read(
        self, ids: Sequence[EnvironmentId], most: int, known: Mapping[EnvironmentId, Known]
    ) -> dict[EnvironmentId, Stored]:
        keys, arguments = [self._keys.environments], list[str | int]([min(most, MAX_DOCUMENT)])
        for id_ in ids:
            keys += self._keys.environment(id_), self._keys.differences(id_)
            has = known.get(id_)
            arguments += (id_, has.revision, has.digest) if has else (id_, "", "")
        if len(ids) > 1:
            await pause()  # the client library takes its time to make a command of many words
        read = await self._connection.read(READ_SCRIPT, keys, arguments)
        await pause()  # for what came while the library decoded it
        stored, breaks = dict[EnvironmentId, Stored](), Breaks()
        for id_, line, size, written, found in zip(ids, *read, strict=True):
            since = known.get(id_) if written is None and size > 0 else None
            stored[id_] = Stored.of(id_, line, size, written, found, since)
            await breaks.take()
        return stored

    async def read(self, id_: EnvironmentId) -> tuple[int, Environment | None]:
        """The newest revision of ``id_`` (0 if it never existed) and the environment (None if it does not exist).

        Raises `Corrupt`.
        """
        revision, newest = await self.newest(id_)
        return revision, newest.environment if newest else None

    async def newest(self, id_: EnvironmentId) -> tuple[int, Newest | None]:
        """The newest revision of ``id_`` and the environment, as `read`; what is known of it is not read again.

        Raises `Corrupt`.
        """
        held = self.kept.get(id_)
        stored = (await self.stored([id_], known={id_: held.known} if held else NOTHING_KNOWN))[id_]
        if held and stored.since and stored.size == held.written:
            if stored.differences:
                followed = stored.follow(held.environment)
                found = parts.difference(held.environment, followed)
                held = held.followed_by(followed, found, stored.digest, stored.differences)
                self.kept.put(held)
            return held.environment.revision, held
        self.kept.forget(id_)
        if stored.since:
            stored = (await self.stored([id_]))[id_]  # somebody has changed the document by hand
        whole = stored

        def decode() -> Newest | None:
            environment = whole.decode()
            return Newest.of(whole, environment) if environment else None

        newest = await self.aside.call(id_, decode) if stored.size > LARGE else decode()
        self._keep(newest)
        return (stored.entry.revision if stored.entry else 0), newest

    def known_hosts(self, environment: Environment) -> frozenset[str] | None:
        """The hosts that have a member of ``environment``; None where it is large, and not what is kept."""
        newest = self.kept.get(environment.id)
        if newest and newest.environment is environment:
            return newest.hosts
        return None if is_large(environment) else hosts_of(environment)

    def _keep(self, newest: Newest | None) -> None:
        # A small one is read whole each time, so that nobody builds on what somebody has changed by hand.
        if newest and newest.octets >= WHOLE_UP_TO:
            self.kept.put(newest)

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
        self,
        environment: Environment,
        expected: int,
        leases: Sequence[Lease] = (),
        most: int | None = None,
        before: Newest | None = None,
    ) -> None:
        """Makes ``environment`` the newest revision, if the newest so far is ``expected`` (0: it never existed).

        Where that is ``before``, only the difference to it is written, if that is much the smaller. The document may
        have ``most`` octets, if that is given; else it raises `zones.quota.QuotaExceeded`. What is committed in the
        name of hosts needs their ``leases``. Raises `RevisionConflict`, `NetworkTaken`, and `LeaseNotHeld`, which names
        the host, unless all of them are held.
        """
        added = await self._difference(before, environment) if before else None
        written, after = added or await self._whole_of(environment)
        if most is not None and after.octets > most:
            raise QuotaExceeded(environment.id, "document", most, after.octets)
        entry = IndexEntry(environment.revision, after.digest, after.hosts)
        of = before if added else None
        self.kept.forget(environment.id)  # unless all goes well, it is read again
        self._note_written(environment.id, entry, written if of is None else b"")
        await self._write(environment.id, str(environment.network), expected, entry, written, leases, of=of)
        self._keep(after)
        document.remember_digest(environment, after.digest)

    def _note_written(self, id_: EnvironmentId, entry: IndexEntry, written: bytes) -> None:
        # Before it is committed: others hear of that no later than this process.
        self._written.pop(id_, None)
        if 0 < len(written) < WHOLE_UP_TO:
            self._written[id_] = Stored.of(id_, encode_entry(entry), len(written), written)
            if len(self._written) > WRITTEN_KEPT:
                self._written.popitem(last=False)

    async def _whole_of(self, environment: Environment) -> tuple[bytes, Newest]:
        """The document to write, and what is the newest then."""

        def prepare() -> tuple[bytes, Newest]:
            written = _encode(environment)
            digest, hosts = document.digest(written), hosts_of(environment)
            return written, Newest(environment, digest, len(written), hosts, len(written))

        return await self.aside.call(environment.id, prepare) if is_large(environment) else prepare()

    async def _difference(self, before: Newest, environment: Environment) -> tuple[bytes, Newest] | None:
        """The difference to write, and what is the newest then; None where the document is to be written whole."""
        if self._whole or before.octets < WHOLE_UP_TO or before.differences >= MOST_DIFFERENCES:
            return None

        def find() -> Difference:
            return parts.difference(before.environment, environment)

        found = await self.aside.call(environment.id, find) if before.octets > VERY_LARGE else find()
        written = parts.encode(found)
        if len(written) * SMALLER > before.octets or before.added + len(written) > before.octets:
            return None
        after = before.followed_by(environment, found, parts.next_digest(before.digest, written), [written])
        return (written, after) if after.octets <= MAX_DOCUMENT else None

    async def delete(self, environment: Environment, keep: int = 0) -> int:
        """Deletes ``environment``, if it is still at its revision, and returns the revision of the deletion.

        Its document is kept for ``keep`` seconds, in which `undelete` can bring it back. Raises `RevisionConflict`.
        """
        entry = IndexEntry(environment.revision + 1, None)
        kept = (await self._whole_of(environment))[0] if keep else b""
        self.kept.forget(environment.id)
        await self._write(
            environment.id, str(environment.network), environment.revision, entry, b"", keep=keep, deleted=kept
        )
        return entry.revision

    async def undelete(self, environment: Environment, expected: int, kept: int) -> None:
        """Makes ``environment`` the newest revision, in the network that it had before the deletion ``kept``.

        ``kept`` is the revision of that deletion, which must be kept still, and ``expected`` the newest revision so
        far. Raises `RevisionConflict`, and `Missing` if it is kept no more.
        """
        written, after = await self._whole_of(environment)
        entry = IndexEntry(environment.revision, after.digest, after.hosts)
        self.kept.forget(environment.id)
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
        self.kept.forget(found.id)
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
        of: Newest | None = None,
        deleted: bytes = b"",
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
                    keys.differences(id_),
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
                    of.digest if of else "",
                    of.differences if of else "",
                    deleted,
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
