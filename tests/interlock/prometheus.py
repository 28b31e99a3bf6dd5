"""Prometheus' own tool, which reads metrics and rules as a server does."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """``promtool`` with ``arguments``, run to its end. Skips the test where there is none."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool on this machine, to read metrics with: install the package prometheus")
    return subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, check=False)
