"""Steps that run at the same time, and what is attached anew meanwhile. tests/mesh attaches real workloads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.attach.attacher import Attacher, _at_once, _beside, _ended
from agent.attach.attachment import Phase
from agent.attach.attachments import Attachments
from agent.errors import Failed
from tests.agent.worlds import ATTACHMENT


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


async def test_what_is_done_beside_the_steps_has_ended_before_they_are_undone() -> None:
    """Its thread goes on, whatever becomes of the steps, and would write what has just been undone."""
    may_end, ended = asyncio.Event(), list[str]()

    async def write() -> None:
        await may_end.wait()
        ended.append("written")

    async def fail() -> None:
        may_end.set()
        raise Failed("the record is refused")

    with pytest.raises(Failed, match="the record is refused"):
        async with _beside(write()) as files:
            await _at_once(fail(), _ended(files))
    assert ended == ["written"]


async def test_what_is_done_beside_the_steps_fails_the_attach() -> None:
    async def write() -> None:
        raise Failed("the disk is broken")

    with pytest.raises(Failed, match="the disk is broken"):
        async with _beside(write()) as files:
            await _at_once(asyncio.sleep(0), _ended(files))


async def test_what_was_attached_anew_is_not_detached_by_who_saw_it_leave(tmp_path: Path) -> None:
    """The look at all attachments takes a while: one of them may have been detached and attached again meanwhile."""
    attachments = Attachments(tmp_path / "attachments")
    attachments.load()
    anew = await attachments.put(ATTACHMENT)
    nothing: Any = None  # a detach would need all of it
    attacher = Attacher(nothing, attachments, nothing, nothing, nothing)
    await attacher.resume(replace(anew, phase=Phase.DETACHING))
    assert list(attachments) == [anew]
