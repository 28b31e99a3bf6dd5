"""Memory and descriptors of each process in time, and whether they stay level."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MEMORY_SHARE = 0.05  # of growth from the second to the last quarter: pages that the allocator has, not the program
MEMORY_FLOOR = 3 << 20  # octets
DESCRIPTORS = 4  # connections that happen to be open, such as that of a metrics scrape


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    pid: int
    memory: int
    """Octets in memory (VmRSS)."""
    descriptors: int
    """Open file descriptors."""


@dataclass(frozen=True, slots=True)
class Level:
    """How one process was in the second and in the last quarter of the run, as medians."""

    name: str
    samples: int
    memory: tuple[float, float]
    descriptors: tuple[float, float]

    @property
    def is_level(self) -> bool:
        """Whether neither has grown."""
        before, after = self.memory
        grown = after - before > max(MEMORY_SHARE * before, MEMORY_FLOOR)
        return not grown and self.descriptors[1] - self.descriptors[0] <= DESCRIPTORS


class Samples:
    """The samples of all processes, by their names. A process that was restarted keeps its name."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[Sample]] = defaultdict(list)

    def take(self, pids: Mapping[str, int]) -> None:
        for name, pid in pids.items():
            if sample := read(pid):
                self._by_name[name].append(sample)

    def line(self) -> str:
        """The last sample of each process, in one line."""
        last = ((name, samples[-1]) for name, samples in self._by_name.items())
        return " · ".join(f"{name} {sample.memory >> 20} MiB/{sample.descriptors}" for name, sample in last)

    def levels(self) -> list[Level]:
        return [_level(name, samples) for name, samples in self._by_name.items()]


def read(pid: int) -> Sample | None:
    """The process now; None where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        return Sample(pid, memory * 1024, len(os.listdir(f"/proc/{pid}/fd")))
    except (OSError, StopIteration):
        return None


def _level(name: str, samples: list[Sample]) -> Level:
    quarter = max(1, len(samples) // 4)
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]

    def both(values: list[list[int]]) -> tuple[float, float]:
        return median(values[0]), median(values[1])

    return Level(
        name,
        len(samples),
        both([[sample.memory for sample in part] for part in (second, last)]),
        both([[sample.descriptors for sample in part] for part in (second, last)]),
    )
