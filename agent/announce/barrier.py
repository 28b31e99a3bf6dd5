"""Waiting until every live host of an environment has acknowledged a revision: it is reachable and answered there.

A host that dies is waited for until its lease ends; a host that lives and does not acknowledge, until the deadline.
Then the wait ends without that host and is counted. The late host's own resolver still answers no name that the host
cannot reach.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from store.store import Store

DEADLINE = 10.0  # seconds; twice a host's lease, so that a dead host's lease has ended before it
ASK_FIRST, ASK_LAST, ASK_GROWTH = 0.002, 0.05, 1.3  # seconds between two queries of the store; most waits need three

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Barrier:
    """Waits for acknowledgements."""

    store: Store
    """Where the hosts' acknowledgements and leases are."""
    passed: int = 0
    """How many waits ended with all acknowledgements."""
    overdue: int = 0
    """How many waits ended at the deadline."""

    async def wait(self, id_: str, revision: int, hosts: Iterable[str], deadline: float = DEADLINE) -> frozenset[str]:
        """Returns once all live ones of ``hosts`` have ``revision`` of ``id_``, an environment or `ALL_HOSTS`.

        After ``deadline`` seconds it returns the live hosts that do not have it. Raises `store.errors.Unavailable`.
        """
        clock, pause = asyncio.get_running_loop().time, ASK_FIRST
        end, lagging = clock() + deadline, frozenset(hosts)
        while lagging:
            lagging = await self.store.acks.lagging(id_, revision, lagging)
            if lagging and clock() >= end:
                self.overdue += 1
                log.warning("barrier_overdue", extra={"id": id_, "revision": revision, "hosts": sorted(lagging)})
                return lagging
            if lagging:
                await asyncio.sleep(pause)
                pause = min(pause * ASK_GROWTH, ASK_LAST)
        self.passed += 1
        return lagging
