"""The launcher of a resolver with workers: it opens the sockets, and starts the program that answers on them.

    launcher                          has the sockets, and nothing else that could go wrong
       └─ interlock resolver          follows the store or the agent, and has the zones
             └─ worker 0 … N-1        answer

On SIGHUP it starts the program anew, from the code and with the settings that are installed by then. The new program
loads the zones, and its workers begin to answer on the same sockets; then the old program is told to leave. At each
moment somebody reads the sockets, and what nobody has read yet stays there. A new program that does not get that far is
ended, and the old one goes on as if nothing had happened.

A program that ends by itself is started again. If it was killed its workers go on, with the zones that they have, until
those of the next program answer: they have its end of the line to the launcher, and end when the launcher closes the
other one, or is killed itself. Why it is so: docs/decisions/0030.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from subprocess import SubprocessError

from interlock.errors import PartFailed
from interlock.observe import logs
from interlock.parts.listening import listen_addresses, worker_processes
from interlock.process.lifecycle import run_until_signal
from interlock.process.notify import notify
from interlock.process.parent import end_child, end_with_parent, how_it_ended
from interlock.programs.succession import (
    ALONE,
    LEAVE,
    READY,
    SERVING,
    VARIABLE,
    descriptors,
    take_handed,
    write_handed,
)
from interlock.settings.table import Settings
from interlock.workers.handed import LONGEST, Handed, Incumbent
from resolver.sockets import SocketPair, open_pairs
from support.listening import ListenError

SERVING_DEADLINE = 120.0  # seconds until the workers of a new program answer; a million instances are loaded in ten
LEAVING_DEADLINE = 10.0  # seconds until a program or its workers have left; longer than TCP connections are served
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
    """A program that was started, with its workers, which may go on without it."""

    process: asyncio.subprocess.Process
    line: socket.socket
    began: float = field(default_factory=time.monotonic)
    said: Mapping[bytes, asyncio.Event] = field(
        default_factory=lambda: {message: asyncio.Event() for message in (READY, SERVING)}
    )

    async def listen(self) -> None:
        """Notes what it says; returns when it and all its workers have ended."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):  # it has ended, and has not read what it was told
            while heard := await loop.sock_recv(self.line, LONGEST):
                self.said[heard].set()

    async def says(self, wanted: bytes, *others: _Program) -> bool:
        """Whether it says ``wanted`` before it ends, or one of ``others`` does."""
        said = asyncio.ensure_future(self.said[wanted].wait())
        ended = [asyncio.ensure_future(program.process.wait()) for program in (self, *others)]
        try:
            await asyncio.wait({said, *ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (said, *ended):
                each.cancel()
        return self.said[wanted].is_set()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended; its workers may go on."""
        return self.process.returncode is not None

    @property
    def is_gone(self) -> bool:
        """Whether it and all its workers have ended: nobody has the other end of the line."""
        poll = select.poll()
        poll.register(self.line, 0)
        return bool(poll.poll(0))

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
    _programs: dict[_Program, asyncio.Task[None]] = field(default_factory=dict)  # with what listens to them
    _renewal: asyncio.Event = field(default_factory=asyncio.Event)  # set where it is to be started anew
    _has_run: bool = False  # whether a program has been ready
    _delay: float = RESTART_FIRST  # until one that ends is started again

    async def run(self) -> None:
        """Runs until it is cancelled, or until the first program has ended before it was ready."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._renewal.set)
        try:
            current = await self._start(Incumbent.NONE)
            if not await current.says(READY):
                self.status = await current.process.wait()
                return
            self._has_run = True
            notify("READY=1")
            while True:
                current = await self._keep(current)
        finally:
            notify("STOPPING=1")
            await self._end_all_but(None)

    async def _keep(self, current: _Program) -> _Program:
        """Waits until there is something to do, and does it; gives the program that is to answer then."""
        ended, renewal, serving = (
            asyncio.ensure_future(each)
            for each in (current.process.wait(), self._renewal.wait(), current.said[SERVING].wait())
        )
        awaited = {ended, renewal, *([serving] if len(self._programs) > 1 else [])}
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return await self._replace(current)
            if renewal.done():
                self._renewal.clear()
                return await self._renew(current)
        finally:
            for each in (ended, renewal, serving):
                each.cancel()
        await self._end_all_but(current)
        log.info("resolver_replaced", extra={"pid": current.process.pid})
        return current

    async def _renew(self, current: _Program) -> _Program:
        log.info("resolver_renewing", extra={"pid": current.process.pid})
        try:
            successor = await self._start(Incumbent.PROGRAM)
        except PartFailed as error:
            return _not_renewed(current, str(error))
        try:
            async with asyncio.timeout(SERVING_DEADLINE):
                serves = await successor.says(SERVING, current)
            if current.has_ended and not (serves or successor.has_ended):
                return await self._promote(successor, current)
            reason = "" if serves else f"the new program has ended {await _how(successor)}"
        except TimeoutError:
            reason = f"its workers did not answer within {SERVING_DEADLINE:g} s: does the store, or the agent, answer?"
        if reason:
            await self._end(successor)
            return _not_renewed(current, reason)
        current.tell(LEAVE)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(current.process.wait(), LEAVING_DEADLINE)
        await self._end_all_but(successor)
        successor.tell(ALONE)
        log.info("resolver_renewed", extra={"pid": successor.process.pid})
        return successor

    async def _promote(self, successor: _Program, ended: _Program) -> _Program:
        """Has ``successor`` go on, though the program that it was to replace has ended by itself meanwhile."""
        await self._note_ended(
            ended, any(not program.is_gone for program in self._programs if program is not successor)
        )
        successor.tell(ALONE)
        return successor

    async def _replace(self, ended: _Program) -> _Program:
        """A program in place of one that has ended by itself.

        Until its workers answer, those that were left behind do; without any, what clients send waits in the sockets.
        """
        for program in list(self._programs):  # those that have ended now or before
            if program.is_gone or not program.said[SERVING].is_set():
                await self._end(program)
        await self._note_ended(ended, bool(self._programs))
        if time.monotonic() - ended.began > WELL_AFTER:
            self._delay = RESTART_FIRST
        else:
            await self._rest()
        while True:
            try:
                return await self._start(Incumbent.WORKERS if self._programs else Incumbent.NONE)
            except PartFailed as error:
                log.error("resolver_not_started", extra={"reason": str(error)})
                await self._rest()

    async def _rest(self) -> None:
        """Waits until the next attempt is due, or somebody asks for it by SIGHUP."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._renewal.wait(), self._delay)
        self._renewal.clear()
        self._delay = min(self._delay * 2, RESTART_LAST)

    async def _note_ended(self, program: _Program, are_answered: bool) -> None:
        clients = "are answered by workers that go on with the zones that they have" if are_answered else "wait"
        extra = {"pid": program.process.pid, "reason": await _how(program), "clients": clients}
        log.error("resolver_ended", extra=extra)

    async def _start(self, incumbent: Incumbent) -> _Program:
        """Raises `PartFailed` where no process can be made, or there is no interpreter."""
        try:
            program = await self._fork(incumbent)
        except (OSError, SubprocessError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise PartFailed(f"{sys.executable} cannot be started: {reason}") from error
        self._programs[program] = asyncio.create_task(program.listen())
        return program

    async def _fork(self, incumbent: Incumbent) -> _Program:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environ = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        try:
            with theirs:
                handed = Handed(theirs, incumbent, not self._has_run, self.sockets)
                process = await asyncio.create_subprocess_exec(
                    sys.executable, *sys.orig_argv[1:],
                    env={**environ, VARIABLE: write_handed(handed)},
                    pass_fds=descriptors(handed),
                    preexec_fn=end_with_parent(signal.SIGTERM),
                )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        return _Program(process, ours)

    async def _end(self, program: _Program) -> None:
        """Ends ``program``, and the workers that it has left behind."""
        await end_child(program.process, END_DEADLINE)
        program.line.shutdown(socket.SHUT_WR)
        listening = self._programs.pop(program)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listening, LEAVING_DEADLINE)
        program.line.close()

    async def _end_all_but(self, one: _Program | None) -> None:
        for program in list(self._programs):
            if program is not one:
                await self._end(program)


def _not_renewed(current: _Program, reason: str) -> _Program:
    log.error("resolver_not_renewed", extra={"pid": current.process.pid, "reason": reason})
    return current


async def _how(program: _Program) -> str:
    """How ``program``, which has ended or is about to, ended."""
    status = await program.process.wait()
    return how_it_ended(status) + (": its own line above says why" if status > 0 else "")
