"""What a run is told on its command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """``directory`` is for all files of the run. ``skipped`` says which peers were left out, and why."""

    directory: Path
    peers: tuple[str, ...]
    skipped: tuple[str, ...]
    names: tuple[int, ...]
    rounds: int
    seconds: float
    writes: int
    instances: tuple[int, ...]
