"""Writing a file whole: a reader sees what was there before or all of the new content, also after a crash.

partial file beside it ──► written ──► flushed to the disk ──► renamed to path ──► folder flushed to the disk

All of this happens in one folder, which is opened once: nobody can put another one in its place meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_RANDOM = "[0-9a-f]{12}"  # the end of the name of a partial file


@contextlib.contextmanager
def whole_file(
    path: Path,
    mode: int,
    *,
    flush: bool = True,
    flush_folder: bool = True,
    replace: bool = True,
    folder: int | None = None,
) -> Iterator[BinaryIO]:
    """Gives a file that takes its place at ``path`` when the ``with`` statement ends without an exception.

    Otherwise nothing of it is left. The file has exactly ``mode``, whatever the umask is. Without ``replace`` a file
    that is at ``path`` by then stays, and ``FileExistsError`` is raised. Where ``folder`` is given, a descriptor, the
    file is made in that folder, and only the last part of ``path`` counts. Raises ``OSError``: at the start where the
    folder cannot be written.

    ``flush`` writes the content to the disk before the rename, so that a power failure leaves no empty file.
    ``flush_folder`` writes the rename to the disk too, where the file system can do that, so that a power failure does
    not undo it. Each takes some milliseconds: about 5 on a virtual disk with ext4.
    """
    with _opened(path.parent, folder) as place:
        # The name is random, so that two writers of one path do not write into one partial file.
        partial = f".{path.name}.{secrets.token_hex(6)}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=place)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                yield file
                file.flush()
                if flush:
                    os.fsync(descriptor)
            if replace:
                os.rename(partial, path.name, src_dir_fd=place, dst_dir_fd=place)
            else:
                os.link(partial, path.name, src_dir_fd=place, dst_dir_fd=place)
                os.unlink(partial, dir_fd=place)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=place)
            raise
        if flush_folder:
            _flush_folder(place)


def write_whole(
    path: Path,
    content: bytes,
    mode: int,
    *,
    flush: bool = True,
    flush_folder: bool = True,
    replace: bool = True,
    folder: int | None = None,
) -> None:
    """Writes ``content`` to ``path``; the arguments are those of `whole_file`."""
    with whole_file(path, mode, flush=flush, flush_folder=flush_folder, replace=replace, folder=folder) as file:
        file.write(content)


def flush_file(path: Path) -> None:
    """Writes the content of ``path`` to the disk, and with it, as far as ext4, XFS and Btrfs go, that it is there.

    Raises ``OSError``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial(path: Path, *, folder: int | None = None) -> None:
    """Removes what a killed process has left of files that were to become ``path``; ``folder`` is as in `whole_file`.

    Only for the one process that writes ``path``: another one's partial file would be removed under its hands. What
    cannot be removed stays.
    """
    _remove_matching(path.parent, folder, re.compile(rf"\.{re.escape(path.name)}\.{_RANDOM}"))


def remove_partials(folder: Path) -> None:
    """Like `remove_partial`, for every file in ``folder``."""
    _remove_matching(folder, None, re.compile(rf"\..+\.{_RANDOM}"))


def _remove_matching(path: Path, folder: int | None, names: re.Pattern[str]) -> None:
    with contextlib.suppress(OSError), _opened(path, folder) as place:
        for name in filter(names.fullmatch, os.listdir(f"/proc/self/fd/{place}")):  # O_PATH does not list
            os.unlink(name, dir_fd=place)


@contextlib.contextmanager
def _opened(path: Path, folder: int | None) -> Iterator[int]:
    if folder is not None:
        yield folder
        return
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _flush_folder(folder: int) -> None:
    # Not all file systems can flush a folder, and not every folder that can be written can be opened. The file stands
    # whole at its place all the same, so that is no error.
    with contextlib.suppress(OSError):
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
