"""Calls in threads beside the event loop: they may wait for the kernel or the disk, and enter a namespace."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from weakref import WeakKeyDictionary, finalize

T = TypeVar("T")

KEPT = 8  # threads that are kept while they have nothing to do; as many workloads are seldom attached at once


async def call_aside(function: Callable[[], T]) -> T:
    """The result of ``function``.

    Whoever cancels it goes on when ``function`` has ended: what it has done may have to be undone.
    """
    result = asyncio.get_running_loop().create_future()
    _take_thread(result.get_loop()).call(function, result)
    try:
        found: T = await asyncio.shield(result)
    except asyncio.CancelledError:
        await asyncio.wait([result])
        if not result.cancelled():
            result.exception()  # is known to have been looked at
        raise
    return found


class _Thread:
    """A thread that makes one call after the other, and is in ``idle`` in between.

    A new one for each call would cost three times as much, and where the processors are busy it would wait for some
    milliseconds until it runs. A call never waits for a thread, as it would in a pool, whose threads a kernel that
    takes long would hold: where none is idle, another one is started.
    """

    def __init__(self, idle: list[_Thread]) -> None:
        self._idle = idle
        self._call: tuple[Callable[[], object], asyncio.Future[object]] | None = None
        self._given = _thread.allocate_lock()  # held while there is no call: by far the quickest way to wake a thread
        self._given.acquire()
        _thread.start_new_thread(self._run, ())

    def call(self, function: Callable[[], object], result: asyncio.Future[object]) -> None:
        """Has the thread, which is idle, call ``function``, and settles ``result`` in its loop."""
        self._call = function, result
        self._given.release()

    def end(self) -> None:
        """Ends the thread, which is idle."""
        self._given.release()

    def _run(self) -> None:
        while self._given.acquire() and self._call:
            (function, result), self._call = self._call, None
            outcome, failure = None, None
            try:
                outcome = function()
            except Exception as error:  # noqa: BLE001 raised again where the result is awaited
                failure = error
            # A call that has failed may have left its thread in the namespace that it had entered.
            is_kept = failure is None and len(self._idle) < KEPT
            if is_kept:
                self._idle.append(self)  # first, for the next call may come as soon as the result is there
            with suppress(RuntimeError):  # the loop has ended
                result.get_loop().call_soon_threadsafe(_settle, result, outcome, failure)
            del function, result, outcome, failure  # an idle thread keeps nothing alive
            if not is_kept:
                return


# By event loop, for a thread is in the namespace of the one that has started it: in tests, loops are in several.
_idle_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Thread]] = WeakKeyDictionary()


def _take_thread(loop: asyncio.AbstractEventLoop) -> _Thread:
    idle = _idle_threads.get(loop)
    if idle is None:
        idle = _idle_threads[loop] = []
        finalize(loop, _end_all, idle)
    return idle.pop() if idle else _Thread(idle)


def _end_all(idle: list[_Thread]) -> None:
    for thread in idle:
        thread.end()


def _settle(result: asyncio.Future[object], outcome: object, failure: BaseException | None) -> None:
    if result.done():
        return
    if failure is None:
        result.set_result(outcome)
    else:
        result.set_exception(failure)
