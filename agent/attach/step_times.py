"""How long the steps of an attach take: the agent's answer, the log and the history have it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class StepTimes:
    """The duration of each step so far."""

    started: float = field(default_factory=time.monotonic)
    """When the attach began, in monotonic seconds."""
    milliseconds: dict[str, float] = field(default_factory=dict)
    """The duration of each step in milliseconds, by the name of the step."""
    begins: dict[str, float] = field(default_factory=dict)
    """When each step began, in milliseconds from the beginning of the attach: two steps run at once."""
    lagging: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The hosts that a step has waited for in vain, by the name of the step."""
    failed: str = ""
    """The step that failed first, which has no duration; empty if none did."""

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measures the body of the with-statement as ``step``. A step that raises has no duration."""
        began = time.monotonic()
        self.begins[step] = round((began - self.started) * 1000, 3)
        try:
            yield
        except Exception:  # not of a step that was cancelled because another one failed
            self.failed = self.failed or step
            raise
        self.milliseconds[step] = round((time.monotonic() - began) * 1000, 3)

    def note_lagging(self, step: str, hosts: Collection[str]) -> None:
        """Notes that ``step`` has waited for ``hosts`` in vain."""
        if hosts:
            self.lagging[step] = tuple(sorted(hosts))

    def with_total(self) -> dict[str, float]:
        """All steps, and ``total``: the time since the start. Two steps run at once, so it is not their sum."""
        return {**self.milliseconds, "total": round((time.monotonic() - self.started) * 1000, 3)}
