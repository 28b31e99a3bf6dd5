"""Tables of figures, with the machine and the command of the run, in Markdown, so that a printed run can be kept."""

from __future__ import annotations

import os
import platform
import shlex
import statistics
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Table:
    """The outcome of one benchmark."""

    title: str
    """What was measured."""
    command: str
    """The command that measures it again."""
    columns: tuple[str, ...]
    """The headings."""
    rows: Sequence[Sequence[str]]
    """The cells, a sequence for each row."""
    notes: tuple[str, ...] = ()
    """What a reader must know to understand the figures."""

    def __str__(self) -> str:
        rows = [self.columns, *self.rows]
        widths = [max(len(row[at]) for row in rows) for at in range(len(self.columns))]
        lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        notes = "".join(wrapped(f"- {note}") for note in self.notes)
        return f"### {self.title}\n\n`{self.command}`\n\n" + "\n".join(lines) + "\n" + (f"\n{notes}" if notes else "")


def wrapped(text: str) -> str:
    """``text``, a paragraph or an item of a list, as lines of prose that fit the page."""
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(text, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) + "\n"


def progress(text: str) -> None:
    """Prints what is being measured to standard error, apart from the tables."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def own_command() -> str:
    """The command of this run."""
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])


def describe_machine() -> str:
    """The machine, on which all figures of a run depend."""
    load = ", ".join(f"{average:.2f}" for average in os.getloadavg())
    return wrapped(
        f"{time.strftime('%Y-%m-%d %H:%M')} · {_processor()}, {os.cpu_count()} cores · Linux {platform.release()}"
        f" · Python {platform.python_version()} · load average before the run {load}"
    ).rstrip()


def median(values: Sequence[float], form: str = ",.0f") -> str:
    """The median of ``values``, with the least and the greatest in parentheses."""
    middle = format(statistics.median(values), form)
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}}–{max(values):{form}})"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of the sorted ``values`` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
