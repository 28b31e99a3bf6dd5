"""The stream of changes: each commit of an environment and each change of a host appends one.

A change says which document to read, never what the document says. Each names its predecessor, so a reader notices
when it has missed one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from store.client import Script
from store.connection import Connection
from store.errors import Unavailable
from store.index import split_hosts
from store.scripts import read_script
from support.breaks import Breaks, pause
from zones.names import EnvironmentId

CHANGES_WAIT = 1.0  # seconds that a read waits for a change; a dead connection is noticed a little later
CHANGES_WAIT_MARGIN = 2.0  # seconds more, after which a server that has not replied at all counts as gone
CHANGES_READ = 5  # changes in one read; more at once come faster than they can be read one by one
CHANGES_COALESCED = 500  # changes of which the server reads the newest ones, in some milliseconds
CHANGES_TOGETHER = 10_000  # changes that are taken in together; a reader that is far behind needs several turns
CHANGES_KEPT = 100_000  # at the design figure of 1,000 commits a second, a reader may be away for 100 s

BEGINNING = "0-0"  # the position before the first change

NEWEST_SCRIPT = Script(read_script("read_newest_changes", shared=("split_hosts",)), only_reads=True)
_FIELDS = Decoder(dict[str, str])
POSITION_SCRIPT = Script(read_script("read_position"), only_reads=True)


@dataclass(frozen=True, slots=True)
class Position:
    """A point in the history of one data set."""

    epoch: str | None
    """The random id of the data set; None before the first commit."""
    change: str
    """The position of the newest change, `BEGINNING` if there is none."""


class Change(Struct, frozen=True, gc=False):
    """One change of an environment, or of a host: then ``host`` is set, and ``environment`` is empty."""

    position: str
    """The position of this change."""
    previous: str
    """The position of the change before it."""
    environment: EnvironmentId
    """The environment that has changed."""
    revision: int
    """The revision of the environment, or of all hosts, that the change made."""
    hosts: frozenset[str] | None = frozenset()
    """The hosts that had a member before the change or have one after it; None where the writer did not say."""
    host: str | None = None
    """The host that has changed; None for a change of an environment."""
    digest: str = ""
    """The digest of the document after the change, or `store.index.DELETED`."""
    confirms: Position | None = None
    """The state of the store whose withdrawals the change confirms; None for a change of another kind."""


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Changes that follow each other, as far as a reader needs them who reads what they name in any case."""

    newest: tuple[Change, ...]
    """The newest change of each environment and of each host, and each confirmation, in their order. The ``hosts`` of
    a change are those of all the changes that it stands for."""
    count: int
    """How many changes they stand for."""
    position: str
    """The position of the last of them; where there is none, that after which they were read."""
    is_gapless: bool
    """Whether each names the one before it."""

    @classmethod
    def of(cls, position: str, changes: Sequence[Change]) -> ChangeBatch:
        """``changes``, which were read after ``position``."""
        chain = [position, *(change.position for change in changes)]
        is_gapless = all(change.previous == before for change, before in zip(changes, chain, strict=False))
        return cls(_coalesce(changes), len(changes), chain[-1], is_gapless)

    def followed_by(self, later: ChangeBatch) -> ChangeBatch:
        """One batch of it and ``later``, which was read after it."""
        newest = _coalesce((*self.newest, *later.newest))
        return ChangeBatch(newest, self.count + later.count, later.position, self.is_gapless and later.is_gapless)


