"""A release that knows no differences: how it reads environments, by the script that it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from store.client import Script
from store.environments import EnvironmentStore
from store.store import Store
from store.stored import MAX_DOCUMENT, Known, Stored
from tests.store.servers import opened
from zones.names import EnvironmentId

# As it was in release 0.9: read_environments.lua.
READ_SCRIPT = Script(
    """
local most = tonumber(ARGV[1])
local sizes, documents = {}, {}
for i = 2, #KEYS do
  local size = redis.pcall('STRLEN', KEYS[i])
  if type(size) ~= 'number' then
    size = -1
  end
  sizes[i - 1] = size
  documents[i - 1] = size > 0 and size <= most and redis.call('GET', KEYS[i])
end
return {redis.call('HMGET', KEYS[1], unpack(ARGV, 2)), sizes, documents}
""",
    only_reads=True,
)


class OlderEnvironments(EnvironmentStore):
    """Reads the index and documents, and nothing beside them."""

    async def stored(
        self,
        ids: Iterable[EnvironmentId],
        most: int = MAX_DOCUMENT,
        known: Mapping[EnvironmentId, Known] | None = None,
    ) -> dict[EnvironmentId, Stored]:
        wanted = list(ids)
        if not wanted:
            return {}
        keys = [self._keys.environments, *map(self._keys.environment, wanted)]
        lines, sizes, documents = await self._connection.read(READ_SCRIPT, keys, [min(most, MAX_DOCUMENT), *wanted])
        return {
            id_: Stored.of(id_, line, size, written)
            for id_, line, size, written in zip(wanted, lines, sizes, documents, strict=True)
        }


@asynccontextmanager
async def opened_by_older(url: str, prefix: str) -> AsyncIterator[Store]:
    """A store as an older release has it, for reading."""
    async with opened(url, prefix) as store:
        store.environments = OlderEnvironments(store.connection)
        yield store
