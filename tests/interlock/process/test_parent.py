"""Children that end with their parent."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from interlock.process.parent import end_with_parent
from tests.interlock.processes import started

PARENT = """
import signal, subprocess, sys
from interlock.process.parent import end_with_parent
child = subprocess.Popen(["sleep", "600"], preexec_fn=end_with_parent(signal.Signals(int(sys.argv[1]))))
print("child", child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_when_its_parent_is_killed(number: signal.Signals) -> None:
    with started(sys.executable, "-c", PARENT, str(number.value)) as process:
        child = int(process.read_until("child").split()[1])
        process.end(signal.SIGKILL)
        subprocess.run(["tail", f"--pid={child}", "--follow", "/dev/null"], check=True, timeout=20)


def test_a_child_whose_parent_ended_before_prctl_ends_itself() -> None:
    child = subprocess.run(["true"], preexec_fn=end_with_parent(parent=-1), check=False)
    assert child.returncode == 1
