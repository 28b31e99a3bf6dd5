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


def go_first() -> bool:
    """Has this process run sooner after each wait, by asking for little time at once; it gets no more in all.

    Else it may wait for the whole slice of a process that keeps the core busy, some milliseconds. Returns False where
    the kernel does not know the call, or the process has a policy that is neither the usual one nor that of a process
    which gave way and forked it; a kernel before Linux 6.12 does nothing.
    """
    return os.sched_getscheduler(0) in (os.SCHED_OTHER, os.SCHED_BATCH) and _set(os.SCHED_OTHER, SLICE)


def give_way() -> None:
    """Has others go before this process where they share a core: its own work is not urgent."""
    if not _set(os.SCHED_BATCH, 0):  # which ends `go_first` as well
        with suppress(OSError):  # some services may make this call alone; without it, the scheduler is fair to all
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _set(policy: int, slice_: int) -> bool:
    """Calls sched_setattr(2); ``slice_`` is in nanoseconds, 0 for the kernel's own."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, 0, nice, 0, slice_, 0, 0, 0, 0)
    failed: int = ctypes.CDLL(None).syscall(number, 0, attributes, 0)
    return not failed
