"""Backups: all that the store holds and that nobody makes anew by itself, as lines of a file.

A backup is of one moment: what has changed while it was made is read once more, until nothing has. Each environment is
read with its line of the index in one step, so it is whole in any case; its differences are put into the document, so
every release can read it. What hosts renew by themselves is left out: leases, claims, acknowledgements; so is the
stream of changes, for a restored store is another data set.

The lines, each a JSON object. Where two are about the same thing, the later one counts:

    {"backup": 1, "taken": …, "epoch": …, "release": …}     first
    {"environment": id, "line": …, "document": …}           the document null for a deleted one
    {"hash": name, "fields": {…}}                           all of a hash
    {"string": name, "value": …}
    {"kept": "deleted:<id>:<revision>", "document": …, "until": …}
    {"end": number of lines before, "sha256": …, "quiet": …}     last; quiet: nothing has changed at the end
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from store.environments import EnvironmentStore
from store.errors import BadBackup
from store.keys import Keys
from store.store import Store
from zones.names import EnvironmentId

FORMAT = 1
AT_ONCE = 100  # environments read in one round trip
ROUNDS = 20  # of reading what has changed meanwhile; a busy platform is never quiet, and each round is shorter
_COMPACT = (",", ":")


def hashes(keys: Keys) -> dict[str, str]:
    """The hashes that a backup holds whole: name → key."""
    return {
        "networks": keys.networks,
        "hosts": keys.hosts,
        "credentials": keys.credentials,
        "enrolments": keys.enrolments,
        "tokens": keys.tokens,
        "tokens:used": keys.token_uses,
        "quotas": keys.quotas,
        "deleted": keys.deleted,
    }


def strings(keys: Keys) -> dict[str, str]:
    """The strings that a backup holds: name → key."""
    return {"authority": keys.authority, "hosts:revision": keys.hosts_revision}


async def back_up(store: Store, release: str) -> AsyncIterator[bytes]:
    """The lines of a backup of ``store``, made by ``release``. Raises `Unavailable`."""
    digest, count = hashlib.sha256(), 0
    quiet = False
    async for value in _values(store, release):
        if "quiet" in value:
            quiet = value["quiet"]
            continue
        line = _line(value)
        digest.update(line)
        count += 1
        yield line
    yield _line({"end": count, "sha256": digest.hexdigest(), "quiet": quiet})


async def _values(store: Store, release: str) -> AsyncIterator[dict[str, Any]]:
    position, read = await store.changes.position(), dict[EnvironmentId, bytes]()
    yield {
        "backup": FORMAT, "taken": await store.clock.milliseconds(), "epoch": position.epoch, "release": release,
    }  # fmt: skip
    for _ in range(ROUNDS):
        async for value in _changed(store, read):
            yield value
        async for value in _others(store):
            yield value
        before, position = position, await store.changes.position()
        if position.epoch != before.epoch and before.epoch is not None:
            raise BadBackup("the data of the store was replaced while it was read: make the backup again")
        if position == before:
            yield {"quiet": True}
            return


async def _changed(store: Store, read: dict[EnvironmentId, bytes]) -> AsyncIterator[dict[str, Any]]:
    """The environments whose line of the index is not the one in ``read``, which is brought up to date."""
    environments: EnvironmentStore = store.environments
    lines = await environments.lines()
    ids = iter([id_ for id_, line in lines.items() if read.get(id_) != line])
    while some := list(islice(ids, AT_ONCE)):
        for id_, stored in (await environments.stored(some)).items():
            read[id_] = stored.line or b""
            whole = await environments.aside.call(id_, stored.folded) if stored.differences else stored
            document = None if whole.written is None else _text(whole.written)
            yield {"environment": id_, "line": _text(whole.line or b""), "document": document}


async def _others(store: Store) -> AsyncIterator[dict[str, Any]]:
    keys = store.connection.keys
    async with store.connection.client() as redis:
        for name, key in strings(keys).items():
            value = await redis.get(key)
            yield {"string": name, "value": None if value is None else _text(value)}
        for name, key in hashes(keys).items():
            fields = await redis.hgetall(key)
            yield {"hash": name, "fields": {_text(one): _text(value) for one, value in fields.items()}}
        for one in await store.deleted.read():
            if written := await redis.get(keys.deleted_document(one.id, one.revision)):
                name = f"{one.id}:{one.revision}"
                yield {"kept": name, "document": _text(written), "until": one.until}


@dataclass(slots=True)
class Backup:
    """What a backup holds, read and checked."""

    taken: int
    """When it was begun, in Unix milliseconds of the store's clock."""
    release: str
    """The release that made it."""
    quiet: bool
    """Whether it is of one moment. If not, its environments are whole, and some seconds apart."""
    lines: dict[str, bytes] = field(default_factory=dict)
    """The index: environment → its line."""
    documents: dict[str, bytes] = field(default_factory=dict)
    """The documents, by environment."""
    hashes: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    """The hashes, by name."""
    strings: dict[str, bytes] = field(default_factory=dict)
    """The strings, by name."""
    kept: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Deleted environments that were kept: ``<id>:<revision>`` → document, and until when."""


def read_backup(lines: Iterator[bytes]) -> Backup:
    """The backup in ``lines``, once all of it is there and none is changed. Raises `BadBackup`."""
    digest, backup = hashlib.sha256(), None
    for count, line in enumerate(lines):
        try:
            value = json.loads(line)
            if "end" in value:
                if (value["end"], value["sha256"]) != (count, digest.hexdigest()):
                    raise BadBackup("the backup is damaged: its content is not the one that was written")
                if backup is None:
                    raise BadBackup("this is no backup of Interlock")
                backup.quiet = bool(value["quiet"])
                return backup
            if backup is None:
                backup = _begin(value)
            else:
                _take(backup, value)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadBackup("this is no backup of Interlock, or a damaged one") from None
        digest.update(line)
    raise BadBackup("the backup is not whole: its end is missing")


def _begin(value: dict[str, Any]) -> Backup:
    if value["backup"] != FORMAT:
        raise BadBackup(f"the backup has the form {value['backup']!r}, which another release of Interlock reads")
    return Backup(int(value["taken"]), str(value["release"]), quiet=False)


def _take(backup: Backup, value: dict[str, Any]) -> None:
    if "environment" in value:
        id_ = value["environment"]
        backup.lines[id_] = _octets(value["line"])
        backup.documents.pop(id_, None)
        if value["document"] is not None:
            backup.documents[id_] = _octets(value["document"])
    elif "hash" in value:
        backup.hashes[value["hash"]] = {_octets(one): _octets(other) for one, other in value["fields"].items()}
    elif "string" in value:
        backup.strings.pop(value["string"], None)
        if value["value"] is not None:
            backup.strings[value["string"]] = _octets(value["value"])
    elif "kept" in value:
        backup.kept[value["kept"]] = (_octets(value["document"]), int(value["until"]))


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=_COMPACT).encode() + b"\n"


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")  # JSON escapes what is no text, so any octets come back


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
