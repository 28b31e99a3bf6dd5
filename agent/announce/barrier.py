"""Waiting until every live host of an environment has acknowledged a revision: it is reachable and answered there.

A host that dies is waited for until its lease ends; a host that lives and does not acknowledge, until the deadline.
Then the wait ends without that host and is counted. The late host's own resolver still answers no name that the host
cannot reach.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.control_plane.connection import ControlPlane
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

    async def wait(
        self, id_: str, revision: int, hosts: Iterable[str] = (), deadline: float = DEADLINE
    ) -> frozenset[str]:
        """Returns once all other live hosts have ``revision`` of ``id_``, an environment or `ALL_HOSTS`.

        With ``hosts``, these alone are waited for. After ``deadline`` seconds it returns the live hosts that do not
        have it. Raises `ControlPlaneError`.
        """
        wait, began = Wait(0, id_, revision, deadline, tuple(hosts)), time.monotonic()
        lagging = frozenset((await self.control_plane.ask(wait, Waited, takes=deadline)).lagging)
        self.seconds.observe(time.monotonic() - began)
        if lagging:
            self.overdue += 1
            log.warning("barrier_overdue", extra={"id": id_, "revision": revision, "hosts": sorted(lagging)})
        else:
            self.passed += 1
        return lagging