class ChangeStream:
    """Reads the changes. Its methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._generation: int | None = None  # of the connection, in which the position was read last

    async def position(self) -> Position:
        """The point in its history at which the data set is now."""
        keys = self._connection.keys
        epoch, newest = await self._connection.read(POSITION_SCRIPT, [keys.epoch, keys.changes])
        self._generation = self._connection.generation
        return Position(epoch.decode() if epoch else None, newest.decode() or BEGINNING)

    async def has_gone_back(self, position: Position) -> bool:
        """Whether the data set is another than that of ``position``, or its newest change is before that.

        A read after ``position`` would then return nothing, however much is committed.
        """
        keys = self._connection.keys
        epoch, newest = await self._connection.read(POSITION_SCRIPT, [keys.epoch, keys.changes])
        is_other = (epoch.decode() if epoch else None) != position.epoch
        return is_other or is_after(position.change, newest.decode() or BEGINNING)

    async def newest_until(self, position: str) -> str:
        """The newest change that is not after ``position``; `BEGINNING` if there is none."""
        async with self._connection.client() as redis:
            found = await redis.xrevrange(self._connection.keys.changes, max=position, count=1)
        return found[0][0].decode() if found else BEGINNING

    async def read_after(self, position: str) -> list[Change]:
        """The changes after ``position``; waits up to `CHANGES_WAIT` seconds for the first.

        It also raises `Unavailable` where the connection has ended since `position` was called: the server may be
        another one by now, whose history has to be read again.
        """
        await self._verify()
        return await self._read(position, int(CHANGES_WAIT * 1000))

    async def read_batch(self, position: str, *, are_many: bool = False) -> ChangeBatch:
        """The changes after ``position``, as `read_after` gives them, and all that are there already behind these.

        Where they ``are_many``, as is to be expected, the newest of them are asked for at once, and none is waited for.
        """
        if are_many:
            await self._verify()
            batch = ChangeBatch((), 0, position, True)
        else:
            batch = ChangeBatch.of(position, await self.read_after(position))
            if batch.count < CHANGES_READ:
                return batch
        while batch.count < CHANGES_TOGETHER:
            more = await self._read_newest(batch.position)
            batch = batch.followed_by(more)
            if more.count < CHANGES_COALESCED:
                break
            await pause()  # what was read is put together in one go, and so is the next command
        return batch

    async def _verify(self) -> None:
        await self._connection.verify()
        if self._generation not in (None, self._connection.generation):
            raise Unavailable(f"store {self._connection.url}: the connection has ended: where it stands is read again")

    async def _read_newest(self, position: str) -> ChangeBatch:
        keys, arguments = [self._connection.keys.changes], [position, CHANGES_COALESCED]
        async with self._connection.blocking_client() as redis:
            count, last, is_chain, found = await NEWEST_SCRIPT.run(redis, keys, arguments)
        await pause()  # for what came while the client library decoded it
        newest, breaks = list[Change](), Breaks()
        for change, written in zip(found[::2], found[1::2], strict=True):
            newest.append(_decode_change(change, _decode_object(written)))
            await breaks.take()
        is_gapless = bool(is_chain) and all(one.previous for one in newest)
        return ChangeBatch(tuple(newest), count, last.decode(), is_gapless)

    async def _read(self, position: str, wait: int) -> list[Change]:
        async with self._connection.blocking_client() as redis:
            streams = await redis.xread({self._connection.keys.changes: position}, count=CHANGES_READ, block=wait)
        read = (entry for _key, changes in streams or () for entry in changes)
        return [_decode_change(change, _decode_texts(fields)) for change, fields in read]


def _coalesce(changes: Sequence[Change]) -> tuple[Change, ...]:
    """The newest of ``changes`` for each subject, with the hosts of all that it stands for."""
    newest: dict[Hashable, Change] = {}
    for change in changes:
        subject = (change.environment, change.host, change.confirms and change.position)
        earlier = newest.pop(subject, change)  # so that it comes last now
        if earlier.hosts != change.hosts:
            newest[subject] = replace(change, hosts=_union(earlier.hosts, change.hosts))
        else:
            newest[subject] = change
    return tuple(newest.values())


def _union(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return None if one is None or other is None else one | other


def _decode_change(position: bytes, fields: Mapping[str, str]) -> Change:
    hosts = fields.get("hosts")
    try:
        return Change(
            position.decode(),
            fields["previous"],
            EnvironmentId(fields["environment"]),
            int(fields["revision"]),
            None if hosts is None else split_hosts(hosts),
            fields.get("host"),
            fields.get("digest", ""),
            _decode_confirmed(fields.get("guard", "")),
        )
    except (KeyError, ValueError):
        # None of our writers made it. No change has this predecessor: the reader sees a gap, and compares all.
        return Change(position.decode(), "", EnvironmentId(""), 0)


def _decode_texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """The texts of ``fields``; none where one of them is no text, which is then none of our writers'."""
    try:
        return {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError:
        return {}


def _decode_object(written: bytes) -> dict[str, str]:
    """The same of fields that a script has written as JSON."""
    try:
        return _FIELDS.decode(written)
    except ValueError:
        return {}


def is_after(one: str, other: str) -> bool:
    """Whether the position ``one`` is after ``other``. A position that is none of a stream is before all others."""
    return _order(one) > _order(other)


def milliseconds_between(earlier: str, later: str) -> int:
    """The time from one position to another, by the clock of the server that numbered them."""
    return _order(later)[0] - _order(earlier)[0]


def _order(position: str) -> tuple[int, int]:
    milliseconds, _, number = position.partition("-")
    return (int(milliseconds), int(number)) if milliseconds.isdecimal() and number.isdecimal() else (-1, -1)


def _decode_confirmed(written: str) -> Position | None:
    match written.split(" "):
        case [epoch, change]:
            return Position(None if epoch == "-" else epoch, change)
    return None
