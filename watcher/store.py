"""The store: environments as documents in Redis or Valkey, each commit one atomic step.

Nothing else in the product speaks Redis, and nothing writes an environment but `Store.commit` and `Store.delete`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import IPv6Network

import msgspec

from watcher.connection import as_unavailable, connect, redact
from watcher.errors import Corrupt, NetworkTaken, RevisionConflict, Unavailable
from watcher.keys import DEFAULT_PREFIX, Keys
from zones import document
from zones.model import Environment
from zones.names import EnvironmentId

COMMAND_TIMEOUT = 2.0  # seconds; within what an API client waits, and far above any healthy reply
BLOCK = 1.0  # seconds that a read of changes waits; how long a dead connection can go unnoticed
BLOCK_MARGIN = 2.0  # seconds on top, before a server that does not even say "nothing new" is given up
CHANGES_KEPT = 100_000  # at the design figure of 1,000 commits a second, a reader may be away for 100 s

_COMMIT = files("watcher").joinpath("commit.lua").read_text()
_START = "0-0"  # the position before the first change


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of an environment. A deleted one keeps its revision; its ``digest`` is None."""

    revision: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """A point in the history of one data set: its epoch (None before the first commit) and the newest change."""

    epoch: str | None
    change: str


@dataclass(frozen=True, slots=True)
class Change:
    """One commit as the stream tells it. ``previous`` is the position of the change before it."""

    position: str
    previous: str
    environment: EnvironmentId
    revision: int


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

    async def acknowledgements(self, id_: EnvironmentId) -> dict[str, int]:
        """Host id → the newest revision of ``id_`` that its agent has programmed."""
        with as_unavailable(self.url):
            fields = await self._redis.hgetall(self._keys.acks(id_))
        return {host.decode(): int(revision) for host, revision in fields.items()}

    # Writing

    async def commit(self, environment: Environment, expected: int) -> None:
        """Makes ``environment`` the newest revision, if the newest so far is ``expected`` (0: it never was).

        Raises `RevisionConflict` and `NetworkTaken`.
        """
        written = document.encode(environment)
        digest = document.digest(written)
        await self._write(environment.id, environment.network, expected, environment.revision, digest, written)

    async def delete(self, environment: Environment) -> int:
        """Deletes ``environment`` at its revision and gives the revision of the deletion. Raises `RevisionConflict`."""
        revision = environment.revision + 1
        await self._write(environment.id, environment.network, environment.revision, revision, "deleted", b"")
        return revision

    async def _write(
        self, id_: EnvironmentId, network: IPv6Network, expected: int, revision: int, digest: str, written: bytes
    ) -> None:
        keys = self._keys
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
                    args=[id_, expected, revision, digest, str(network), written, secrets.token_hex(8), CHANGES_KEPT],
                )
        except Unavailable:
            # The reply may be lost though the commit was made: what the store holds now says which.
            if await self._holds(id_, revision, digest):
                return
            raise
        match outcome:
            case b"revision":
                raise RevisionConflict(id_, expected, int(detail))
            case b"network":
                raise NetworkTaken(f"the network {network} belongs or belonged to {detail.decode()!r}")

    async def _holds(self, id_: EnvironmentId, revision: int, digest: str) -> bool:
        with as_unavailable(self.url):
            entry = await self._redis.hget(self._keys.environments, id_)
        return bool(entry == f"{revision} {digest}".encode())

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
    revision, _, digest = value.decode("latin-1").partition(" ")
    if not (revision.isascii() and revision.isdigit() and digest):
        return Entry(0, value.decode("latin-1"))  # equal to nothing that is served: its document will be read
    return Entry(int(revision), None if digest == "deleted" else digest)


def _change(position: bytes, fields: Mapping[bytes, bytes]) -> Change:
    try:
        return Change(
            position.decode(),
            fields[b"previous"].decode(),
            EnvironmentId(fields[b"environment"].decode()),
            int(fields[b"revision"]),
        )
    except (KeyError, ValueError):
        # Not one of ours. No change has this predecessor, so the reader takes it as a gap and compares all.
        return Change(position.decode(), "", EnvironmentId(""), 0)
