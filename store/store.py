"""The store: environments and hosts as documents in Redis or Valkey, each change one atomic step.

Nothing else in the product speaks Redis. Nothing writes an environment but `Store.commit` and `Store.delete`, and
nothing a host but `Store.register` and `Store.forget_host`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import IPv6Network
from itertools import chain

import msgspec

from store.connection import as_unavailable, connect, redact
from store.errors import Corrupt, EndpointTaken, HostChanged, KeyTaken, NetworkTaken, RevisionConflict, Unavailable
from store.keys import DEFAULT_PREFIX, Keys
from zones import document
from zones.errors import Invalid
from zones.hosts import Host, decode_host, encode_host, hosts_of
from zones.model import Environment
from zones.names import EnvironmentId

COMMAND_TIMEOUT = 2.0  # seconds; within what an API client waits, and far above any healthy reply
BLOCK = 1.0  # seconds that a read of changes waits; how long a dead connection can go unnoticed
BLOCK_MARGIN = 2.0  # seconds on top, before a server that does not even say "nothing new" is given up
MAX_ATTEMPTS = 20  # to change a host; the hosts are few that change, and each but now and then
CHANGES_KEPT = 100_000  # at the design figure of 1,000 commits a second, a reader may be away for 100 s

HOSTS = "@hosts"  # in the place of an environment's id, which cannot begin so: all hosts and their keys


def _script(name: str) -> str:
    return "".join(files("store.scripts").joinpath(f"{part}.lua").read_text() for part in ("tell", name))


_COMMIT, _REGISTER, _ACKNOWLEDGE = _script("commit"), _script("register"), _script("acknowledge")
_START = "0-0"  # the position before the first change
_DELETED, _NO_HOSTS = "deleted", "-"  # what the index says of them; the scripts know both


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of an environment. A deleted one keeps its revision; its ``digest`` is None.

    ``hosts`` have a member of it; None where a release before there were hosts has written it, which does not say.
    """

    revision: int
    digest: str | None
    hosts: frozenset[str] | None = frozenset()


@dataclass(frozen=True, slots=True)
class Position:
    """A point in the history of one data set: its epoch (None before the first commit) and the newest change."""

    epoch: str | None
    change: str


@dataclass(frozen=True, slots=True)
class Change:
    """One commit as the stream tells it. ``previous`` is the position of the change before it.

    ``hosts`` had a member of the environment before it or have one after it; None as for `Entry`. A change of a host
    has its id as ``host``, no environment, and the revision of all hosts.
    """

    position: str
    previous: str
    environment: EnvironmentId
    revision: int
    hosts: frozenset[str] | None = frozenset()
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Hosts:
    """All hosts that are registered, by id, at a ``revision`` that grows by one with each change of one of them.

    ``unreadable`` are those whose documents cannot be read, each with the reason.
    """

    revision: int
    hosts: Mapping[str, Host]
    unreadable: Mapping[str, str]


class Token(msgspec.Struct, frozen=True):
    """An API token as it is kept: never itself, only a digest of it as its key. ``created`` in Unix milliseconds."""

    id: str
    environment: str
    name: str
    created: int


