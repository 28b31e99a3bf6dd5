"""Processes that are measured: started on a core of their own, read from /proc, and always stopped again."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

START_DEADLINE = 60.0  # seconds until a process that is not ready fails the run
STOP_DEADLINE = 10.0  # seconds until a process that does not end is killed
LOOPBACK = "::1"

_TICKS = os.sysconf("SC_CLK_TCK")
_GROUP, _USER, _SYSTEM = (
    2,
    11,
    12,
)  # fields of /proc/PID/stat after the name; those of reaped children are two further on
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class BenchError(Exception):
    """A measurement that cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time in seconds."""

    user: float
    system: float

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(self.user - earlier.user, self.system - earlier.system)

    @property
    def total(self) -> float:
        return self.user + self.system


@dataclass(frozen=True, slots=True)
class Process:
    """A running process. Its output goes to the file ``log``."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def cpu(self) -> Cpu:
        """The time that it and its children have used so far, ended children included; exact to some 10 ms."""
        group = list(self._group().values())
        user, system = (sum(int(fields[at]) + int(fields[at + 2]) for fields in group) for at in (_USER, _SYSTEM))
        return Cpu(user / _TICKS, system / _TICKS)

    def memory(self) -> int:
        """Octets that it and its children have in memory now; memory that several of them share counts once."""
        rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self._group())
        return sum(_kilobytes(rollup, "Pss:") for rollup in rollups) * 1024

    def peak_memory(self) -> int:
        """The most octets that it had in memory so far, without its children."""
        return _kilobytes(Path(f"/proc/{self.popen.pid}/status").read_text(), "VmHWM:") * 1024

    def _group(self) -> dict[int, list[str]]:
        """Process id → fields of its /proc/PID/stat, of it and its children."""
        return {pid: fields for pid, fields in _all_processes() if int(fields[_GROUP]) == self.popen.pid}

    def wait_until(self, condition: Callable[[], bool], deadline: float = START_DEADLINE) -> None:
        """Returns when ``condition`` holds. Raises `BenchError` after ``deadline`` seconds."""
        end = time.monotonic() + deadline
        while not condition():
            self.check()
            if time.monotonic() > end:
                raise BenchError(f"{self.name} was not ready within {deadline:g} s: {self._last_lines()}")
            time.sleep(0.01)

    def check(self) -> None:
        """Raises `BenchError`, with the end of the process's output, if it has ended."""
        if self.popen.poll() is not None:
            raise BenchError(f"{self.name} has ended: {self._last_lines()}")

    def _last_lines(self) -> str:
        printed = self.log.read_text(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in printed[-3:]) or "it printed nothing"


@contextmanager
def running(name: str, command: Sequence[str], directory: Path, core: int | None = None) -> Iterator[Process]:
    """``command`` while the block runs, on ``core`` alone if one is given; its output goes to a file in ``directory``.

    The command ends with the block, and with this process, even if that is killed.
    """

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if core is not None:
            os.sched_setaffinity(0, {core})

    log = directory / f"{name}.log"
    with log.open("wb") as output:
        # A process group of its own: Ctrl-C reaches this process alone, which stops the others in order.
        popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=directory,
            preexec_fn=prepare, process_group=0,
        )  # fmt: skip
    try:
        yield Process(name, popen, log)
    finally:
        _stop(popen)


def free_port() -> int:
    """A port that is free for UDP and TCP on both loopback addresses."""
    while True:
        with ExitStack() as stack:
            port = 0
            try:
                for family, address in ((socket.AF_INET6, LOOPBACK), (socket.AF_INET, "127.0.0.1")):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        sock = stack.enter_context(socket.socket(family, kind))
                        sock.bind((address, port))
                        port = sock.getsockname()[1]
            except OSError:
                continue
            return port


def cores() -> tuple[int, int]:
    """The core of the server, and that of the load."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError("one core for the server and one for the load are needed: this machine has one")
    return allowed[0], allowed[1]


@contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Keeps this process, and what it starts, on ``cores`` while the block runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def processor_seconds(pid: int) -> float:
    """The processor time that the process ``pid`` has used so far, without its children; exact, and cheap to read."""
    return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid(3) gives


def _kilobytes(status: str, field: str) -> int:
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


def _all_processes() -> Iterator[tuple[int, list[str]]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            yield int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile


def _stop(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    try:
        popen.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
