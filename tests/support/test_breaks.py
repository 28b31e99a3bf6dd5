"""Breaks: other work on the loop goes on when a break is due, and not before."""

from __future__ import annotations

import asyncio
import time

import pytest

from support.breaks import Breaks


async def test_other_work_goes_on_when_a_break_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    breaks, went_on = Breaks(1.0), list[bool]()
    for now in (100.5, 101.5, 102.0, 102.6):  # noqa: B007 the clock reads it
        others = list[int]()
        asyncio.get_running_loop().call_soon(others.append, 1)
        await breaks.take()
        went_on.append(bool(others))
    assert went_on == [False, True, False, True]  # after a break the time begins anew
