"""A limit on how long a part of the system may take to answer: one that hangs is named, and holds up nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.errors import Stuck

SYSTEM_DEADLINE = 5.0  # seconds; any of it takes milliseconds, and a minute with thousands of peers is no answer


@asynccontextmanager
async def answered_in_time(part: str, patience: float = SYSTEM_DEADLINE) -> AsyncIterator[None]:
    """Raises `Stuck`, which names ``part``, where the body takes longer than ``patience`` seconds."""
    try:
        async with asyncio.timeout(patience) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise stuck(part, patience) from None


def stuck(part: str, seconds: float = SYSTEM_DEADLINE) -> Stuck:
    """The error that names ``part``, which has not answered for ``seconds``."""
    return Stuck(f"{part} has not answered for {seconds:g} s: is it hung? restart it if it stays so")
