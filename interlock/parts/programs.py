"""Programs of the product as parts of another: a child process for each, which ends with this one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from interlock.errors import PartFailed
from interlock.process.parent import end_child, end_with_parent, how_it_ended
from interlock.settings.table import TABLE, Settings, settings_of

END_DEADLINE = 5.0  # seconds until a program that was asked to end is killed; less than a part has for its own end
_LONGEST_NOTICE = 1024  # octets of what a program says to a service manager

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChildProgram:
    """``interlock agent``, or another program, with the settings of this process."""

    program: str
    """Its command."""
    settings: Settings
    """The settings of this process: what is set, and is a setting of the program too, is passed on."""
    flags: Mapping[str, str]
    """What differs, by the name of the setting."""
    prepare: Callable[[], Awaitable[Mapping[str, str]]] | None = None
    """Gives further flags before each start; None where there are none."""
    when_ready: Callable[[], None] = lambda: None
    """Called once it is ready, after each start."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Runs it until cancelled, or until it ends by its own will; see `Part`. Raises `PartFailed`."""
        with _notices(self.settings.state_dir / f"{self.program}.notify") as notices:
            more = await self.prepare() if self.prepare else {}
            process = await self._spawn(more, notices.getsockname())
            try:
                await self._wait_until_ready(process, notices)
                self.when_ready()
                ready()
                if status := await process.wait():
                    raise self._failure(status)
                log.info("program_ended", extra={"program": self.program})  # as an agent whose host has left the mesh
                await asyncio.Future()
            finally:
                await end_child(process, END_DEADLINE)

    async def _spawn(self, more: Mapping[str, str], notify: str) -> asyncio.subprocess.Process:
        words = [f"{TABLE[name].flag}={value}" for name, value in {**self._passed_on(), **self.flags, **more}.items()]
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "interlock", self.program, *words,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": notify},
            start_new_session=True,  # a terminal's Ctrl-C is for this process, which ends its parts in their order
            preexec_fn=end_with_parent(signal.SIGTERM),
        )  # fmt: skip

    def _passed_on(self) -> Mapping[str, str]:
        """What is set for this process by a flag or its file; variables reach the program by themselves."""
        names = [name for name in settings_of(self.program) if not self.settings.is_default(name)]
        return {name: TABLE[name].show(getattr(self.settings, name)) for name in names}

    async def _wait_until_ready(self, process: asyncio.subprocess.Process, notices: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        ending = asyncio.create_task(process.wait())
        try:
            while True:
                heard = asyncio.create_task(loop.sock_recv(notices, _LONGEST_NOTICE))
                await asyncio.wait({heard, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not heard.done():
                    heard.cancel()
                    raise self._failure(ending.result())
                if heard.result() == b"READY=1":
                    return
        finally:
            ending.cancel()

    def _failure(self, status: int) -> PartFailed:
        return PartFailed(f"'interlock {self.program}' has ended {how_it_ended(status)}: its own line above says why")


@contextlib.contextmanager
def _notices(path: Path) -> Iterator[socket.socket]:
    """The socket at ``path`` on which a program says that it is ready, as it does to systemd (sd_notify(3))."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(path))
        try:
            yield sock
        finally:
            path.unlink(missing_ok=True)
