"""The kernel's WireGuard where the kernel of this machine has none: the same benchmark, run in the guest of `tests/vm`.

The guest has one processor and is several times slower. So its figures are compared with each other alone.
"""

from __future__ import annotations

import subprocess
import sys

from bench.processes import BenchError
from bench.report import progress, wrapped
from tests.vm import machine

MEMORY = "4G"
DEADLINE = 3600.0  # seconds; a thousand environments take minutes there


def why_not() -> str:
    """What keeps this machine from running a guest; empty if nothing does."""
    return machine.why_not()


def measured(benchmark: str, *options: str) -> str:
    """What ``benchmark`` prints in the guest for the kernel's WireGuard alone, with ``options`` of the command line."""
    progress(f"{benchmark}: the kernel's WireGuard, in the guest of tests/vm")
    command = [sys.executable, "-m", "bench", benchmark, "--devices", "kernel", *options]
    try:
        done = machine.run(command, memory=MEMORY, deadline=DEADLINE)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{benchmark}: the guest has not ended after {DEADLINE:,.0f} s") from None
    lines = done.stdout.splitlines()
    for line in lines:
        if line.startswith("bench: "):
            print(line, file=sys.stderr, flush=True)
    if done.returncode:
        raise BenchError(f"{benchmark}: failed in the guest with status {done.returncode}: {' '.join(lines[-3:])}")
    text = "\n".join(line for line in lines if not line.startswith("bench: "))
    return wrapped("In the guest of tests/vm, whose times say nothing about a real host:") + "\n" + text
