"""Load by dnsperf, on a core of its own: the adapter for its command line and its report."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.processes import LOOPBACK, BenchError, Cpu, Process

CLIENTS = 8  # sockets that send queries
OUTSTANDING = 200  # queries in flight: enough to keep any of the servers busy, too few to lose any
END_DEADLINE = 30.0  # seconds that dnsperf may take to end


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of one load on a server."""

    rate: float
    """Queries answered in a second."""
    completed: int
    """Queries answered."""
    lost: int
    """Queries that got no answer."""
    latency: float
    """Seconds until an answer, on average, with `OUTSTANDING` queries in flight."""
    cpu: Cpu
    """The processor time that the server used."""
    seconds: float
    """Seconds that the load lasted."""
    rcodes: str
    """The response codes with their shares, as dnsperf prints them."""

    @property
    def cost(self) -> Cpu:
        """The processor time of the server for one query."""
        return Cpu(self.cpu.user / self.completed, self.cpu.system / self.completed)

    @property
    def busy(self) -> float:
        """The share of its core that the server used."""
        return self.cpu.total / self.seconds


def put_load(
    server: Process,
    port: int,
    queries: Path,
    seconds: float,
    core: int | None,
    *,
    rate: int | None = None,
    edns: bool = False,
    once: bool = False,
) -> Loaded:
    """Sends the queries in the file ``queries`` again and again, as fast as ``server`` answers or ``rate`` a second.

    ``once``: it ends after the last query of the file, too. From ``core`` alone, unless that is None.
    """
    dnsperf = shutil.which("dnsperf")
    if dnsperf is None:
        raise BenchError("no dnsperf on this machine: install Debian's package dnsperf")
    command = [
        *(() if core is None else ("taskset", "-c", str(core))),
        dnsperf, "-f", "inet6", "-s", LOOPBACK, "-p", str(port), "-d", str(queries),
        "-l", f"{seconds:g}", "-c", str(CLIENTS), "-T", "1", "-q", str(OUTSTANDING), "-t", "2",
    ]  # fmt: skip
    if rate:
        command += ["-Q", str(rate)]
    if edns:
        command += ["-e"]
    if once:
        command += ["-n", "1"]
    before = server.cpu()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + END_DEADLINE)
    cpu = server.cpu() - before
    if ended.returncode:
        raise BenchError(f"dnsperf failed: {ended.stderr.strip()[-300:]}")
    return _read(ended.stdout, cpu)


def _read(printed: str, cpu: Cpu) -> Loaded:
    def find(pattern: str) -> str:
        found = re.search(pattern, printed)
        if found is None:
            raise BenchError(f"dnsperf's report lacks {pattern!r}: {printed[-300:]}")
        return found[1]

    completed = int(find(r"Queries completed:\s+(\d+)"))
    if not completed:
        raise BenchError("none of dnsperf's queries was answered")
    return Loaded(
        rate=float(find(r"Queries per second:\s+([\d.]+)")),
        completed=completed,
        lost=int(find(r"Queries lost:\s+(\d+)")),
        latency=float(find(r"Average Latency \(s\):\s+([\d.]+)")),
        cpu=cpu,
        seconds=float(find(r"Run time \(s\):\s+([\d.]+)")),
        rcodes=find(r"Response codes:\s+(.+)"),
    )
