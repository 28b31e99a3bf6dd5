"""``python -m tests.faults.whole_release``: this release, but it reads and writes each environment whole and no other.

It stands for the last release that did so, where a clone has no history. Its reader is that of `tests.store.older`.
"""

from __future__ import annotations

from interlock.cli import main
from store import store
from store.connection import Connection
from tests.store.older import OlderEnvironments


class WholeEnvironments(OlderEnvironments):
    """What an older release knows of environments."""

    def __init__(self, connection: Connection, *, whole: bool = False) -> None:
        super().__init__(connection, whole=True)


if __name__ == "__main__":
    setattr(store, "EnvironmentStore", WholeEnvironments)  # noqa: B010 mypy: a class is not to be assigned to
    main()
