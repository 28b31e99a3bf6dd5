"""What the kernel's scheduler gives a process: /proc/PID/sched, see proc(5)."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

_RELEASE = tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])

with_slices = pytest.mark.skipif(_RELEASE < (6, 12), reason="Linux 6.12 is the first where a process has its own slice")


def policy_of(pid: int) -> int:
    """The policy, as in the ``SCHED_`` of ``os``."""
    return _read(pid, "policy")


def slice_of(pid: int) -> int:
    """For how long it may run at once, in nanoseconds."""
    return _read(pid, "se.slice")


def _read(pid: int, field: str) -> int:
    found = re.search(rf"^{re.escape(field)} +: +(\d+)$", Path(f"/proc/{pid}/sched").read_text(), re.MULTILINE)
    assert found, f"this kernel does not say {field}"
    return int(found[1])
