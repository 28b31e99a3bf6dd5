"""The options of a run, from its command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run."""

    directory: Path
    """Holds all files of the run."""
    peers: tuple[str, ...]
    """The servers to compare with."""
    skipped: tuple[str, ...]
    """For each server that is not installed, a line that says so."""
    names: tuple[int, ...]
    """`queries`: how many names, for each table."""
    rounds: int
    """`queries`, `flood`: how many times each server is measured."""
    seconds: float
    """`queries`, `fuzz-cost`, `changes`, `flood`: the length of one load."""
    writes: int
    """`propagation`: how many writes; `cost`: how many to each environment."""
    plots: Path | None
    """Where plots are written; None: nowhere."""
    instances: tuple[int, ...]
    """`load`: how many instances are in the store, for each table."""
    deploys: int
    """`deploys`: how many deploys, one after the other."""
    devices: tuple[str, ...]
    """`mesh`, `path`, `deploys`: which WireGuard is measured, as the agent's setting names them."""
