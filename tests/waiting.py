"""Waiting for a condition, with a deadline, which is the longest that a right result may take on this machine.

A machine can be slower than those that the tests are written on, as the guest of `tests/vm` is: its kernel is an
ordinary program, and has one processor. There the variable ``TEST_SLOWNESS`` multiplies the deadlines, which takes
longer only where a test fails. What a test measures, or the product promises, is not scaled.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")

# Without the prefix of the product's variables: it refuses to start with one that it does not know.
VARIABLE = "TEST_SLOWNESS"
SLOWNESS = float(os.environ.get(VARIABLE) or 1)


def scaled(seconds: float) -> float:
    """``seconds`` on a usual machine, as a deadline for this one."""
    return seconds * SLOWNESS


DEADLINE = scaled(60.0)  # seconds; what is waited for comes within milliseconds, unless the machine is very busy


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Returns as soon as ``condition`` holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE:.0f} s in vain: {what or condition}"
        await asyncio.sleep(0.005)


async def until_true(ask: Callable[[], Awaitable[_T]], what: str = "") -> _T:
    """What ``ask`` gives as soon as that is true."""
    deadline = time.monotonic() + DEADLINE
    while not (answer := await ask()):
        assert time.monotonic() < deadline, f"waited {DEADLINE:.0f} s in vain: {what or ask}"
        await asyncio.sleep(0.005)
    return answer


def waited_for_processor() -> float:
    """For how many seconds this thread could have run while other processes did: no fault of a server's."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


async def cancel(task: asyncio.Task[Any]) -> None:
    """Returns when ``task`` has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
