"""Files that only this user can read, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from interlock.errors import CannotWrite
from support.files import whole_file

PRIVATE = 0o600


@contextmanager
def private_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A new file that becomes ``path``, mode 0600, when the ``with`` block ends without an error; else it is removed.

    Raises `CannotWrite`, and does so before the block runs where it can be known by then.
    """
    try:
        _check_place(path, overwrite=overwrite)
        with whole_file(path, PRIVATE) as file:
            yield file
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written: {error.strerror}") from None


def _check_place(path: Path, *, overwrite: bool) -> None:
    if not path.exists():
        return
    if not path.is_file():  # the new file would replace a device or a pipe, and cannot replace a directory
        raise CannotWrite(f"{path} is no regular file: name another")
    if not overwrite:
        raise CannotWrite(f"{path} exists already: name another file, or overwrite it with --force")
