"""A backup is put into an empty store: nobody sees any of it before all of it is there.

The documents are written first, which nobody reads without a line of the index; hashes go to keys aside. One script
then puts all in place, or refuses if the store is not empty any more. The data set has a new epoch: resolvers and
control planes that follow the store read all of it, and hold what they serve and the backup lacks, as after any loss.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from store.backup import Backup, hashes, strings
from store.client import Script
from store.connection import Connection
from store.errors import NotEmpty
from store.keys import Keys
from store.scripts import read_script
from store.store import Store
from store.stored import Stored, find_damage
from zones.names import EnvironmentId

RESTORE_SCRIPT = Script(read_script("restore", shared=("wrong_type",)))
AT_ONCE = 500  # fields or documents in one round trip

T = TypeVar("T")


def damaged(backup: Backup) -> list[str]:
    """What is damaged in ``backup``, in words: environments that nobody could read once they are restored."""
    ids = backup.lines.keys() | backup.documents.keys()
    stored = (_stored(backup, EnvironmentId(id_)) for id_ in sorted(ids))
    return [damage for one in stored if (damage := find_damage(one))]


async def find_contents(store: Store) -> str:
    """What the store holds that a backup would be mixed with, in words; empty if it is empty."""
    keys = store.connection.keys
    async with store.connection.client() as redis:
        held = [await _length(redis, key) for key in _must_be_empty(keys)]
    words = ("environment", "network", "host", "host's credential", "token")
    return ", ".join(
        f"{number} {word}{'s' * (number != 1)}" for number, word in zip(held, words, strict=True) if number
    )


async def restore(store: Store, backup: Backup) -> int:
    """Puts ``backup`` into ``store``; returns how many environments that are. Raises `NotEmpty` and `Unavailable`."""
    if contents := await find_contents(store):
        raise NotEmpty(f"the store holds {contents}: a backup is restored into an empty store only")
    keys, now = store.connection.keys, await store.clock.milliseconds()
    await _clear(store.connection)
    # The index aside comes first: it tells the next attempt what this one has left, should it not come to its end.
    everything = {keys.environments: {id_.encode(): line for id_, line in backup.lines.items()}}
    everything |= {key: backup.hashes.get(name, {}) for name, key in hashes(keys).items()}
    everything[keys.deleted] = _kept_still(backup, now)
    for key, fields in everything.items():
        for some in _chunks(fields.items()):
            async with store.connection.client() as redis:
                await redis.hset(keys.restoring(key), mapping=dict(some))
    for documents in _chunks(backup.documents.items()):
        async with store.connection.client() as redis:
            for id_, document in documents:
                await redis.set(keys.environment(id_), document)
    async with store.connection.client() as redis:
        for name, (document, until) in backup.kept.items():
            if until > now:
                id_, _, revision = name.rpartition(":")
                await redis.set(keys.deleted_document(id_, int(revision)), document, px=until - now)
    await _put_in_place(store.connection, backup, list(everything))
    return len(backup.documents)


async def _put_in_place(connection: Connection, backup: Backup, hash_keys: list[str]) -> None:
    keys = connection.keys
    of_strings = {key: backup.strings[name] for name, key in strings(keys).items() if name in backup.strings}
    arguments = [secrets.token_hex(8), len(_must_be_empty(keys)), len(hash_keys), *of_strings.values()]
    script_keys = [
        keys.epoch, keys.changes, *_must_be_empty(keys), *hash_keys, *map(keys.restoring, hash_keys), *of_strings,
    ]  # fmt: skip
    if await connection.write(RESTORE_SCRIPT, script_keys, arguments) != b"ok":
        raise NotEmpty("somebody has written to the store meanwhile, and nothing was restored: empty it, and try again")


async def _clear(connection: Connection) -> None:
    """Removes what an attempt has left that did not come to its end."""
    keys = connection.keys
    async with connection.client() as redis:
        for id_ in await redis.hkeys(keys.restoring(keys.environments)):
            await redis.delete(keys.environment(id_.decode(errors="replace")))
        await redis.delete(*(keys.restoring(key) for key in (keys.environments, *hashes(keys).values())))


def _must_be_empty(keys: Keys) -> tuple[str, ...]:
    return (keys.environments, keys.networks, keys.hosts, keys.credentials, keys.tokens)


def _kept_still(backup: Backup, now: int) -> dict[bytes, bytes]:
    still = {name.rpartition(":")[0].encode() for name, (_, until) in backup.kept.items() if until > now}
    return {id_: value for id_, value in backup.hashes.get("deleted", {}).items() if id_ in still}


def _stored(backup: Backup, id_: EnvironmentId) -> Stored:
    line, document = backup.lines.get(id_), backup.documents.get(id_)
    return Stored.of(id_, line, len(document or b""), document)


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while some := list(islice(left, AT_ONCE)):
        yield some


async def _length(redis: Any, key: str) -> int:
    return len(await redis.hkeys(key))
