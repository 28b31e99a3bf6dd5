"""The time of day in the unit that documents, tokens and the store's records carry."""

from __future__ import annotations

import time
from collections.abc import Callable


def unix_milliseconds(clock: Callable[[], float] = time.time) -> int:
    """Now, in whole milliseconds since 1970 (Unix time), by ``clock``, which gives seconds."""
    return int(clock() * 1000)
