"""Deleted environments: kept for a while by the store's clock, and brought back into their network."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from store.deleted import Deleted
from store.errors import WrongKey
from store.store import Store
from store.writer import Writer
from tests.waiting import until_true
from tests.worlds import PRODUCTION, build
from zones.edits import PutService, SetEnabled
from zones.errors import Conflict, Missing

DAY = 86_400
NOW = 1_700_000_000_000


async def create(writer: Writer, bits: int) -> None:
    """Makes `production` in the network of ``bits``."""
    await writer.change(PRODUCTION, lambda revision, _: replace(build(PRODUCTION, bits), revision=revision + 1))


async def delete(store: Store, writer: Writer, service: str) -> Deleted:
    """Makes `production` with one service, deletes it, and gives what is kept of that."""
    await create(writer, 1)
    await writer.edit(PRODUCTION, [PutService(service)], NOW)
    await writer.delete(PRODUCTION, lambda _: None)
    return (await store.deleted.read())[-1]


async def test_it_comes_back_as_it_was_in_its_network(store: Store) -> None:
    writer = Writer(store, keep=DAY)
    kept = await delete(store, writer, "api")
    assert 0 <= await store.clock.milliseconds() + DAY * 1000 - kept.until < 60_000
    before = await store.deleted.document(kept)
    assert before is not None
    back = await writer.undelete(PRODUCTION, None)
    assert back.revision == kept.revision + 1
    assert (back.network, list(back.services)) == (before.network, ["api"])
    assert (await store.environments.read(PRODUCTION))[1] == back
    assert await store.deleted.document(kept) is None
    assert (await writer.edit(PRODUCTION, [SetEnabled(enabled=False)], NOW)).after.revision == back.revision + 1


async def test_one_that_was_made_anew_in_between_is_in_nobodys_way_once_it_is_deleted(store: Store) -> None:
    writer = Writer(store, keep=DAY)
    first = await delete(store, writer, "first")
    await create(writer, 2)
    with pytest.raises(Conflict, match="delete it first"):
        await writer.undelete(PRODUCTION, None)
    await writer.delete(PRODUCTION, lambda _: None)
    assert len(await store.deleted.of(PRODUCTION)) == 2
    back = await writer.undelete(PRODUCTION, first.revision)
    assert list(back.services) == ["first"]
    with pytest.raises(Conflict):
        await writer.undelete(PRODUCTION, first.revision)


@pytest.mark.parametrize("keep", [0, 1])
async def test_it_is_kept_as_long_as_is_set(store: Store, keep: int) -> None:
    writer = Writer(store, keep=keep)
    await create(writer, 1)
    await writer.delete(PRODUCTION, lambda _: None)

    async def is_over() -> bool:
        return not await store.deleted.read()

    await until_true(is_over, "it is kept no more")
    with pytest.raises(Missing, match="no deleted environment 'production' is kept"):
        await writer.undelete(PRODUCTION, None)
    async with store.connection.client() as redis:
        assert not await redis.exists(store.connection.keys.deleted)


async def test_two_bring_it_back_and_one_does(store: Store, store_url: str) -> None:
    writer, other = Writer(store, keep=DAY), Writer(store, keep=DAY)
    await delete(store, writer, "api")
    outcomes = await asyncio.gather(
        *(one.undelete(PRODUCTION, None) for one in (writer, other)), return_exceptions=True
    )
    assert sorted(isinstance(one, Conflict | Missing) for one in outcomes) == [False, True]


async def test_a_list_of_a_wrong_type_refuses_and_changes_nothing(store: Store) -> None:
    writer = Writer(store, keep=DAY)
    await create(writer, 1)
    async with store.connection.client() as redis:
        await redis.set(store.connection.keys.deleted, b"x")
    with pytest.raises(WrongKey):
        await writer.delete(PRODUCTION, lambda _: None)
    assert (await store.environments.read(PRODUCTION))[1] is not None
