"""Who goes first where processes of one resolver share a core: those that answer, before the one that has the zones."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from contextlib import suppress

SLICE = 100_000  # nanoseconds, the least that the kernel gives; a query takes less

_NUMBERS = {"x86_64": 314, "aarch64": 274, "riscv64": 274}  # of the system call: <asm/unistd.h>
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")  # <linux/sched/types.h>
_RESET_ON_FORK = 1  # <linux/sched.h>


def go_first() -> bool:
    """Has this process run sooner after each wait, by asking for little time at once; it gets no more in all.

    Else it may wait for the whole slice of a process that keeps the core busy, some milliseconds. Returns False where
    it has a policy that somebody chose, or the kernel does not know the call; one before Linux 6.12 does nothing.
    """
    return os.sched_getscheduler(0) == os.SCHED_OTHER and _set(os.SCHED_OTHER, 0, SLICE)


def give_way() -> None:
    """Has others go before this process where they share a core: its own work is not urgent. Its children do not."""
    with suppress(OSError):  # where that is not allowed, the scheduler is fair to all
        os.sched_setscheduler(0, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    _set(os.SCHED_BATCH, _RESET_ON_FORK, 0)  # ends `go_first` too; some services may make the one call alone


def _set(policy: int, flags: int, slice_: int) -> bool:
    """Calls sched_setattr(2); ``slice_`` is in nanoseconds, 0 for the kernel's own."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags, nice, 0, slice_, 0, 0, 0, 0)
    failed: int = ctypes.CDLL(None).syscall(number, 0, attributes, 0)
    return not failed
