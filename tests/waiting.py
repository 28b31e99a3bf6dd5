"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

DEADLINE = 20.0  # seconds; what is waited for comes within milliseconds, unless the machine is busy


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Returns as soon as ``condition`` holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE:.0f} s in vain: {what or condition}"
        await asyncio.sleep(0.005)


async def cancel(task: asyncio.Task[None]) -> None:
    """Returns when ``task`` has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
