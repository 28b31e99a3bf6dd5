"""How long to wait on this machine for something that is quick elsewhere, before it is said to hang."""

from __future__ import annotations

import os

BUSY = 2.0  # runnable processes for each processor; beyond that everything takes longer
LONGER = 3.0  # times as long is waited then


def patience() -> float:
    """How many times as long to wait as on a machine that is not busy: what is late there does not hang."""
    return LONGER if os.getloadavg()[0] / (os.cpu_count() or 1) > BUSY else 1.0
