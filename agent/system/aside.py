"""A call in a thread of its own, beside the event loop: it may wait for the kernel, and enter a namespace."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def call_aside(function: Callable[[], T]) -> T:
    """The result of ``function``.

    Whoever cancels it goes on when ``function`` has ended: what it has done may have to be undone.
    """
    loop, result = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def run() -> None:
        outcome, failure = None, None
        try:
            outcome = function()
        except Exception as error:  # noqa: BLE001 raised again where the result is awaited
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, result, outcome, failure)

    # Not one of a pool, whose few threads a kernel that takes long would hold, and which would stay in the namespace
    # that one has entered. Not by `threading`, which waits until the thread runs: that costs more than the thread.
    _thread.start_new_thread(run, ())
    try:
        found: T = await asyncio.shield(result)
    except asyncio.CancelledError:
        await asyncio.wait([result])
        if not result.cancelled():
            result.exception()  # is known to have been looked at
        raise
    return found


def _settle(result: asyncio.Future[T | None], outcome: T | None, failure: BaseException | None) -> None:
    if result.done():
        return
    if failure is None:
        result.set_result(outcome)
    else:
        result.set_exception(failure)
