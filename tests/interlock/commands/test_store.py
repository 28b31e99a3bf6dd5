"""``interlock store``, on a real store."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from interlock.cli import run
from store.store import Store
from store.writer import Writer
from tests.store.servers import inside
from tests.store.test_differences import large
from tests.worlds import NOW, PRODUCTION, build
from zones import document
from zones.edits import PutInstance


async def check(store: Store, store_url: str, *flags: str, command: str = "check") -> int:
    keys = store.connection.keys
    arguments = ["store", command, "--redis", store_url, "--redis-prefix", keys.prefix, *flags]
    return await asyncio.to_thread(run, arguments)


async def test_a_sound_store_is_said_to_be_well(
    store: Store, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    assert await check(store, store_url) == 0
    assert capsys.readouterr().out == "all well\n"


async def test_damage_is_an_exit_status_until_it_is_mended(
    store: Store, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await store.environments.commit(build(PRODUCTION, 1), 0)
    async with inside(store, store_url) as (redis, keys):
        await redis.hdel(keys.environments, PRODUCTION)
    assert await check(store, store_url, "--json") == 1
    captured = capsys.readouterr()
    assert [one["what"] for one in json.loads(captured.out)] == [f"environment {PRODUCTION}"]
    assert "1 still damaged" in captured.err
    assert await check(store, store_url, "--repair") == 0
    assert "its document is now revision" in capsys.readouterr().out
    assert await check(store, store_url) == 0


async def test_all_is_written_whole_for_an_older_release(
    store: Store, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await large(store)
    written = (await Writer(store).edit(PRODUCTION, [PutInstance("api", "mine")], NOW)).after
    assert await check(store, store_url, command="fold") == 0
    assert capsys.readouterr().out.lower().split() == ["environment", "revision", PRODUCTION, str(written.revision + 1)]
    assert await check(store, store_url, command="fold") == 0
    assert capsys.readouterr().out == "all are whole\n"
    async with inside(store, store_url) as (redis, keys):
        whole = document.decode(await redis.get(keys.environment(PRODUCTION)))
    assert whole == replace(written, revision=written.revision + 1)


def test_a_store_that_is_away_is_named(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    assert run(["store", "check", "--redis", f"unix://{tmp_path}/nothing.sock"]) == 1
    assert f"store unix://{tmp_path}/nothing.sock: " in capsys.readouterr().err
