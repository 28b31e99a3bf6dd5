"""What the soak found."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass

from tests.faults.soak.clients import Client
from tests.faults.soak.judge import History, Verdict
from tests.faults.soak.outages import Outages
from tests.faults.soak.samples import Samples
from tests.faults.soak.writer import Writer

MOST_LINES = 200  # of faults that are printed
MOST_FAILED = 0.001  # of the names of the outside: the upstream is in this process, and a busy machine delays it


@dataclass(frozen=True, slots=True)
class Part:
    """One environment with its writer and its client."""

    installation: str
    history: History
    writer: Writer
    client: Client
    outages: Outages


class Report:
    """The counts, and the faults as they are found."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._lines = 0
        self._faults = 0

    def add(self, installation: str, history: History, writer: Writer, client: Client, outages: Outages) -> None:
        self._parts.append(Part(installation, history, writer, client, outages))

    @property
    def histories(self) -> list[History]:
        """Those of all environments."""
        return [part.history for part in self._parts]

    def note(self, line: str) -> None:
        """Prints what somebody may want to know who looks for a reason."""
        self._lines += 1
        if self._lines <= MOST_LINES:
            print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)

    def fail(self, line: str) -> None:
        """Notes a fault that no other count holds."""
        self._faults += 1
        self.note(line)

    @property
    def is_clean(self) -> bool:
        """Whether no answer was wrong or missing, and no acknowledged write was lost."""
        outside = sum((part.client.outside for part in self._parts), Counter[str]())
        if self._faults or outside["wrong"] or outside["failed"] > MOST_FAILED * outside.total():
            return False
        return not any(
            part.history.verdicts[Verdict.WRONG] or part.client.unanswered or part.writer.lost for part in self._parts
        )

    def line(self) -> str:
        """The counts so far, in one line."""
        verdicts = sum((part.history.verdicts for part in self._parts), Counter[Verdict]())
        writes = sum((part.writer.outcomes for part in self._parts), Counter[str]())
        counts = ", ".join(f"{number} {name}" for name, number in [*verdicts.items(), *writes.items()])
        return f"{counts}, {self._faults} other faults;"

    def text(self, samples: Samples, counts: Counter[str], minutes: float) -> str:
        """The report, in Markdown."""
        lines = [f"\n{minutes:g} minutes of mixed load.\n"]
        lines += ["| installation | right | late | latest by | wrong | unanswered | outside: right | wrong | failed |"]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        names = list(dict.fromkeys(part.installation for part in self._parts))
        for name in names:
            parts = [part for part in self._parts if part.installation == name]
            verdicts = sum((part.history.verdicts for part in parts), Counter[Verdict]())
            outside = sum((part.client.outside for part in parts), Counter[str]())
            latest = max(part.history.latest for part in parts)
            cells = [name, verdicts[Verdict.RIGHT], verdicts[Verdict.LATE], f"{latest:.1f} s", verdicts[Verdict.WRONG]]
            cells += [
                sum(part.client.unanswered for part in parts),
                *(outside[key] for key in ("right", "wrong", "failed")),
            ]
            lines.append(row(cells))
        lines += ["\n| installation | writes acknowledged | lost | refused (4xx) | unanswered | outages of the store |"]
        lines += ["|---|---|---|---|---|---|"]
        for name in names:
            parts = [part for part in self._parts if part.installation == name]
            writes = sum((part.writer.outcomes for part in parts), Counter[str]())
            outages = ", ".join(f"{number} × {kind}" for kind, number in sorted(parts[0].outages.counts.items()))
            lost = sum(part.writer.lost for part in parts)
            lines.append(row([name, writes["acknowledged"], lost, writes["refused"], writes["unanswered"], outages]))
        lines += [
            "\n| process | samples | memory, 2nd quarter | last quarter | descriptors, 2nd quarter | last | level |"
        ]
        lines += ["|---|---|---|---|---|---|---|"]
        for level in samples.levels():
            memory = [f"{value / (1 << 20):.1f} MiB" for value in level.memory]
            descriptors = [f"{value:g}" for value in level.descriptors]
            lines.append(row([level.name, level.samples, *memory, *descriptors, "yes" if level.is_level else "NO"]))
        lines += ["", *(f"{number} {name}" for name, number in sorted(counts.items())), f"{self._faults} other faults"]
        return "\n".join(lines)


def row(cells: list[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
