"""Calls beside the event loop: their results, their errors, and that they end before whoever has asked goes on."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time

import pytest

from agent.errors import Failed
from agent.system.aside import KEPT, call_aside
from tests.waiting import DEADLINE, until


async def test_the_loop_goes_on_meanwhile() -> None:
    released = threading.Event()
    calling = asyncio.create_task(call_aside(lambda: released.wait(DEADLINE)))
    await asyncio.sleep(0)
    released.set()  # which nobody would, were the loop held
    assert await calling


async def test_an_error_is_raised_where_the_result_is_awaited() -> None:
    def fail() -> None:
        raise Failed("no")

    with pytest.raises(Failed, match="no"):
        await call_aside(fail)


async def test_a_cancellation_waits_for_the_end() -> None:
    """Else what undoes an attach that was cancelled would run beside what does it."""
    begun, released, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        released.wait(DEADLINE)
        ended.set()

    calling = asyncio.create_task(call_aside(work))
    await until(begun.is_set)
    calling.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not calling.done()
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert ended.is_set()


async def test_a_thread_makes_one_call_after_the_other() -> None:
    assert await call_aside(threading.get_native_id) == await call_aside(threading.get_native_id)


async def test_no_call_waits_for_another_one() -> None:
    """A kernel that takes long over one call holds up no other, however many there are."""
    released = threading.Event()
    held = [asyncio.create_task(call_aside(lambda: released.wait(DEADLINE))) for _ in range(2 * KEPT)]
    await asyncio.sleep(0)
    assert await call_aside(lambda: not released.is_set())
    released.set()
    assert all(await asyncio.gather(*held))


async def test_a_thread_in_which_a_call_has_failed_is_not_used_again() -> None:
    """It may be in a namespace that it could not leave."""
    failed: list[int] = []

    def fail() -> None:
        failed.append(threading.get_native_id())
        raise Failed("no")

    first = await call_aside(threading.get_native_id)
    with pytest.raises(Failed):
        await call_aside(fail)
    assert failed == [first]
    assert await call_aside(threading.get_native_id) != first


def test_the_threads_of_a_loop_end_with_it() -> None:
    before = _threads()
    asyncio.run(call_aside(lambda: None))
    gc.collect()
    deadline = time.monotonic() + DEADLINE
    while _threads() - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _threads() -> set[int]:
    return {int(number) for number in os.listdir("/proc/self/task")}
