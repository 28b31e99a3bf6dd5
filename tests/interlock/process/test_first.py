"""The first process of a container reaps what nobody else does, and ends as the program that it stands for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.interlock.processes import DEADLINE, Running, python, run, started, wait_until

ORPHANS = """
import os, signal, subprocess, sys, time
from interlock.process.first import begin_below_first
begin_below_first()
for _ in range(5):
    subprocess.run(["sh", "-c", "sleep 0.01 & sleep 0.01 &"])  # whose parent ends before they do
signal.signal(signal.SIGHUP, lambda *_: print("renewed", flush=True))
print("began", flush=True)
while True:
    time.sleep(0.01)
"""


def contained(script: str) -> tuple[str, ...]:
    """The command that runs ``script`` as the first process of a container."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("a pid namespace needs root, and unshare of the package util-linux")
    return ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *python("-c", script))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def first_of(process: Running) -> int:
    (first,) = children(process.pid)
    return first


def test_orphans_are_reaped_and_signals_passed_on() -> None:
    with started(*contained(ORPHANS)) as process:
        process.read_until("began")
        wait_until(lambda: len(children(first_of(process))) == 1)
        os.kill(first_of(process), signal.SIGHUP)
        process.read_until("renewed")
        os.kill(first_of(process), signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("end", "status"), [("sys.exit(78)", 78), ("os.kill(os.getpid(), 9)", 137), ("raise SystemExit", 0)]
)
def test_it_ends_as_its_program_does(end: str, status: int) -> None:
    script = f"import os, sys\nfrom interlock.process.first import begin_below_first\nbegin_below_first()\n{end}"
    assert run(*contained(script)).returncode == status


def test_any_other_process_stays_itself() -> None:
    script = "import os\nfrom interlock.process.first import begin_below_first\nbefore = os.getpid()\n"
    script += "begin_below_first()\nassert os.getpid() == before"
    assert subprocess.run(python("-c", script), check=False, timeout=DEADLINE).returncode == 0
