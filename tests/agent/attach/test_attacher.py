"""Steps that run at the same time. tests/mesh attaches real workloads."""

from __future__ import annotations

import asyncio

import pytest

from agent.attach.attacher import _at_once
from agent.errors import Failed


async def test_if_a_step_fails_its_own_error_is_raised_and_the_other_step_is_cancelled() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def fail() -> None:
        raise Failed("the link cannot be made")

    with pytest.raises(Failed, match="the link cannot be made"):
        await _at_once(wait(), fail())
    assert ended == ["cancelled"]
