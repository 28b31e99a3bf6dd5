"""The launcher of a resolver with workers: it opens the sockets, and starts the program that answers on them.

    launcher                          has the sockets, and nothing else that could go wrong
       └─ interlock resolver          follows the store or the agent, and has the zones
             └─ worker 0 … N-1        answer

On SIGHUP it starts the program anew, from the code and with the settings that are installed by then. The new program
loads the zones, and its workers begin to answer on the same sockets; then the old program is told to leave. At each
moment somebody reads the sockets, and what nobody has read yet stays there. A new program that does not get that far is
ended, and the old one goes on as if nothing had happened. Why it is so: docs/decisions/0030.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from interlock.errors import PartFailed
from interlock.observe import logs
from interlock.parts.listening import listen_addresses, worker_processes
from interlock.process.lifecycle import run_until_signal
from interlock.process.notify import notify
from interlock.process.parent import end_child, end_with_parent
from interlock.programs.succession import (
    ALONE,
    LEAVE,
    LONGEST,
    READY,
    SERVING,
    VARIABLE,
    descriptors,
    take_handed,
    write_handed,
)
from interlock.settings.table import Settings
from resolver.sockets import SocketPair, open_pairs
from support.listening import ListenError

SERVING_DEADLINE = 120.0  # seconds until the workers of a new program answer; a million instances are loaded in ten
LEAVING_DEADLINE = 10.0  # seconds until the old program has left; longer than it serves its TCP connections
END_DEADLINE = 10.0  # seconds until a program that was asked to end is killed
RESTART_FIRST, RESTART_LAST = 0.1, 10.0  # seconds until a program that has ended is started again
WELL_AFTER = 60.0  # seconds; one that has run for longer is started again after the first of them

log = logging.getLogger(__name__)


def run_resolver(settings: Settings) -> int:
    """Runs the resolver until a signal ends it; gives its exit status. Raises `InterlockError`."""
    handed = take_handed()
    if handed or worker_processes(settings) == 1:
        # Only here: the launcher itself needs none of this, and stays small.
        from interlock.programs import resolver

        resolver.run_resolver(settings, handed)
        return 0
    logs.configure(settings.log_level, settings.log_format)
    try:
        launcher = Launcher(open_pairs(listen_addresses(settings), worker_processes(settings)))
    except ListenError as error:
        raise PartFailed(str(error)) from error
    run_until_signal(launcher.run())
    return launcher.status


@dataclass(eq=False, slots=True)
class _Program:
    """A program that was started."""

    process: asyncio.subprocess.Process
    line: socket.socket
    began: float = field(default_factory=time.monotonic)

    async def hear(self, wanted: bytes) -> bool:
        """Whether it says ``wanted``, and does not end before."""
        loop = asyncio.get_running_loop()
        while heard := await loop.sock_recv(self.line, LONGEST):
            if heard == wanted:
                return True
        return False

    def tell(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self.line.send(message)


@dataclass(slots=True)
class Launcher:
    """Has a program answer on ``sockets``."""

    sockets: Sequence[Sequence[SocketPair]]
    """The sockets of each worker."""
    status: int = 0
    """The exit status of the first program, where that has not become ready."""
    _programs: list[_Program] = field(default_factory=list)  # those that run
    _renewal: asyncio.Event = field(default_factory=asyncio.Event)  # set where it is to be started anew

    async def run(self) -> None:
        """Runs until it is cancelled, or until the first program has ended before it was ready."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._renewal.set)
        try:
            current = await self._start(is_first=True)
            if not await current.hear(READY):
                self.status = await current.process.wait()
                return
            notify("READY=1")
            while True:
                current = await self._keep(current)
        finally:
            notify("STOPPING=1")
            for program in self._programs:
                await end_child(program.process, END_DEADLINE)

    async def _keep(self, current: _Program) -> _Program:
        """Waits until there is something to do, and does it; gives the program that answers then."""
        ended, renewal = asyncio.ensure_future(current.process.wait()), asyncio.ensure_future(self._renewal.wait())
        try:
            await asyncio.wait({ended, renewal}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self._renewal.clear()
                return await self._renew(current)
        finally:
            ended.cancel()
            renewal.cancel()
        return await self._replace(current)

    async def _renew(self, current: _Program) -> _Program:
        log.info("resolver_renewing", extra={"pid": current.process.pid})
        successor = await self._start(is_first=False)
        try:
            async with asyncio.timeout(SERVING_DEADLINE):
                serves = await successor.hear(SERVING)
            reason = "" if serves else "it has ended: its own line above says why"
        except TimeoutError:
            reason = f"its workers did not answer within {SERVING_DEADLINE:g} s: does the store, or the agent, answer?"
        if reason:
            await self._end(successor)
            log.error("resolver_not_renewed", extra={"pid": current.process.pid, "reason": reason})
            return current
        current.tell(LEAVE)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(current.process.wait(), LEAVING_DEADLINE)
        await self._end(current)
        successor.tell(ALONE)
        log.info("resolver_renewed", extra={"pid": successor.process.pid})
        return successor

    async def _replace(self, ended: _Program) -> _Program:
        """A program in place of one that has ended by itself; what clients have sent meanwhile waits in the sockets."""
        delay = RESTART_FIRST
        while True:
            log.error("resolver_ended", extra={"pid": ended.process.pid, "status": ended.process.returncode})
            await self._end(ended)
            if time.monotonic() - ended.began < WELL_AFTER:
                await asyncio.sleep(delay)
                delay = min(delay * 2, RESTART_LAST)
            ended = await self._start(is_first=True)
            if await ended.hear(READY):
                return ended
            await ended.process.wait()

    async def _start(self, *, is_first: bool) -> _Program:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environ = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *sys.orig_argv[1:],
                env={**environ, VARIABLE: write_handed(theirs, self.sockets, is_first=is_first)},
                pass_fds=descriptors(theirs, self.sockets),
                preexec_fn=end_with_parent(signal.SIGTERM),
            )  # fmt: skip
        program = _Program(process, ours)
        self._programs.append(program)
        return program

    async def _end(self, program: _Program) -> None:
        await end_child(program.process, END_DEADLINE)
        program.line.close()
        self._programs.remove(program)
