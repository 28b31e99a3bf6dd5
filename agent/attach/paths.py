"""The paths of workloads through this host, a few at a time: does the kernel send their packets where the agent routes?

A route of somebody else that is more specific, or a policy rule (ip-rule(8)), takes packets away from the agent's
routes though these are as they should be. The agent leaves it to its owner, and names it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.attach.attachments import Attachments
from agent.errors import Failed
from agent.mesh.mesh import Mesh
from zones.addresses import Address

INTERVAL = 5.0  # seconds between two looks
AT_ONCE = 10  # workloads in a look, each of which asks the kernel twice
AGAIN = 0.2  # seconds after which what looks wrong is asked again: it may be changing just now
TRIES = 3  # to find another instance than the workload itself
MOST = 20  # paths that are remembered as wrong, and asked for with each look

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Path:
    """A packet of a workload here: which way it comes in, and which way it is to leave."""

    source: Address
    target: Address
    incoming: str
    outgoing: str


@dataclass(slots=True)
class Paths:
    """Asks for the paths of ``attachments`` in turn."""

    mesh: Mesh
    """Has the routes as the agent made them."""
    attachments: Attachments
    """The workloads."""
    _astray: dict[_Path, str] = field(default_factory=dict)
    """The paths that are wrong, each with a sentence that says so."""
    _pending: list[str] = field(default_factory=list)
    """The keys of the workloads whose turn is still to come."""
    _next: float = 0.0
    """When the next look is due, in monotonic seconds."""

    @property
    def problems(self) -> list[str]:
        """What is wrong, as sentences."""
        return list(self._astray.values())

    async def run_if_due(self, now: float) -> None:
        """Asks for those whose turn it is, if it is time; ``now`` is the monotonic time."""
        if now < self._next:
            return
        self._next = now + INTERVAL
        if not self._pending:
            self._pending = [one.key for one in self.attachments]
        turn, self._pending = self._pending[:AT_ONCE], self._pending[AT_ONCE:]
        paths = {*self._astray, *(path for key in turn for path in self._paths_of(key))}
        wrong = self._find_wrong(paths)
        if wrong:
            await asyncio.sleep(AGAIN)
            wrong = self._find_wrong(wrong)
        for path, text in wrong.items():
            if path not in self._astray:
                log.warning("path_astray", extra={"reason": text})
        self._astray = dict(list(wrong.items())[:MOST])

    def _paths_of(self, key: str) -> Iterable[_Path]:
        """Both ways between the workload ``key`` and another instance of its environment, whichever."""
        attachment = self.attachments.get(key)
        environment = self.mesh.published.environments.get(attachment.environment) if attachment else None
        if attachment is None or environment is None or attachment.address is None:
            return
        services = [service for service in environment.services.values() if service.instances]
        if not services:
            return
        links = {address: link for link, address in self._routed.items()}
        for _ in range(TRIES):
            other = random.choice(list(random.choice(services).instances.values()))  # noqa: S311 no secret
            is_absent = other.host == self.mesh.identity.id and other.address not in links
            if other.address != attachment.address and not is_absent:
                away = links.get(other.address, self.mesh.system.device_name)
                yield _Path(attachment.address, other.address, attachment.link, away)
                yield _Path(other.address, attachment.address, away, attachment.link)
                return

    @property
    def _routed(self) -> dict[str, Address]:
        actual = self.mesh.status.actual
        return dict(actual.routes.workloads) if actual else {}

    def _find_wrong(self, paths: Iterable[_Path]) -> dict[_Path, str]:
        """Those of ``paths`` that the kernel has otherwise, each with a sentence."""
        wrong = dict[_Path, str]()
        for path in paths:
            if self._is_routed(path.incoming, path.source) and self._is_routed(path.outgoing, path.target):
                try:
                    way = self.mesh.system.links.way(path.target, path.source, path.incoming)
                except Failed:
                    continue  # a link is gone meanwhile
                if way != path.outgoing:
                    wrong[path] = (
                        f"packets from {path.source} to {path.target} leave this host by {way or 'no link'} and not by"
                        f" {path.outgoing}, for another program has made a route or a rule that comes first; see: ip -6"
                        f" rule; ip -6 route get {path.target} from {path.source} iif {path.incoming}"
                    )
        return wrong

    def _is_routed(self, link: str, address: Address) -> bool:
        """Whether ``address`` is reached by ``link`` as far as the agent knows."""
        return link == self.mesh.system.device_name or self._routed.get(link) == address
