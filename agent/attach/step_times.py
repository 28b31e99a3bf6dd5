"""How long the steps of an attach take: the caller sees it in the agent's answer, and the log has it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class StepTimes:
    """The duration of each step so far."""

    started: float = field(default_factory=time.monotonic)
    """When the attach began, in monotonic seconds."""
    milliseconds: dict[str, float] = field(default_factory=dict)
    """The duration of each step in milliseconds, by the name of the step."""

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measures the body of the with-statement as ``step``. A step that raises is left out."""
        began = time.monotonic()
        yield
        self.milliseconds[step] = round((time.monotonic() - began) * 1000, 3)

    def with_total(self) -> dict[str, float]:
        """All steps, and ``total``: the time since the start. Two steps run at once, so it is not their sum."""
        return {**self.milliseconds, "total": round((time.monotonic() - self.started) * 1000, 3)}
