"""Environments that were deleted lately: their documents are kept for a while, and so can be brought back.

The network of an environment is its own for ever, so what comes back is where it was: at the same addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from store.clock import StoreClock
from store.connection import Connection
from store.errors import Corrupt
from zones import document
from zones.errors import Invalid
from zones.model import Environment
from zones.names import EnvironmentId

_KEPT = re.compile(rb"([0-9]{1,16}) ([0-9]{1,16})")


@dataclass(frozen=True, slots=True, order=True)
class Deleted:
    """A deleted environment that is kept."""

    id: EnvironmentId
    """Its id."""
    revision: int
    """The revision of the deletion."""
    until: int
    """Until when it is kept, in Unix milliseconds of the store's clock."""


class DeletedStore:
    """Reads what was deleted lately. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection, clock: StoreClock) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._clock = clock

    async def read(self) -> list[Deleted]:
        """All that are kept, by id and revision. Forgets those that are kept no more."""
        now = await self._clock.milliseconds()
        async with self._connection.client() as redis:
            fields = await redis.hgetall(self._keys.deleted)
            found = {id_: _kept(id_, value, now) for id_, value in fields.items()}
            if over := [id_ for id_, kept in found.items() if not kept]:
                await redis.hdel(self._keys.deleted, *over)
        return sorted(one for kept in found.values() for one in kept)

    async def of(self, id_: EnvironmentId) -> list[Deleted]:
        """Those of the environment ``id_`` that are kept, oldest first."""
        now = await self._clock.milliseconds()
        async with self._connection.client() as redis:
            value = await redis.hget(self._keys.deleted, id_)
        return sorted(_kept(id_.encode(), value or b"", now))

    async def document(self, deleted: Deleted) -> Environment | None:
        """The environment as it was; None if it is kept no more. Raises `Corrupt`."""
        async with self._connection.client() as redis:
            written = await redis.get(self._keys.deleted_document(deleted.id, deleted.revision))
        try:
            return None if written is None else document.decode(written)
        except Invalid as error:
            raise Corrupt(f"the deleted environment {deleted.id!r} is damaged in the store: {error}") from error


def _kept(id_: bytes, value: bytes, now: int) -> list[Deleted]:
    name = EnvironmentId(id_.decode(errors="replace"))
    found = (Deleted(name, int(revision), int(until)) for revision, until in _KEPT.findall(value))
    return [one for one in found if one.until > now]
