"""A process that runs an embedded store and nothing else: ``python -m tests.interlock.keeper DIRECTORY [SERVER]``.

It prints ``ready`` when the store answers, then runs until it is ended. An error of the product is one line.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from interlock.errors import InterlockError
from interlock.process.embedded import EmbeddedStore
from interlock.process.state_dir import locked, make_state_directory
from tests.interlock.processes import python


def keeper(directory: Path, server: str | None = None) -> tuple[str, ...]:
    """The command that runs this process."""
    return python("-m", "tests.interlock.keeper", str(directory), *([server] if server else []))


def run_store(directory: Path, server: str | None) -> None:
    make_state_directory(directory)
    with locked(directory) as lock:
        asyncio.run(EmbeddedStore(directory, lock, server).run(lambda: print("ready", flush=True)))


if __name__ == "__main__":
    try:
        run_store(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    except InterlockError as error:
        sys.exit(f"{type(error).__name__}: {error}")
