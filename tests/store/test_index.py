"""Index entries, also those that another release wrote."""

from __future__ import annotations

import pytest

from store.index import IndexEntry
from store.store import Store
from tests.store.servers import inside
from tests.worlds import PRODUCTION

INDEX = {
    # lines of this release, of one without hosts, and of no release
    b"3 abc -": IndexEntry(3, "abc", frozenset()),
    b"3 abc h1": IndexEntry(3, "abc", frozenset({"h1"})),
    b"3 abc h1,h2": IndexEntry(3, "abc", frozenset({"h1", "h2"})),
    b"3 deleted": IndexEntry(3, None, frozenset()),
    b"3 abc": IndexEntry(3, "abc", None),
    b"3": IndexEntry(0, "3", None),
    b"abc": IndexEntry(0, "abc", None),
    b"x abc h1": IndexEntry(0, "x abc h1", None),
    b"": IndexEntry(0, "", None),
}


@pytest.mark.parametrize(("written", "read"), INDEX.items())
async def test_any_index_entry_is_read(store: Store, store_url: str, written: bytes, read: IndexEntry) -> None:
    async with inside(store, store_url) as (redis, keys):
        await redis.hset(keys.environments, PRODUCTION, written)
        assert await store.environments.index() == {PRODUCTION: read}
