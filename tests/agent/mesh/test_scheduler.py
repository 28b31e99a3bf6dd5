"""When passes run, who gets their outcome, and when the system is read back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent.errors import Failed
from agent.mesh import scheduler as module
from agent.mesh.scheduler import (
    READ_BACK_DELAY,
    READ_BACK_EVERY,
    READ_BACK_LATEST,
    READ_BACK_SHARE,
    ReadBackTimer,
    Scheduler,
)
from agent.mesh.status import Status
from tests.waiting import until


class Passes:
    """Passes that a test holds up, or has fail."""

    def __init__(self) -> None:
        self.requested: list[bool] = []
        self.error: BaseException | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def run(self, is_requested: bool) -> None:
        self.requested.append(is_requested)
        await self.may_end.wait()
        if self.error:
            raise self.error


@asynccontextmanager
async def running(passes: Passes) -> AsyncIterator[tuple[Scheduler, Status, asyncio.Task[None]]]:
    """A scheduler whose first pass has succeeded, and that reads nothing back."""
    status, timer = Status(), ReadBackTimer(at=float("inf"))
    scheduler = Scheduler(passes.run, timer, status)
    task = asyncio.create_task(scheduler.run(lambda: None))
    await until(lambda: not status.problem)
    yield scheduler, status, task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Failed, ZeroDivisionError):
        await task


async def test_whatever_comes_during_a_pass_is_one_pass_more() -> None:
    passes = Passes()
    async with running(passes) as (scheduler, _, _):
        passes.may_end.clear()
        scheduler.wake()
        await until(lambda: len(passes.requested) == 2)
        for _ in range(100):
            scheduler.wake()
        passes.may_end.set()
        await scheduler.wait_until_applied()
        assert passes.requested == [False, False, True]


async def test_a_waiter_gets_a_pass_that_begins_after_it_came() -> None:
    passes = Passes()
    async with running(passes) as (scheduler, _, _):
        passes.may_end.clear()
        scheduler.wake()
        await until(lambda: len(passes.requested) == 2)
        waiter = asyncio.create_task(scheduler.wait_until_applied())
        await asyncio.sleep(0)
        passes.may_end.set()
        await waiter
        assert passes.requested == [False, False, True]


async def test_a_waiter_gets_the_reason_of_a_failure_and_the_pass_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST", 0.01)
    passes = Passes()
    async with running(passes) as (scheduler, status, _):
        passes.error = Failed("nft is gone")
        with pytest.raises(Failed, match="nft is gone"):
            await scheduler.wait_until_applied()
        assert (status.problem, status.actual, status.counts.failures) == ("nft is gone", None, 1)
        passes.error = None
        await until(lambda: not status.problem)


async def test_a_fault_of_ours_ends_the_scheduler() -> None:
    passes = Passes()
    async with running(passes) as (scheduler, _, task):
        passes.error = ZeroDivisionError()
        with pytest.raises(Failed, match="ZeroDivisionError"):
            await scheduler.wait_until_applied()
        with pytest.raises(ZeroDivisionError):
            await task


async def test_the_first_pass_must_succeed() -> None:
    passes = Passes()
    passes.error = Failed("no WireGuard")
    ready: Callable[[], None] = pytest.fail
    with pytest.raises(Failed, match="no WireGuard"):
        await Scheduler(passes.run, ReadBackTimer(), Status()).run(ready)


async def test_a_read_back_that_is_due_runs_a_pass() -> None:
    passes = Passes()
    async with running(passes) as (scheduler, _, _):
        scheduler.read_back_soon(0.0)
        await until(lambda: len(passes.requested) >= 2)
        scheduler.read_back.at = float("inf")
        assert not any(passes.requested)


# The timer


def test_the_system_is_read_back_regularly_and_seldomer_where_that_takes_long() -> None:
    timer = ReadBackTimer()
    assert timer.is_due(0.0)
    timer.was_read(100.0, 100.1)
    assert timer.at == 100.1 + READ_BACK_EVERY
    timer.was_read(200.0, 200.5)
    assert timer.at == 200.5 + READ_BACK_SHARE * 0.5
    timer.was_read(300.0, 307.0)  # as on a machine whose processors are busy
    assert timer.at == 307.0 + READ_BACK_LATEST


def test_changes_put_the_read_back_off_but_not_beyond_the_regular_one() -> None:
    timer = ReadBackTimer()
    timer.was_read(100.0, 100.0)
    timer.was_changed(101.0)
    assert timer.at == 101.0 + READ_BACK_DELAY
    timer.was_changed(101.3)
    assert timer.at == 101.3 + READ_BACK_DELAY
    timer.was_changed(104.9)
    assert timer.at == 100.0 + READ_BACK_EVERY


def test_where_reading_takes_long_a_change_is_not_followed_by_a_reading() -> None:
    timer = ReadBackTimer()
    timer.was_read(100.0, 100.125)
    timer.was_changed(101.0)
    assert timer.at == 101.0 + READ_BACK_SHARE * 0.125


def test_a_read_back_is_brought_forward_and_never_put_off_by_that() -> None:
    timer = ReadBackTimer()
    timer.was_read(100.0, 100.0)
    timer.bring_forward(100.5)
    timer.bring_forward(103.0)
    assert timer.at == 100.5
