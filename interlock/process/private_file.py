"""Files for this user's eyes alone, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from interlock.errors import CannotWrite

PRIVATE = 0o600


@contextmanager
def private_file(path: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    """A file that takes its place at ``path``, mode 0600, when the ``with`` statement ends well, and is gone else.

    Raises `CannotWrite`: at the start, as far as it can be known then.
    """
    try:
        _check_place(path, overwrite=overwrite)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written: {error.strerror}") from None


def _check_place(path: Path, *, overwrite: bool) -> None:
    if not path.exists():
        return
    if not path.is_file():  # a device or a pipe, which would be replaced by a file, or a directory, which cannot be
        raise CannotWrite(f"{path} is no regular file: name another")
    if not overwrite:
        raise CannotWrite(f"{path} exists already: name another file, or overwrite it with --force")
