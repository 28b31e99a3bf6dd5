"""The ``resolv.conf`` of a workload: one nameserver, its host's resolver (docs/resolv-conf.md says why)."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

from agent.errors import Failed
from support.files import remove_partial, write_whole
from support.folders import Untrusted, read_file, trusted_folder
from zones.addresses import Platform

OPTIONS = ("ndots:1",)
_IP_NETNS = Path("/etc/netns")  # where ip-netns(8) looks for files of a namespace, in a folder of its name

log = logging.getLogger(__name__)


def render(platform: Platform) -> str:
    """The file's text."""
    return f"nameserver {platform.resolver}\nsearch {str(platform.apex).rstrip('.')}\noptions {' '.join(OPTIONS)}\n"


def read(path: Path) -> str | None:
    """The text of ``path``; None where there is none. Raises `Failed`."""
    try:
        with trusted_folder(path.parent) as folder:
            return read_file(folder, path.name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}: name another with --resolv-conf") from None


def write(path: Path, text: str) -> None:
    """Writes ``text`` to ``path``, whole or not at all. Raises `Failed`."""
    try:
        # A container's user may own folders on the way: it decides neither what is read as root nor what is written.
        with trusted_folder(path.parent, create=0o755) as folder:
            remove_partial(path, folder=folder)  # of an agent that was killed
            if read_file(folder, path.name) != text:
                _write(folder, path, text)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}: name another with --resolv-conf") from None


def is_written(path: Path, text: str) -> bool:
    """Whether ``path`` holds ``text``."""
    try:
        with trusted_folder(path.parent) as folder:
            return read_file(folder, path.name) == text
    except OSError:
        return False


def restore(path: Path, written: str, before: str | None) -> None:
    """Restores ``path`` from ``written`` to ``before``, unless somebody has changed it since. Raises `Failed`.

    A path that another user decides is left as it is: nothing was written there, or it has become theirs since.
    """
    try:
        with trusted_folder(path.parent) as folder:
            remove_partial(path, folder=folder)
            if read_file(folder, path.name) != written:
                return
            if before is not None:
                _write(folder, path, before)
                return
            os.unlink(path.name, dir_fd=folder)
        if path.parent.parent == _IP_NETNS:
            with trusted_folder(_IP_NETNS, is_way=True) as folder, suppress(OSError):
                os.rmdir(path.parent.name, dir_fd=folder)  # fails where other files are in it
    except FileNotFoundError:
        return  # it has gone, or a folder on its way
    except OSError as error:
        if isinstance(error, Untrusted) or error.errno == errno.ELOOP:
            log.warning("resolv_conf_left", extra={"path": str(path), "reason": error.strerror})
            return
        raise Failed(f"{path} cannot be restored: {error.strerror}") from None


def _write(folder: int, path: Path, text: str) -> None:
    # Not flushed to the disk: a power failure leaves no namespace that would read the file.
    octets = text.encode("utf-8", "surrogateescape")
    write_whole(path, octets, 0o644, flush=False, flush_folder=False, folder=folder)
