"""The judge of leases: has the store decide, all the time, which hosts are down.

Every control plane has one, and none needs to know of another: the decision is a script at the store, which makes each
of them once. A control plane judges only while it serves agents, for a lease that nobody can renew says nothing.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from store.errors import Unavailable
from store.leases import LeaseStore

GRACE = 10.0  # seconds; an agent that is upgraded or started again is back in half of that
LOOK_EVERY = 0.5  # seconds; how much later than its lease and the grace a host may be found to be down

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LeaseJudge:
    """Looks at all leases, again and again."""

    leases: LeaseStore
    """Where they are, and where it is decided."""
    grace: float = GRACE
    """The seconds after the end of a lease for which its host still counts as there."""

    async def run(self) -> None:
        """Judges until it is cancelled. While the store is away nothing is decided."""
        reason = ""
        while True:
            try:
                verdict = await self.leases.judge(int(self.grace * 1000))
            except Unavailable as error:
                if reason != (reason := str(error)):
                    log.warning("leases_not_judged", extra={"reason": reason})
            else:
                reason = ""
                for host in verdict.down:
                    log.warning(
                        "host_down",
                        extra={
                            "host": host,
                            "reason": f"its agent has not renewed the lease for {self.grace:g} s after its end: its"
                            " instances are not answered",
                            "remedy": "start its agent, or 'interlock host forget'",
                        },
                    )
                for host in verdict.up:
                    log.warning("host_up", extra={"host": host})
            await asyncio.sleep(LOOK_EVERY)
