"""Waiting until every live host of an environment has acknowledged a revision: it is reachable and answered there.

A host that dies is waited for until its lease ends; a host that lives and does not acknowledge, until the deadline.
Then the wait ends without that host and is counted. The late host's own resolver still answers no name that the host
cannot reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import ControlPlaneError
from support.histogram import Histogram
from watcher.session.protocol import Wait, Waited

DEADLINE = 10.0  # seconds; twice a host's lease, so that a dead host's lease has ended before it

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Barrier:
    """Waits for acknowledgements."""

    control_plane: ControlPlane
    """What knows the hosts' acknowledgements and leases."""
    passed: int = 0
    """How many waits ended with all acknowledgements."""
    overdue: int = 0
    """How many waits ended at the deadline."""
    seconds: Histogram = field(default_factory=Histogram)
    """Waits by the seconds that they took, also those that ended at the deadline."""
    _asked: dict[Wait, asyncio.Task[frozenset[str]]] = field(default_factory=dict)
    """What the control plane is being asked."""

    async def wait(
        self, id_: str, revision: int, hosts: Iterable[str] = (), deadline: float = DEADLINE
    ) -> frozenset[str]:
        """Returns once all other live hosts have ``revision`` of ``id_``, an environment or `ALL_HOSTS`.

        With ``hosts``, these alone are waited for. After ``deadline`` seconds it returns the live hosts that do not
        have it. Raises `ControlPlaneError`.
        """
        wait, began = Wait(0, id_, revision, deadline, tuple(hosts)), time.monotonic()
        lagging = await self._ask(wait)
        self.seconds.observe(time.monotonic() - began)
        if lagging:
            self.overdue += 1
            log.warning("barrier_overdue", extra={"id": id_, "revision": revision, "hosts": sorted(lagging)})
        else:
            self.passed += 1
        return lagging

    async def _ask(self, wait: Wait) -> frozenset[str]:
        """The hosts that lag. What is being asked is not asked again: attaches at once often wait for one commit."""
        if asked := self._asked.get(wait):
            with contextlib.suppress(ControlPlaneError):
                if not (lagging := await asyncio.shield(asked)):
                    return lagging  # else it has waited until a deadline that came too soon for this wait
        if (asked := self._asked.get(wait)) is None:
            asked = self._asked[wait] = asyncio.create_task(self._answer(wait))
            asked.add_done_callback(lambda task: task.cancelled() or task.exception())  # if nobody waits any more
        return await asyncio.shield(asked)

    async def _answer(self, wait: Wait) -> frozenset[str]:
        try:
            return frozenset((await self.control_plane.ask(wait, Waited, takes=wait.seconds)).lagging)
        finally:
            del self._asked[wait]
