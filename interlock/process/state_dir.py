"""The state directory: created, checked, and locked so that no two processes run a store in it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock.errors import StateDirectoryUnusable

LOCK_FILE = "lock"
TAIL_SOCKET = "tail.sock"
STATE_DIRECTORIES = tuple(map(Path, ("/var/lib/interlock-resolver", "/var/lib/interlock-up", "/var/lib/interlock")))
"""The state directories of resolvers that are installed: by the units of deploy/, and in the image."""
ATTACHMENTS = "attachments"
TOKEN_FILE = "admin.token"  # noqa: S105 the name of a file
PRIVATE = 0o700
HOLD_DEADLINE = 2.0  # seconds to wait for an agent that is just ending
LOCK_DEADLINE = 10.0  # seconds to wait for a store whose parent was killed; it ends long before


def make_state_directory(path: Path) -> None:
    """Creates ``path``, private to this user, unless it exists. Raises `StateDirectoryUnusable`."""
    try:
        path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(0, f"user {os.getuid()} may not write to it")
    except OSError as error:
        raise _unusable(path, error) from None


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Holds the lock on the state directory ``path``; gives its file descriptor.

    A child process that inherits the descriptor holds the lock too. So the next process waits while the store of a
    killed one is still ending and has its files open. Raises `StateDirectoryUnusable`.
    """
    try:
        descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        _take_lock(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def held_alone(path: Path) -> Iterator[None]:
    """Holds the state directory ``path`` itself, so that no second process does; it leaves no file there.

    Raises `StateDirectoryUnusable`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        deadline = time.monotonic() + HOLD_DEADLINE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StateDirectoryUnusable(
                        f"another agent runs with the state directory {path}, and is this host: stop that one, or give"
                        " this one another --state-dir and another --host"
                    ) from None
                time.sleep(0.02)
            except OSError as error:
                raise _unusable(path, error) from None
        yield
    finally:
        os.close(descriptor)


def _take_lock(descriptor: int, path: Path) -> None:
    try:
        _wait_for_lock(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise _unusable(path, error) from None


def _wait_for_lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_DEADLINE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            if _is_running(owner) or time.monotonic() > deadline:
                raise StateDirectoryUnusable(
                    f"state directory {path} is in use by process {owner or 'unknown'}:"
                    " stop that one, or choose another directory with --state-dir"
                ) from None
            time.sleep(0.02)
        else:
            return


def _is_running(owner: str) -> bool:
    try:
        os.kill(int(owner), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _unusable(path: Path, error: OSError) -> StateDirectoryUnusable:
    return StateDirectoryUnusable(
        f"state directory {path} cannot be used: {error.strerror}: correct that, or choose another with --state-dir"
    )
