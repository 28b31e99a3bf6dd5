"""How many cores a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from interlock.process.cores import usable_cores

HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", HERE),
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("100001 100000\n", min(2, HERE)),
        ("9900000 100000\n", HERE),
        ("", HERE),
    ],
)
def test_a_control_group_may_leave_fewer_than_there_are(tmp_path: Path, quota: str, cores: int) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert usable_cores(file) == cores


def test_there_may_be_no_control_group(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none") == HERE
