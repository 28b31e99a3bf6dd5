"""The store's clock, which all processes share though their machines' clocks differ."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from redis.asyncio import Redis

from store.clock import MEASURE_EVERY, StoreClock
from store.errors import Unavailable
from store.store import Store
from tests.store.servers import StartServer, opened

DAY = 86_400.0
CLOSE = 60.0  # seconds; far more than a test takes, far less than a day


def a_day_ahead() -> float:
    return time.time() + DAY


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "support.clock"]


async def test_the_machines_clock_until_the_store_was_asked_and_the_stores_from_then_on(store: Store) -> None:
    clock = StoreClock(store.connection, a_day_ahead)
    assert abs(clock.now() - a_day_ahead()) < CLOSE
    assert (clock.skew, clock.warning) == (None, "")
    assert abs(await clock.milliseconds() / 1000 - time.time()) < CLOSE
    assert abs(clock.now() - time.time()) < CLOSE
    assert clock.skew == pytest.approx(DAY, abs=CLOSE)


@pytest.mark.parametrize(("ahead", "words"), [(DAY, "ahead of the store's"), (-DAY, "behind the store's"), (0.0, "")])
async def test_a_skew_is_named(store: Store, caplog: pytest.LogCaptureFixture, ahead: float, words: str) -> None:
    clock = StoreClock(store.connection, lambda: time.time() + ahead)
    with caplog.at_level(logging.INFO):
        await clock.read()
        await clock.read()
    assert words in clock.warning
    assert bool(clock.warning) is bool(words)
    assert logged(caplog) == ["clock_skewed"] * bool(words)  # once


async def test_a_clock_that_is_set_right_is_logged_too(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    ahead = DAY
    clock = StoreClock(store.connection, lambda: time.time() + ahead)
    with caplog.at_level(logging.INFO):
        await clock.read()
        before = clock.now()
        ahead = 0.0
        assert abs(clock.now() - before) < CLOSE
        assert clock.warning == ""
        await clock.read()
    assert logged(caplog) == ["clock_skewed", "clock_agrees"]


async def test_a_process_that_was_held_up_while_it_asked_is_not_ahead(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_up, ask = 0.0, Redis.time

    async def time_of_a_busy_machine(redis: Redis) -> tuple[int, int]:
        nonlocal held_up
        seconds, microseconds = await ask(redis)
        before, held_up = held_up, DAY  # the first reply lies there for a day
        return seconds + int(before), microseconds

    monkeypatch.setattr(Redis, "time", time_of_a_busy_machine)
    clock = StoreClock(store.connection, lambda: time.time() + held_up, lambda: time.monotonic() + held_up)
    with caplog.at_level(logging.INFO):
        await clock.read()
    assert (clock.warning, logged(caplog)) == ("", [])


async def test_it_goes_on_by_the_monotonic_clock_and_is_read_again_after_a_while(store: Store) -> None:
    elapsed = 0.0
    clock = StoreClock(store.connection, monotonic=lambda: elapsed)
    first = await clock.milliseconds()
    elapsed = MEASURE_EVERY
    assert await clock.milliseconds() == first + MEASURE_EVERY * 1000  # not asked again yet
    elapsed += MEASURE_EVERY / 2
    again = await clock.milliseconds()
    assert abs(again - first) < CLOSE * 1000  # asked again: the store's clock has not gone on by that much
    assert again != first + elapsed * 1000


async def test_who_ask_at_the_same_time_share_what_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    readings, ask = 0, Redis.time

    async def counted(redis: Redis) -> tuple[int, int]:
        nonlocal readings
        readings += 1
        return await ask(redis)

    monkeypatch.setattr(Redis, "time", counted)
    clock = StoreClock(store.connection)
    first = asyncio.create_task(clock.milliseconds())
    await asyncio.sleep(0)
    others = asyncio.gather(*(clock.milliseconds() for _ in range(20)))
    await asyncio.sleep(0)
    first.cancel()  # whose session has ended
    assert all(abs(now / 1000 - time.time()) < CLOSE for now in await others)
    assert readings == 1


async def test_all_who_share_it_hear_that_the_store_is_gone(start_server: StartServer) -> None:
    server = await start_server()
    async with opened(server.url) as store:
        server.kill()
        outcomes = await asyncio.gather(*(store.clock.milliseconds() for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
        server = await server.start()
        assert await store.clock.milliseconds()


async def test_a_store_that_is_gone_tells_no_time_but_the_last_one_goes_on(start_server: StartServer) -> None:
    server = await start_server()
    async with opened(server.url) as store:
        await store.clock.read()
        server.kill()
        with pytest.raises(Unavailable):
            await store.clock.read()
        assert abs(store.clock.now() - time.time()) < CLOSE
