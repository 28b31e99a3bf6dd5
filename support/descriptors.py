"""How many files a process may open, sockets among them, and what of it one part of it may take."""

from __future__ import annotations

import resource


def share_of_files(most: int, share: float) -> int:
    """``most``, or fewer where that would be more than ``share`` of the files that this process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if files == resource.RLIM_INFINITY else max(1, min(most, int(files * share)))
