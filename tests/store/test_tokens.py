"""API tokens in a real store."""

from __future__ import annotations

from store.store import Store
from store.tokens import Token


async def test_tokens_are_added_found_and_removed(store: Store) -> None:
    one, two = Token("t1", "", "admin", 1), Token("t2", "production", "ci ü", 2, expires=9, read_only=True)
    assert await store.tokens.read() == {}
    await store.tokens.add("d1", one)
    await store.tokens.add("d2", two)
    assert await store.tokens.read() == {"d1": one, "d2": two}
    assert await store.tokens.find("d2") == two
    assert await store.tokens.find("none") is None
    await store.tokens.note_use("t1", 5)
    await store.tokens.note_use("t2", 6)
    await store.tokens.note_use("t2", 7)
    assert await store.tokens.uses() == {"t1": 5, "t2": 7}
    await store.tokens.remove({"d1": one, "none": one})
    await store.tokens.remove({})
    assert await store.tokens.read() == {"d2": two}
    assert await store.tokens.uses() == {"t2": 7}
