"""The last commits of each environment: who has changed what, and when. The control plane writes it after a commit.

It is for people, and bounded: a commit whose entry was lost, because the control plane ended between the two, stands as
good as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from store.connection import Connection
from zones.names import EnvironmentId

KEPT = 50  # commits of one environment, the newest: a screen or two
MOST_OCTETS = 16_384  # of one entry; what would be larger is kept without what it has changed

_FIELD = b"commit"


class Entry(msgspec.Struct, frozen=True):
    """One commit."""

    revision: int
    """The revision that it made."""
    when: int
    """When, in Unix milliseconds of the store's clock."""
    actor: str
    """Who: as the audit log names them."""
    changes: tuple[dict[str, Any], ...] | None
    """What it has changed, as `admin.history` writes it; None where that was too much to keep."""


class HistoryStore:
    """Reads and writes the last commits. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys

    async def add(self, id_: EnvironmentId, entry: Entry) -> None:
        """Adds ``entry`` to what is kept of ``id_``."""
        written = msgspec.json.encode(entry)
        if len(written) > MOST_OCTETS:
            written = msgspec.json.encode(msgspec.structs.replace(entry, changes=None))
        key = self._keys.history(id_)
        async with self._connection.client() as redis:
            await redis.xadd(key, {_FIELD: written}, maxlen=KEPT, approximate=False)

    async def read(self, id_: EnvironmentId) -> Sequence[Entry]:
        """The last commits of ``id_``, the newest first. One that cannot be read is left out."""
        async with self._connection.client() as redis:
            lines = await redis.xrevrange(self._keys.history(id_), count=KEPT)
        found = (_decode(fields.get(_FIELD, b"")) for _, fields in lines)
        return sorted((entry for entry in found if entry), key=lambda entry: -entry.revision)

    async def remove(self, id_: EnvironmentId) -> None:
        """Forgets the commits of ``id_``, which was deleted: whoever gets its id later is somebody else."""
        async with self._connection.client() as redis:
            await redis.delete(self._keys.history(id_))


def _decode(line: bytes) -> Entry | None:
    try:
        return msgspec.json.decode(line, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