class Store:
    """A client of the store at ``url``. All methods raise `Unavailable` where it cannot be reached."""

    def __init__(self, url: str, prefix: str = DEFAULT_PREFIX) -> None:
        self.url = redact(url)
        self._keys = Keys(prefix)
        self._redis = connect(url, timeout=COMMAND_TIMEOUT)
        # Waiting for changes has a connection of its own: a blocked one can serve nobody else.
        self._waiting = connect(url, timeout=BLOCK + BLOCK_MARGIN)
        self._commit = self._redis.register_script(_COMMIT)
        self._register = self._redis.register_script(_REGISTER)
        self._acknowledge = self._redis.register_script(_ACKNOWLEDGE)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._waiting.aclose()

    async def ping(self) -> None:
        """Returns when the store has answered."""
        with as_unavailable(self.url):
            await self._redis.ping()

    # Reading

    async def position(self) -> Position:
        """Where the data set stands now."""
        with as_unavailable(self.url):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.get(self._keys.epoch)
                pipe.xrevrange(self._keys.changes, count=1)
                epoch, newest = await pipe.execute()
        return Position(epoch.decode() if epoch else None, newest[0][0].decode() if newest else _START)

    async def index(self) -> dict[EnvironmentId, Entry]:
        """Every environment that is or was, with its newest revision."""
        with as_unavailable(self.url):
            fields = await self._redis.hgetall(self._keys.environments)
        # An id that is no text is not ours; under the name that it gets here, nothing will be found.
        return {EnvironmentId(id_.decode(errors="replace")): _entry(value) for id_, value in fields.items()}

    async def documents(self, ids: Iterable[EnvironmentId]) -> dict[EnvironmentId, tuple[Entry | None, bytes | None]]:
        """Index entry and document of each of ``ids``, all as of one moment."""
        wanted = list(ids)
        if not wanted:
            return {}
        with as_unavailable(self.url):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hmget(self._keys.environments, wanted)
                pipe.mget([self._keys.environment(id_) for id_ in wanted])
                entries, documents = await pipe.execute()
        return {
            id_: (_entry(entry) if entry else None, read)
            for id_, entry, read in zip(wanted, entries, documents, strict=True)
        }

    async def environment(self, id_: EnvironmentId) -> tuple[int, Environment | None]:
        """The newest revision of ``id_`` (0 if it never was) and, unless it is deleted, the environment."""
        entry, read = (await self.documents([id_]))[id_]
        if read is None:
            return (entry.revision if entry else 0), None
        try:
            environment = document.decode(read)
        except ValueError as error:
            raise Corrupt(f"{self._keys.environment(id_)}: {error}") from error
        return environment.revision, environment

    async def changes(self, after: str) -> list[Change]:
        """The changes after the position ``after``, waiting up to `BLOCK` seconds for the first."""
        with as_unavailable(self.url):
            streams = await self._waiting.xread({self._keys.changes: after}, count=10_000, block=int(BLOCK * 1000))
        return [_change(position, fields) for _key, entries in streams or () for position, fields in entries]

    # Writing

    async def commit(self, environment: Environment, expected: int) -> None:
        """Makes ``environment`` the newest revision, if the newest so far is ``expected`` (0: it never was).

        Raises `RevisionConflict` and `NetworkTaken`.
        """
        written = document.encode(environment)
        entry = Entry(environment.revision, document.digest(written), hosts_of(environment))
        await self._write(environment.id, environment.network, expected, entry, written)

    async def delete(self, environment: Environment) -> int:
        """Deletes ``environment`` at its revision and gives the revision of the deletion. Raises `RevisionConflict`."""
        entry = Entry(environment.revision + 1, None)
        await self._write(environment.id, environment.network, environment.revision, entry, b"")
        return entry.revision

    async def _write(
        self, id_: EnvironmentId, network: IPv6Network, expected: int, entry: Entry, written: bytes
    ) -> None:
        keys, digest = self._keys, entry.digest or _DELETED
        hosts = ",".join(sorted(entry.hosts or ())) or _NO_HOSTS
        epoch = secrets.token_hex(8)
        try:
            with as_unavailable(self.url):
                outcome, detail = await self._commit(
                    keys=[
                        keys.epoch,
                        keys.environments,
                        keys.environment(id_),
                        keys.networks,
                        keys.changes,
                        keys.acks(id_),
                    ],
                    args=[id_, expected, entry.revision, digest, str(network), written, hosts, epoch, CHANGES_KEPT],
                )
        except Unavailable:
            # The reply may be lost though the commit was made: what the store holds now says which.
            if await self._holds(id_, entry):
                return
            raise
        match outcome:
            case b"revision":
                raise RevisionConflict(id_, expected, int(detail))
            case b"network":
                raise NetworkTaken(f"the network {network} belongs or belonged to {detail.decode()!r}")

    async def _holds(self, id_: EnvironmentId, entry: Entry) -> bool:
        with as_unavailable(self.url):
            found = await self._redis.hget(self._keys.environments, id_)
        return found is not None and _entry(found) == entry

    # Hosts

    async def hosts(self) -> Hosts:
        """All hosts that are registered, as of one moment."""
        with as_unavailable(self.url):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.get(self._keys.hosts_revision)
                pipe.hgetall(self._keys.hosts)
                revision, fields = await pipe.execute()
        hosts, unreadable = {}, {}
        for field, read in fields.items():
            id_ = field.decode(errors="replace")
            try:
                hosts[id_] = _host(id_, read)
            except Invalid as error:
                unreadable[id_] = str(error)
        return Hosts(int(revision or 0), hosts, unreadable)

    async def register(self, host: Host, before: Host | None = None) -> int:
        """Makes ``host`` what all know of it, and gives the revision of all hosts. Doing it again changes nothing.

        With ``before``, only if that is what is known of it until then: else raises `HostChanged`. Raises `KeyTaken`
        and `EndpointTaken` where another host has what is to be this one's, be that other alive or not.
        """
        try:
            outcome, detail = await self._change_host(
                host.id, encode_host(host), encode_host(before) if before else b""
            )
        except Unavailable:
            # The reply may be lost though it was done, as with a commit.
            found = await self.hosts()
            if found.hosts.get(host.id) == host:
                return found.revision
            raise
        match outcome:
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

    async def change_host(self, id_: str, change: Callable[[Host], Host]) -> tuple[int, Host] | None:
        """Makes of the host ``id_`` what ``change`` makes of it, whoever else is at it; None if it is not registered.

        Gives the revision of all hosts, and the host as it is then. Raises as `register` does.
        """
        for _ in range(MAX_ATTEMPTS):
            before = (await self.hosts()).hosts.get(id_)
            if before is None:
                return None
            after = change(before)
            try:
                return await self.register(after, before), after
            except HostChanged as changed:
                last = changed
        raise last

    async def forget_host(self, id_: str) -> None:
        """Takes away what all know of the host ``id_``, and its lease; what names it stays as it is."""
        await self._change_host(id_, b"")

    async def _change_host(self, id_: str, written: bytes, before: bytes = b"") -> tuple[bytes, bytes]:
        keys = self._keys
        with as_unavailable(self.url):
            outcome, detail = await self._register(
                keys=[keys.epoch, keys.hosts, keys.hosts_revision, keys.changes, keys.lease(id_), keys.acks(HOSTS)],
                args=[id_, written, secrets.token_hex(8), CHANGES_KEPT, before],
            )
        return outcome, detail

    async def renew(self, host: str, milliseconds: int) -> None:
        """Lets the lease of ``host`` last ``milliseconds`` from now."""
        with as_unavailable(self.url):
            await self._redis.set(self._keys.lease(host), "", px=milliseconds)

    async def live(self, hosts: Iterable[str]) -> frozenset[str]:
        """Those of ``hosts`` that have a lease."""
        if not (asked := list(hosts)):
            return frozenset()
        with as_unavailable(self.url):
            leases = await self._redis.mget([self._keys.lease(host) for host in asked])
        return frozenset(host for host, lease in zip(asked, leases, strict=True) if lease is not None)

    # Acknowledgements; `HOSTS` stands for all hosts in the place of an environment's id

    async def acknowledge(self, host: str, revisions: Mapping[str, int]) -> None:
        """Says that the agent of ``host`` has programmed ``revisions``, by environment.

        What the store no longer asks ``host`` about is passed over: where it has no member any more.
        """
        if not revisions:
            return
        keys = self._keys
        with as_unavailable(self.url):
            await self._acknowledge(
                keys=[keys.environments, keys.hosts, *map(keys.acks, revisions)],
                args=[host, HOSTS, *chain.from_iterable(revisions.items())],
            )

    async def acknowledgements(self, id_: str) -> dict[str, int]:
        """Host id → the newest revision of ``id_`` that its agent has programmed."""
        with as_unavailable(self.url):
            fields = await self._redis.hgetall(self._keys.acks(id_))
        return {host.decode(): int(revision) for host, revision in fields.items()}

    async def lagging(self, id_: str, revision: int, hosts: Iterable[str]) -> frozenset[str]:
        """Those of ``hosts`` that have a lease but not yet ``revision`` of ``id_``, and will have it.

        One that has no member of ``id_`` any more will not: it need not be waited for.
        """
        if not (asked := list(hosts)):
            return frozenset()
        with as_unavailable(self.url):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hget(self._keys.environments, id_)
                pipe.hmget(self._keys.acks(id_), asked)
                pipe.mget([self._keys.lease(host) for host in asked])
                entry, acknowledged, leases = await pipe.execute()
        behind = frozenset(
            host
            for host, has, lease in zip(asked, acknowledged, leases, strict=True)
            if lease is not None and int(has or 0) < revision
        )
        members = _entry(entry).hosts if entry else None
        return behind if members is None else behind & members

    # Tokens

    async def tokens(self) -> Mapping[str, Token]:
        """All tokens by their digest."""
        with as_unavailable(self.url):
            fields = await self._redis.hgetall(self._keys.tokens)
        return {digest.decode(): msgspec.json.decode(value, type=Token) for digest, value in fields.items()}

    async def find_token(self, digest: str) -> Token | None:
        """The token whose digest is ``digest``."""
        with as_unavailable(self.url):
            value = await self._redis.hget(self._keys.tokens, digest)
        return msgspec.json.decode(value, type=Token) if value else None

    async def add_token(self, digest: str, token: Token) -> None:
        """Keeps ``token`` under ``digest``."""
        with as_unavailable(self.url):
            await self._redis.hset(self._keys.tokens, digest, msgspec.json.encode(token))

    async def remove_tokens(self, digests: Iterable[str]) -> None:
        """Forgets the tokens with ``digests``; those that are not there do not matter."""
        if gone := list(digests):
            with as_unavailable(self.url):
                await self._redis.hdel(self._keys.tokens, *gone)


