"""Real processes for tests: started, waited for by their output, found by their working directory."""

from __future__ import annotations

import io
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from interlock import cli
from tests.waiting import scaled

ROOT = Path(__file__).parents[2]
NOBODY = 65534
DEADLINE = scaled(120.0)  # seconds; long, because a busy machine is slow; only a failing test waits this long


class Running:
    """A process that was started, with its output, its log and its exit status."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.pid = process.pid
        self.output = ""
        self._process = process
        self._errors = errors

    def read_until(self, pattern: str) -> str:
        """Its output so far, once that has a whole line with ``pattern`` in it. Fails if the process ends before."""
        deadline = time.monotonic() + DEADLINE
        while not re.search(f"{pattern}.*\n", self.output):
            more = self.read_more(max(0.0, deadline - time.monotonic()))
            assert more, f"{pattern!r} was not printed:\n{self.output}\n{self.errors}"
        return self.output

    def read_more(self, timeout: float = 0.0) -> bool:
        """Whether it prints more within ``timeout`` seconds."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], timeout)
        more = os.read(self._process.stdout.fileno(), 1 << 16).decode() if readable else ""
        self.output += more
        return bool(more)

    @property
    def errors(self) -> str:
        """Its standard error so far."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode()

    def end(self, number: signal.Signals) -> int:
        """Sends it a signal and gives its exit status, which is below zero for a signal that ended it."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self._process.wait(DEADLINE)


@contextmanager
def started(*command: str, environ: Mapping[str, str] | None = None, directory: Path = ROOT) -> Iterator[Running]:
    """``command`` in ``directory`` while the block runs; killed at the end of the block if it still runs."""
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, cwd=directory, env=clean_environ(environ)
        ) as process,
    ):
        try:
            yield Running(process, errors)
        finally:
            process.kill()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process hangs during the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def run(*command: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """``command``, run to its end."""
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=clean_environ(environ), timeout=DEADLINE
    )


def run_here(*arguments: str) -> tuple[int, str, str]:
    """The product's command with ``arguments``, run in this process: its exit status, output and errors."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = cli.run(list(arguments))
    return status, out.getvalue(), err.getvalue()


def get(url: str) -> tuple[int, str]:
    """Status and content of what is at ``url``."""
    try:
        with urlopen(url, timeout=DEADLINE) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def python(*arguments: str) -> tuple[str, ...]:
    """The command that runs this Python with ``arguments``."""
    return (sys.executable, *arguments)


def interlock(*arguments: str) -> tuple[str, ...]:
    """The command that runs the product with ``arguments``."""
    return python("-m", "interlock", *arguments)


def unprivileged(*command: str) -> tuple[str, ...]:
    """``command`` as a user who may read all files, since Python may be below /root, and change none."""
    if os.getuid():
        return command
    if not shutil.which("setpriv"):
        pytest.skip("no setpriv on this machine, to run a command as an ordinary user: install the package util-linux")
    capabilities = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *capabilities, *command)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.01)


def stores_in(directory: Path) -> list[int]:
    """The ids of the processes whose working directory is that of the embedded store in ``directory``."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if Path(os.readlink(entry / "cwd")) == directory.resolve() / "store":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def clean_environ(environ: Mapping[str, str] | None) -> dict[str, str]:
    """This process's variables without the product's, and ``environ``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return clean | dict(environ or {})
