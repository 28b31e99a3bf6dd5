"""Calls beside the event loop: their results, their errors, and that they end before whoever has asked goes on."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agent.errors import Failed
from agent.system.aside import call_aside
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
