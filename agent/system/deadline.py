"""A deadline for answers of the system: a part that hangs is named in the error, and blocks nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.errors import Stuck

SYSTEM_DEADLINE = 5.0  # seconds for one call; most take milliseconds, and none may block the pass for longer


@asynccontextmanager
async def answered_in_time(part: str, deadline: float = SYSTEM_DEADLINE) -> AsyncIterator[None]:
    """Raises `Stuck`, which names ``part``, where the body takes longer than ``deadline`` seconds."""
    try:
        async with asyncio.timeout(deadline) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise stuck(part, deadline) from None


def stuck(part: str, seconds: float = SYSTEM_DEADLINE) -> Stuck:
    """The error that names ``part``, which has not answered for ``seconds``."""
    return Stuck(f"{part} has not answered for {seconds:g} s: is it hung? restart it if it stays so")
