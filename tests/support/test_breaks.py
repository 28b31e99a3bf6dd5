"""Breaks: other work on the loop goes on when a break is due, and not before."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import pytest

from support import breaks as module
from support.breaks import Breaks, leave_core


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


async def test_what_came_during_the_work_is_read_before_the_work_goes_on() -> None:
    loop, done = asyncio.get_running_loop(), list[str]()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        loop.add_reader(ours, lambda: done.append(ours.recv(1).decode()))
        try:
            for query in "ab":
                done.append("work")
                theirs.send(query.encode())
                await Breaks(-1.0).take()
        finally:
            loop.remove_reader(ours)
    assert done == ["work", "a", "work", "b"]


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_process_leaves_the_core_with_each_break_if_it_is_to(
    monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    left = list[bool]()
    monkeypatch.setattr(os, "sched_yield", lambda: left.append(True))
    monkeypatch.setattr(module, "_leaves_core", False)
    if leaves:
        leave_core()
    for _ in range(3):
        await Breaks(-1.0).take()
        await Breaks(1_000.0).take()
    assert len(left) == (3 if leaves else 0)
