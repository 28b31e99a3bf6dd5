"""Folders that are opened one by one from the root, no link followed, and only where nobody else can change them.

A path is a question that is answered anew each time, and whoever owns a folder on it decides the answer. So a program
of root that writes below other users' folders by path writes wherever they like. A descriptor is the folder itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

LONGEST_FILE = 1 << 16  # octets that `read_file` reads; what it is for, such as a resolv.conf, has some hundred


class Untrusted(OSError):
    """Somebody else than root and this user can change a folder on the way, or it is a link."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(errno.EPERM, f"{path} {reason}", path)


@contextlib.contextmanager
def trusted_folder(path: Path, *, create: int | None = None, is_way: bool = False) -> Iterator[int]:
    """A descriptor of the folder ``path``, an absolute one. With ``create``, missing folders are made with that mode.

    If it ``is_way``, nothing is written in it but folders of this user's, so one that is sticky will do, such as /tmp.

    Raises `Untrusted`, and ``OSError``.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise Untrusted(str(path), "is not absolute")
    descriptor = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for at, part in enumerate(path.parts[1:], start=2):
            _check(descriptor, path.parts[: at - 1], is_last=False)
            following = _open(descriptor, part, path.parts[:at], create)
            os.close(descriptor)
            descriptor = following
        _check(descriptor, path.parts, is_last=not is_way)
        yield descriptor
    finally:
        os.close(descriptor)


def read_file(folder: int, name: str) -> str | None:
    """The text of the file ``name`` in ``folder``, None where there is none. Raises ``OSError``: also for a link."""
    try:
        # Not blocking: a FIFO would wait for its other end.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no file")
        octets = file.read(LONGEST_FILE + 1)
    if len(octets) > LONGEST_FILE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return octets.decode("utf-8", "surrogateescape")


def _open(folder: int, name: str, path: Sequence[str], create: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            return os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            if create is None:
                raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, create, dir_fd=folder)
        return os.open(name, flags, dir_fd=folder)
    except NotADirectoryError:  # what O_DIRECTORY says of a link too
        if stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode):
            raise Untrusted(str(Path(*path)), "is a link: name the folder that it leads to") from None
        raise


def _check(folder: int, path: Sequence[str], *, is_last: bool) -> None:
    found = os.fstat(folder)
    if found.st_uid not in (0, os.geteuid()):
        raise Untrusted(str(Path(*path)), f"belongs to the user {found.st_uid}: name a folder of root's")
    is_open = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid()))
    # In a sticky folder such as /tmp nobody can replace what is another's, and the next folder is looked at as well.
    if is_open and (is_last or not found.st_mode & stat.S_ISVTX):
        raise Untrusted(str(Path(*path)), "can be written by other users: name a folder of root's")
