"""What tests read from a store as one value."""

from __future__ import annotations

from collections.abc import Iterable

from store.index import IndexEntry
from store.store import Store
from zones.names import EnvironmentId


async def documents(
    store: Store, ids: Iterable[EnvironmentId]
) -> dict[EnvironmentId, tuple[IndexEntry | None, bytes | None]]:
    """The index entry and the document of each of ``ids``; None for each that is missing."""
    found = await store.environments.stored(ids)
    return {id_: (stored.entry, stored.written) for id_, stored in found.items()}
