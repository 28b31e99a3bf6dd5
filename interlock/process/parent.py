"""Children that end with this process, also when it is killed (``PR_SET_PDEATHSIG``, prctl(2))."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def end_with_parent(number: signal.Signals = signal.SIGKILL, parent: int | None = None) -> Callable[[], None]:
    """The ``preexec_fn`` of a child to which the kernel sends ``number`` when the thread that made the child ends.

    ``parent`` is the process id of the parent, by default this process.
    """
    # Whatever can fail or take a lock is done before the fork: the child makes two system calls and no more.
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid() if parent is None else parent

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, number.value, 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before prctl took effect
            os._exit(1)

    return bind


async def end_child(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Asks ``process`` to end, and kills it if it has not within ``seconds``. Returns whether it was killed."""
    if process.returncode is not None:
        return False
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
            return True
    return False


def how_it_ended(status: int) -> str:
    """The end of a child with the exit ``status`` in words; below zero it is the signal that ended it."""
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
