"""The last attaches of this host, with the time of each step, for whoever asks why one took long. In memory alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.attach.attachment import Attachment
from agent.attach.ended import AttachFacts, AttachStep
from agent.attach.step_times import StepTimes
from zones.names import EnvironmentId

KEPT = 100  # attaches; one takes a kilobyte
LONGEST_PROBLEM = 300  # characters


@dataclass(slots=True)
class AttachHistory:
    """The attaches that ended last, the newest at the end."""

    wall_clock: Callable[[], float] = time.time
    """The time of day, in Unix seconds."""
    _kept: deque[AttachFacts] = field(default_factory=lambda: deque(maxlen=KEPT))

    def note(self, attachment: Attachment, times: StepTimes, problem: str = "") -> None:
        """Notes that the attach of ``attachment`` has ended, with ``problem`` if it has failed."""
        total = times.with_total()["total"]
        steps = tuple(
            AttachStep(name, begins, times.milliseconds.get(name), times.lagging.get(name, ()))
            for name, begins in times.begins.items()
        )
        address = str(attachment.address) if attachment.address else None
        one = AttachFacts(
            attachment.environment,
            attachment.service,
            attachment.instance,
            began=round(self.wall_clock() - total / 1000, 3),
            milliseconds=total,
            steps=steps,
            address=address,
            problem=problem[:LONGEST_PROBLEM],
            failed=times.failed,
        )
        self._kept.append(one)

    def newest(self, number: int, environment: EnvironmentId | None = None) -> tuple[AttachFacts, ...]:
        """The last ``number`` attaches, of ``environment`` if one is given; the newest first."""
        found = [one for one in reversed(self._kept) if environment in (None, one.environment)]
        return tuple(found[:number])
