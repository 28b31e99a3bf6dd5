"""Turns: those who work on one environment do so a few at a time, and who waits for a commit is in nobody's way."""

from __future__ import annotations

import asyncio

import pytest

from store.store import Store
from store.turns import AT_ONCE, Turns, out_of_turn
from store.writer import Writer
from tests.waiting import cancel, until
from tests.worlds import NOW, PRODUCTION, build
from zones.edits import PutInstance, PutService


async def test_a_few_at_a_time_work_on_an_environment_and_none_waits_for_another_one() -> None:
    turns, working, done = Turns(), list[str](), asyncio.Event()

    async def work(environment: str) -> None:
        async with turns.taken(environment):
            working.append(environment)
            await done.wait()

    tasks = [asyncio.create_task(work(each)) for each in ["busy"] * 5 + ["quiet"]]
    await until(lambda: "quiet" in working)
    assert working.count("busy") == AT_ONCE
    done.set()
    await asyncio.gather(*tasks)
    assert working.count("busy") == 5


async def test_who_waits_for_something_else_lets_the_others_go_on() -> None:
    turns, made = Turns(), asyncio.get_running_loop().create_future()
    steps = list[str]()

    async def work(number: int) -> None:
        async with turns.taken("one"):
            steps.append("before")
            await out_of_turn(made)
            steps.append("after")
            await asyncio.sleep(0)
            assert steps.count("after") - steps.count("done") <= AT_ONCE
            steps.append("done")

    tasks = [asyncio.create_task(work(number)) for number in range(10)]
    await until(lambda: steps.count("before") == 10)
    made.set_result(None)
    await asyncio.gather(*tasks)
    assert steps.count("done") == 10


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_whoever_gives_up_takes_no_turn_away(is_waiting: bool) -> None:
    turns, never = Turns(), asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with turns.taken("one"):
            await (out_of_turn(never) if is_waiting else never)

    for _ in range(AT_ONCE + 1):
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        await cancel(task)
    async with asyncio.timeout(5), turns.taken("one"):
        pass


async def test_a_failure_for_which_somebody_waited_reaches_them() -> None:
    async def fail() -> None:
        raise ValueError("no")

    turns = Turns()
    for _ in range(AT_ONCE + 1):
        with pytest.raises(ValueError, match="no"):
            async with turns.taken("one"):
                await out_of_turn(fail())


async def test_those_who_have_a_turn_and_change_the_environment_are_committed_together(store: Store) -> None:
    await store.environments.commit(build(PRODUCTION, 1, PutService("api")), 0)
    writer = Writer(store)

    async def change(number: int) -> None:
        async with writer.turns.taken(PRODUCTION):
            await writer.edit(PRODUCTION, [PutInstance("api", f"i{number}")], NOW)

    await asyncio.gather(*(change(number) for number in range(20)))
    _, environment = await store.environments.read(PRODUCTION)
    assert environment
    assert len(environment.services["api"].instances) == 20
    assert writer.counts.commits <= 20 / 4
