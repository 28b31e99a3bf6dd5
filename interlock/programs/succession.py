"""The line between the launcher of a resolver and the program that it has started, which answers with its workers.

    to the program      leave     another program answers on the same sockets: end, and nobody is to notice
                        alone     the program before this one has ended

    from the program    serving   its workers answer
                        ready     all of it runs

The launcher hands the sockets of DNS, and this line, to each program that it starts: a variable has their descriptors.
A program that is killed leaves workers behind, which have its end of the line too: they answer until the launcher
closes the other one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Protocol

from interlock.process.supervise import Part
from interlock.workers.handed import LONGEST, Handed, Incumbent
from resolver.sockets import adopt_pair, adopt_socket

VARIABLE = "_INTERLOCK_HANDED"  # no setting: those begin otherwise
FIRST = "first"  # stands there for no incumbent, and a launcher that ends where its program cannot start
LEAVE, ALONE, SERVING, READY = b"leave", b"alone", b"serving", b"ready"


class Answers(Protocol):
    """The workers of a program."""

    is_serving: asyncio.Event
    """Set once each of them has answered."""

    async def leave(self) -> None:
        """Ends them, and their clients notice nothing."""

    def incumbent_ended(self) -> None:
        """The program before this one has ended: who it has left behind answers until they do."""


class Line:
    """A program's end of the line. ``workers`` are those that answer on the sockets that were handed to it."""

    def __init__(self, handed: Handed, workers: Answers) -> None:
        self.part = Part("succession", self._run)
        self.left = asyncio.Event()
        """Set once this program is to end."""
        self._line = handed.line
        self._is_alone = handed.incumbent is not Incumbent.PROGRAM
        self._workers = workers

    async def say_ready(self) -> None:
        """Says that all of this program runs."""
        await self._say(READY)

    async def _run(self, ready: Callable[[], None]) -> None:
        if self._is_alone:
            ready()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._say_serving())
            while heard := await asyncio.get_running_loop().sock_recv(self._line, LONGEST):
                match heard:
                    case message if message == ALONE:
                        self._workers.incumbent_ended()
                        ready()
                    case message if message == LEAVE:
                        await self._workers.leave()
                        break
            self.left.set()  # also where the launcher is gone
            await asyncio.Future()

    async def _say_serving(self) -> None:
        await self._workers.is_serving.wait()
        await self._say(SERVING)

    async def _say(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # the launcher is gone, which `_run` notices
            await asyncio.get_running_loop().sock_sendall(self._line, message)


def descriptors(handed: Handed) -> list[int]:
    """What a program must inherit."""
    return [handed.line.fileno(), *(each for pairs in handed.sockets for pair in pairs for each in pair.descriptors)]


def write_handed(handed: Handed) -> str:
    """The value of the variable for a program that is to inherit what is ``handed`` to it."""
    workers = ("+".join("{}:{}".format(*pair.descriptors) for pair in pairs) for pairs in handed.sockets)
    incumbent = FIRST if handed.is_first else handed.incumbent
    return " ".join((incumbent, str(handed.line.fileno()), *workers))


def take_handed() -> Handed | None:
    """What this process was started with; None where no launcher has started it. To be called once."""
    written = os.environ.pop(VARIABLE, "")
    if not written:
        return None
    incumbent, line, *workers = written.split()
    sockets = [[adopt_pair(*map(int, pair.split(":"))) for pair in worker.split("+")] for worker in workers]
    is_first = incumbent == FIRST
    return Handed(adopt_socket(int(line)), Incumbent.NONE if is_first else Incumbent(incumbent), is_first, sockets)
