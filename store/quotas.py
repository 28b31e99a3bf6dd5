"""The quotas of single environments in the store; all others have the defaults of the control plane."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from store.connection import Connection
from zones.names import EnvironmentId
from zones.quota import KINDS, Quota


class QuotaStore:
    """Reads and writes quotas. All methods raise `store.errors.Unavailable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._key = connection.keys.quotas

    async def find(self, id_: EnvironmentId) -> Mapping[str, int]:
        """What was set for ``id_``: kind → limit. What cannot be read sets nothing."""
        async with self._connection.client() as redis:
            value = await redis.hget(self._key, id_)
        found = decode_limits(value) if value else None
        return {kind: limit for kind, limit in (found or {}).items() if kind in KINDS}

    async def set(self, id_: EnvironmentId, limits: Mapping[str, int]) -> None:
        """Sets ``limits`` for ``id_``, in place of those that were set; none of them for the defaults."""
        async with self._connection.client() as redis:
            if limits:
                await redis.hset(self._key, id_, msgspec.json.encode(dict(limits)))
            else:
                await redis.hdel(self._key, id_)


def decode_limits(value: bytes) -> Mapping[str, int] | None:
    """The limits that ``value`` sets; None if it cannot be read."""
    try:
        return msgspec.json.decode(value, type=dict[str, int])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def merged(defaults: Quota, limits: Mapping[str, int]) -> Quota:
    """``defaults``, with ``limits`` in the place of some."""
    return replace(defaults, **limits)
