"""The ``resolv.conf`` of a workload: one nameserver, its host's resolver (docs/resolv-conf.md says why)."""

from __future__ import annotations

from pathlib import Path

from agent.errors import Failed
from support.files import write_whole
from zones.addresses import Platform

OPTIONS = ("ndots:1",)
_IP_NETNS = Path("/etc/netns")  # where ip-netns(8) looks for files of a namespace, in a folder of its name


def render(platform: Platform) -> str:
    """The file's text."""
    return f"nameserver {platform.resolver}\nsearch {str(platform.apex).rstrip('.')}\noptions {' '.join(OPTIONS)}\n"


def write(path: Path, text: str) -> str | None:
    """Writes ``text`` to ``path``, whole or not at all; returns the text before, None if none. Raises `Failed`."""
    try:
        before = path.read_text("utf-8", "surrogateescape") if path.exists() else None
        if before == text:
            return before
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Not flushed to the disk: a power failure leaves no namespace that would read the file.
        write_whole(path, text.encode("utf-8", "surrogateescape"), 0o644, flush=False, flush_folder=False)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}: name another with --resolv-conf") from None
    return before


def is_written(path: Path, text: str) -> bool:
    """Whether ``path`` holds ``text``."""
    try:
        return path.read_text("utf-8", "surrogateescape") == text
    except OSError:
        return False


def restore(path: Path, written: str, before: str | None) -> None:
    """Restores ``path`` from ``written`` to ``before``, unless somebody has changed it since. Raises `Failed`."""
    try:
        if not path.exists() or path.read_text("utf-8", "surrogateescape") != written:
            return
        if before is not None:
            write(path, before)
            return
        path.unlink()
        if path.parent.parent == _IP_NETNS and not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as error:
        raise Failed(f"{path} cannot be restored: {error.strerror}") from None