def _entry(value: bytes) -> Entry:
    text = value.decode("latin-1")
    revision, _, rest = text.partition(" ")
    digest, told, hosts = rest.partition(" ")
    if not (revision.isascii() and revision.isdigit() and digest):
        return Entry(0, text, None)  # equal to nothing that is served: its document will be read
    if digest == _DELETED:
        return Entry(int(revision), None)
    return Entry(int(revision), digest, _split(hosts) if told else None)


def _split(hosts: str) -> frozenset[str]:
    return frozenset(hosts.split(",")) - {_NO_HOSTS, ""}


def _host(id_: str, read: bytes) -> Host:
    host = decode_host(read)
    if host.id != id_:
        raise Invalid(f"the document says that it is {host.id!r}'s", field="id")
    return host


def _change(position: bytes, fields: Mapping[bytes, bytes]) -> Change:
    hosts, host = fields.get(b"hosts"), fields.get(b"host")
    try:
        return Change(
            position.decode(),
            fields[b"previous"].decode(),
            EnvironmentId(fields[b"environment"].decode()),
            int(fields[b"revision"]),
            None if hosts is None else _split(hosts.decode()),
            None if host is None else host.decode(),
        )
    except (KeyError, ValueError):
        # Not one of ours. No change has this predecessor, so the reader takes it as a gap and compares all.
        return Change(position.decode(), "", EnvironmentId(""), 0)
