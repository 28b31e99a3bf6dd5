"""A process that keeps an embedded store and nothing else: ``python -m tests.interlock.keeper DIRECTORY [SERVER]``.

Prints ``ready`` when it answers, then stays. Errors of ours are one line, as in the product.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from interlock.errors import InterlockError
from interlock.process.embedded import EmbeddedStore
from interlock.process.state_dir import locked, make_state_directory


def keep(directory: Path, server: str | None) -> None:
    make_state_directory(directory)
    with locked(directory) as lock:
        asyncio.run(EmbeddedStore(directory, lock, server).run(lambda: print("ready", flush=True)))


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    except InterlockError as error:
        sys.exit(f"{type(error).__name__}: {error}")
