"""A worker by itself: a real fork, whose parent is this process."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from interlock.process.forking import fork
from interlock.workers import worker


async def test_the_kernel_ends_a_worker_that_hangs_where_nobody_else_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "HUNG_AFTER", 1)

    async def hang() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the limit of time of this test has a handler
        task = asyncio.create_task(worker._end_if_hung())
        await asyncio.sleep(0)
        time.sleep(1000)  # noqa: ASYNC251 on purpose
        task.cancel()

    pid = fork(hang, [], outlives=True)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGALRM
