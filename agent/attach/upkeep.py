"""Upkeep of the attachments: those that were cut off, that lost their workload, or whose host is being drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.attach.attacher import Attacher
from agent.attach.attachment import Attachment, Phase
from agent.attach.comparison import Comparison
from agent.attach.inspection import Inspection
from agent.attach.paths import Paths
from agent.errors import AgentError, Failed
from agent.mesh.mesh import Mesh
from agent.system.other_firewalls import OtherFirewalls

UPKEEP_INTERVAL = 1.0  # seconds between two looks at the attachments
FIREWALL_INTERVAL = 5.0  # seconds between two looks at the other firewalls of this host

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Upkeep:
    """Keeps the attachments of ``attacher`` in step with their workloads and with the state of the host."""

    mesh: Mesh
    """Has the links as they are."""
    attacher: Attacher
    """Attaches and detaches."""
    comparison: Comparison
    """Finds and settles what the documents and this host say differently."""
    inspection: Inspection
    """Puts right what was changed inside workloads."""
    firewalls: OtherFirewalls
    """Knows what else filters on this host."""
    paths: Paths
    """Knows what else routes on this host."""
    firewall_drops: list[str] = field(default_factory=list)
    """The chains of other firewalls that drop what workloads send or are sent, each as a sentence with its remedy."""
    _look_at_firewalls: float = 0.0
    """When the other firewalls are looked at next, in monotonic seconds."""
    _reasons: dict[str, str] = field(default_factory=dict)
    """Why an attachment could not be settled at the last look, by its key."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled; calls ``ready`` after each look at all attachments."""
        cut_off: set[str] | None = None
        while True:
            if self.mesh.published.is_loaded and self.mesh.identity.is_admitted:
                unfinished = {one.key for one in self.attacher.attachments if one.phase is not Phase.ATTACHED}
                # Unfinished since before this agent started: no request of this agent is at work on it.
                cut_off = unfinished if cut_off is None else cut_off & unfinished
                for attachment in self.attacher.attachments:
                    await self._look_after(attachment, is_cut_off=attachment.key in cut_off)
                now = asyncio.get_running_loop().time()
                await self.comparison.run_if_due(now)
                await self.inspection.run_if_due(now)
                await self._find_firewall_drops(now)
                await self.paths.run_if_due(now)
            ready()
            await asyncio.sleep(UPKEEP_INTERVAL)

    @property
    def problems(self) -> list[str]:
        """What was found and is not put right, as sentences."""
        unfiltered = filter(None, (self.mesh.system.filter_problem,))
        return [*self.comparison.problems, *self.unsettled, *self.firewall_drops, *unfiltered]

    @property
    def unsettled(self) -> list[str]:
        """What is wrong with workloads and could not be put right, as sentences."""
        unsettled = [
            f"{one} is {one.phase.value}, and that cannot be finished: {self._reasons[one.key]}"
            if one.phase is not Phase.ATTACHED
            else f"{one} cannot be put right: {self._reasons[one.key]}"
            for one in self.attacher.attachments
            if one.key in self._reasons
        ]
        return [*self.inspection.problems, *unsettled, *self.paths.problems]

    async def _find_firewall_drops(self, now: float) -> None:
        if now < self._look_at_firewalls:
            return
        self._look_at_firewalls = now + FIREWALL_INTERVAL
        try:
            found = await self.firewalls.drops()
        except Failed as error:
            log.warning("firewalls_unreadable", extra={"reason": str(error)})
            return
        for text in found:
            if text not in self.firewall_drops:
                log.warning("firewall_drops", extra={"reason": text})
        self.firewall_drops = found

    async def _look_after(self, attachment: Attachment, *, is_cut_off: bool) -> None:
        actual, is_draining = self.mesh.status.actual, self.mesh.identity.host.draining
        is_attached = attachment.phase is Phase.ATTACHED
        try:
            is_unfinished = is_cut_off or attachment.phase is Phase.DETACHING
            # An attachment that does not tell its namespace yet, as of an earlier release, is looked at once.
            is_unidentified = is_attached and attachment.namespace is None
            has_lost_link = is_attached and actual and attachment.link not in actual.routes.links
            if is_unfinished or has_lost_link or is_unidentified:
                await self.attacher.resume(attachment)
            elif is_attached and attachment.is_draining != is_draining:
                await self.attacher.set_draining(attachment, draining=is_draining)
        except AgentError as error:
            if self._reasons.get(attachment.key) != str(error):  # once, not with every look
                log.warning("attachment_unsettled", extra={"instance": str(attachment), "reason": str(error)})
            self._reasons[attachment.key] = str(error)
        else:
            self._reasons.pop(attachment.key, None)
