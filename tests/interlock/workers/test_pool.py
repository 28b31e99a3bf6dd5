"""All workers of a process, and one of them, as that process sees them: real forks."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

import pytest

from interlock.process import forking
from interlock.workers.handed import Incumbent
from interlock.workers.handle import Handle
from interlock.workers.pool import Workers
from interlock.workers.steps import Shown
from resolver.scope import ScopeTable
from resolver.server import Resolver
from resolver.sockets import open_pairs
from tests import worlds
from tests.waiting import until

NUMBER = 4


class Makes:
    """Makes the resolvers of workers."""

    def make_worker(self, scopes: ScopeTable) -> tuple[Resolver, Coroutine[Any, Any, None]]:
        return Resolver(worlds.PLATFORM, [], {}, scopes=scopes), asyncio.sleep(0)


async def test_while_workers_are_forked_the_process_answers_and_hears_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = 0
    at_fork: list[int] = []

    def next_round() -> None:
        nonlocal rounds
        rounds += 1
        loop.call_soon(next_round)

    def fork(main: Callable[[], Coroutine[Any, Any, None]], keep: Iterable[int], **options: Any) -> int:
        at_fork.append(rounds)
        return real(main, keep, **options)

    loop, real = asyncio.get_running_loop(), forking.fork
    monkeypatch.setattr("interlock.workers.pool.fork", fork)
    workers = Workers(
        Resolver(worlds.PLATFORM, [], {}),
        Makes(),
        lambda: open_pairs([("127.0.0.1", 0)], NUMBER),
        Incumbent.PROGRAM,
    )
    running = asyncio.create_task(workers.run(lambda: None))
    workers.loaded()
    next_round()
    try:
        await until(lambda: len(at_fork) == NUMBER)
        assert len(set(at_fork)) == NUMBER  # the event loop has gone round between any two
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_worker_that_has_ended_is_not_killed_anew() -> None:
    ours, theirs = socket.socketpair()  # `theirs` stays open: its last words are waited for
    pid = os.fork()
    if not pid:
        os._exit(0)
    handle = Handle(0, pid, ours, lambda _: Shown(), lambda _: None, lambda: None)
    running = asyncio.create_task(handle.run())
    await until(lambda: not _runs(pid))
    assert not running.done()
    handle.kill()  # nothing has this process id now, or somebody else
    theirs.close()
    assert await running == 0


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
