"""Waiting until every live host of an environment has a revision: that it is reached and answered there.

A host that dies is waited for until its lease ends; one that lives and does not get there, until the deadline. Then it
goes on without it, and is counted: its own resolver answers nothing that has no way there in any case.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from store.store import Store

DEADLINE = 10.0  # seconds; twice a host's lease, so that a dead one is out before it
ASK_FIRST, ASK_LAST, ASK_GROWTH = 0.002, 0.05, 1.3  # seconds between two looks at the store; most take three

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Barrier:
    """Looks at the acknowledgements in ``store``. ``passed`` and ``overdue`` count how the waits have ended."""

    store: Store
    passed: int = 0
    overdue: int = 0

    async def wait(self, id_: str, revision: int, hosts: Iterable[str], deadline: float = DEADLINE) -> frozenset[str]:
        """Returns when all live ones of ``hosts`` have ``revision`` of ``id_``, or with those that have not in time.

        Raises `store.errors.Unavailable`.
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
