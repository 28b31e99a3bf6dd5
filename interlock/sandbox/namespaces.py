"""Network namespaces by name: made, entered by a thread that lives for one call, and removed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

from interlock.errors import SandboxFailed

T = TypeVar("T")

NETNS = Path("/run/netns")
CLONE_FS, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x200, 0x20000, 0x20000000, 0x40000000

_numbers = count()
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace."""

    name: str
    """Its name, as ip-netns(8) knows it."""

    @property
    def path(self) -> Path:
        """The file that leads to it."""
        return NETNS / self.name

    def enter(self) -> list[str]:
        """What to put before a command that is to run inside."""
        return ["nsenter", f"--net={self.path}", "--"]

    def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns when it is called inside; sockets that it makes stay inside."""
        return call_inside([(self.path, CLONE_NEWNET)], function)

    def ip(self, lines: Iterable[str]) -> None:
        """Gives ``lines`` as one batch to the program ``ip``, inside. Raises `SandboxFailed`."""
        text = "".join(f"{line}\n" for line in lines)
        command = ["ip", "-n", self.name, "-batch", "-"]
        result = subprocess.run(command, input=text, capture_output=True, text=True)
        if result.returncode:
            raise SandboxFailed(f"ip in {self.name}: {result.stderr.strip()}\n{text}")

    def remove(self) -> None:
        """Removes it, and with it all links in it; what runs inside keeps it until its end."""
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True)


def make(prefix: str, kind: str) -> Namespace:
    """A new one, named by ``prefix``, this process, ``kind`` and a number. Raises `SandboxFailed`."""
    space = Namespace(f"{prefix}-{os.getpid()}-{kind}-{next(_numbers)}")
    made = subprocess.run(["ip", "netns", "add", space.name], capture_output=True, text=True)
    if made.returncode:
        raise SandboxFailed(f"a network namespace cannot be made: {made.stderr.strip()}")
    return space


def sweep(prefix: str) -> None:
    """Removes what runs left behind whose process is gone. ``prefix`` is of two words."""
    for path in NETNS.glob(f"{prefix}-*"):
        if not Path(f"/proc/{path.name.split('-')[2]}").exists():
            Namespace(path.name).remove()


def call_inside(places: Iterable[tuple[Path, int]], function: Callable[[], T]) -> T:
    """What ``function`` returns when it is called in other namespaces: each a path, and its kind as setns(2) wants it.

    A process that it starts is in all of them.
    """
    result: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        # A thread of its own: a namespace is a thread's, and this one ends with it.
        try:
            with contextlib.ExitStack() as stack:
                # All are opened before the first is entered, for there the paths may lead elsewhere.
                handles = [(stack.enter_context(path.open()), kind, path) for path, kind in places]
                if any(kind == CLONE_NEWNS for _, kind, _ in handles):
                    _check(_libc.unshare(CLONE_FS), "cannot have a working directory of its own")
                for handle, kind, path in handles:
                    _check(_libc.setns(handle.fileno(), kind), f"cannot enter {path}")
            result.append(function())
        except BaseException as error:  # noqa: BLE001 handed over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


def unshare(kinds: int) -> None:
    """Gives this thread namespaces of its own, of ``kinds``; of processes and for those that it starts."""
    _check(_libc.unshare(kinds), "cannot unshare")


def _check(status: int, what: str) -> None:
    if status:
        raise OSError(ctypes.get_errno(), what)
