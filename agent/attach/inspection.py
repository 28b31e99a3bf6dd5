"""Inspecting the workloads' ends of the links, a few at a time: what was changed inside is put right.

The kernel does not notify the agent of changes inside other namespaces, so it looks. All workloads have their turn.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from agent.attach.attacher import Attacher
from agent.attach.attachment import Phase
from agent.errors import AgentError

INSPECT_INTERVAL = 2.0  # seconds between two inspections
AT_ONCE = 50  # workloads inspected each time; each takes 1 to 3 ms

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Inspection:
    """Inspects the workloads of ``attacher`` in turn."""

    attacher: Attacher
    """Inspects and repairs one workload."""
    repaired: int = 0
    """How many workloads were found changed and put right since the start."""
    _pending: list[str] = field(default_factory=list)
    """The keys of the workloads whose turn is still to come."""
    _next: float = 0.0
    """When the next inspection is due, in monotonic seconds."""
    _faults: dict[str, str] = field(default_factory=dict)
    """What could not be put right, by the key of the workload."""

    @property
    def problems(self) -> list[str]:
        """What could not be put right, as sentences."""
        return list(self._faults.values())

    async def run_if_due(self, now: float) -> None:
        """Inspects those whose turn it is, if it is time; ``now`` is the monotonic time."""
        if now < self._next:
            return
        self._next = now + INSPECT_INTERVAL
        attachments = {one.key: one for one in self.attacher.attachments if one.phase is Phase.ATTACHED}
        self._faults = {key: text for key, text in self._faults.items() if key in attachments}
        if not self._pending:
            self._pending = list(attachments)
        turn, self._pending = self._pending[:AT_ONCE], self._pending[AT_ONCE:]
        for key in turn:
            if key in attachments:
                await self._inspect(key, str(attachments[key]))

    async def _inspect(self, key: str, name: str) -> None:
        try:
            faults = await self.attacher.repair(key)
        except AgentError as error:
            text = f"{name} was changed from inside, and cannot be put right: {error}"
            if self._faults.get(key) != text:  # once, not with every inspection
                log.warning("workload_not_repaired", extra={"instance": name, "reason": str(error)})
            self._faults[key] = text
            return
        self._faults.pop(key, None)
        if faults:
            self.repaired += 1
            log.warning("workload_repaired", extra={"instance": name, "faults": list(faults)})
