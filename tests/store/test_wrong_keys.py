"""Keys of a wrong type: a write makes all of its change or none, and the error names the key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from store.errors import Refused, WrongKey
from store.hosts import HostStore
from store.keys import ALL_HOSTS
from store.store import Store
from tests.store.servers import redis_of
from tests.worlds import PRODUCTION, build_on, toggled
from zones.hosts import Host
from zones.keys import PublicKey

BEFORE = build_on(PRODUCTION, 1, "h1")
HOST = Host("h1", "192.0.2.1:51820", PublicKey("A" * 42 + "E="))
OTHER = Host("h2", "192.0.2.2:51820", PublicKey("B" * 42 + "E="))
LARGEST = "18446744073709551615-18446744073709551615"  # the last position that a stream can have

Write = Callable[[Store], Awaitable[Any]]
WRITES: dict[str, tuple[Write, tuple[str, ...]]] = {
    # what is written, and the keys that it needs
    "commit": (
        lambda store: store.environments.commit(toggled(BEFORE), BEFORE.revision),
        ("epoch", "environments", "networks", "changes"),
    ),
    "delete": (lambda store: store.environments.delete(BEFORE), ("epoch", "environments", "networks", "changes")),
    "register": (lambda store: store.hosts.register(OTHER), ("epoch", "hosts", "hosts:revision", "changes")),
    "forget": (lambda store: store.hosts.forget("h1"), ("epoch", "hosts", "hosts:revision", "changes")),
    "confirm": (lambda store: store.guard.confirm(), ("epoch", "guard", "changes")),
}


@pytest.fixture
async def filled(store: Store) -> Store:
    await store.environments.commit(BEFORE, 0)
    await store.hosts.register(HOST)
    return store


async def contents(redis: Any, store: Store) -> dict[bytes, bytes]:
    """All keys of ``store``, each with its value."""
    return {key: await redis.dump(key) async for key in redis.scan_iter(f"{store.connection.keys.prefix}*")}


@pytest.mark.parametrize(("what", "key"), [(what, key) for what, (_, keys) in WRITES.items() for key in keys])
async def test_a_write_that_meets_a_key_of_a_wrong_type_changes_nothing_and_names_it(
    filled: Store, store_url: str, what: str, key: str
) -> None:
    async with redis_of(store_url) as redis:
        wrong = filled.connection.keys.prefix + key
        await redis.delete(wrong)
        await redis.rpush(wrong, "something else")
        before = await contents(redis, filled)
        with pytest.raises(WrongKey, match=f"{wrong} is of the type list, and must be a .*'interlock store check'"):
            await WRITES[what][0](filled)
        assert await contents(redis, filled) == before


@pytest.mark.parametrize("what", WRITES)
async def test_a_write_that_cannot_be_announced_is_not_made(filled: Store, store_url: str, what: str) -> None:
    """The stream has its type, and takes no more changes: somebody has used up its positions."""
    async with redis_of(store_url) as redis:
        await redis.xadd(filled.connection.keys.changes, {"hello": "world"}, id=LARGEST)
        before = await contents(redis, filled)
        with pytest.raises(Refused, match="exhausted"):
            await WRITES[what][0](filled)
        assert await contents(redis, filled) == before


async def test_a_number_of_changes_that_cannot_be_counted_up(filled: Store, store_url: str) -> None:
    async with redis_of(store_url) as redis:
        await redis.set(filled.connection.keys.hosts_revision, "many")
        before = await contents(redis, filled)
        with pytest.raises(WrongKey, match="hosts:revision holds no number"):
            await filled.hosts.register(OTHER)
        assert await contents(redis, filled) == before


@pytest.mark.parametrize("id_", [PRODUCTION, ALL_HOSTS])
async def test_acknowledgements_of_a_wrong_type_are_made_anew(filled: Store, store_url: str, id_: str) -> None:
    """Nothing else is in there, and agents make them again."""
    wrong = filled.connection.keys.acks(id_)
    async with redis_of(store_url) as redis:
        await redis.set(wrong, "something else")
        await filled.environments.commit(toggled(BEFORE), BEFORE.revision)
        await filled.hosts.forget("h1")
        assert await redis.type(wrong) in (b"none", b"hash")


READS: dict[str, Write] = {
    "changes": lambda store: store.changes.position(),
    "environments": lambda store: store.environments.index(),
    "epoch": lambda store: store.changes.position(),
    "hosts": lambda store: HostStore.read(store.hosts),
    "tokens": lambda store: store.tokens.read(),
    "guard": lambda store: store.guard.read(),
}


@pytest.mark.parametrize("key", READS)
async def test_a_read_that_meets_a_key_of_a_wrong_type_names_it(filled: Store, store_url: str, key: str) -> None:
    async with redis_of(store_url) as redis:
        wrong = filled.connection.keys.prefix + key
        await redis.delete(wrong)
        await redis.rpush(wrong, "something else")
        with pytest.raises(WrongKey, match=f"{wrong} is of the type list, and must be a "):
            await READS[key](filled)
        await redis.delete(wrong)
        await READS[key](filled)
