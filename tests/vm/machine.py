"""The machine with a kernel of its own, for tests: whether there is one, and commands in it. See the README beside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_HERE = Path(__file__).parent
BUILD, RUN = _HERE / "build", _HERE / "run"
DEADLINE = 60.0  # seconds for a short command; the guest boots in two


def why_not() -> str:
    """What keeps this machine from running one; empty if nothing does."""
    if os.getuid() != 0:
        return "not root, as the guest's first process has to be to read all files"
    cached = subprocess.run([BUILD, "--if-cached"], capture_output=True, text=True, check=False)
    if cached.returncode:
        return "its kernel is not built yet: run `make vm`, as root on Debian 12"
    return ""


def run(
    command: Sequence[str], *, out: Path | None = None, memory: str = "", deadline: float = DEADLINE
) -> subprocess.CompletedProcess[str]:
    """``command``, run as root in a guest of its own, in the project's folder; its errors are part of its output.

    What it writes below ``out`` stays, all else is lost. ``memory`` is the guest's, ``2G`` for example. Raises
    `subprocess.TimeoutExpired` after ``deadline`` seconds, when the guest has been ended.
    """
    options = [*(("--out", str(out)) if out else ()), *(("--memory", memory) if memory else ())]
    whole = [str(RUN), *options, "--", *command]
    with subprocess.Popen(
        whole, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as process:
        try:
            output, _ = process.communicate(timeout=deadline)
        except BaseException:
            process.terminate()  # and not `kill`: it has a guest to end and a folder to remove
            raise
    return subprocess.CompletedProcess(whole, process.returncode, output)
