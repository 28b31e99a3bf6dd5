"""The open TCP connections: bounded in all and for each client. The least recently used one is closed for a new one."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Protocol

MOST = 10_000  # in all; some 100 MB
MOST_OF_ONE_CLIENT = 256  # a host of many processes needs far fewer; one client cannot push the others out
SHARE_OF_FILES = 0.5  # of the files that the process may open; the others are for upstreams and the store


class Connection(Protocol):
    """A connection that can be closed to make room."""

    source: bytes

    def close(self) -> None:
        """Closes when all replies are sent."""

    def abort(self) -> None:
        """Closes at once."""


class Connections:
    """Connections in the order of their last use."""

    def __init__(self) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = MOST if files == resource.RLIM_INFINITY else min(MOST, int(files * SHARE_OF_FILES))
        self._all: dict[Connection, None] = {}
        self._by_client: dict[bytes, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all))

    def add(self, connection: Connection) -> bool:
        """Adds ``connection``; gives whether another one was closed for it."""
        others = self._by_client.get(connection.source, {})
        crowd = others if len(others) >= MOST_OF_ONE_CLIENT else self._all if len(self._all) >= self._most else None
        if crowd:
            oldest = next(iter(crowd))
            self.remove(oldest)
            oldest.abort()
        self._all[connection] = None
        self._by_client.setdefault(connection.source, {})[connection] = None
        return bool(crowd)

    def use(self, connection: Connection) -> None:
        """Notes that ``connection`` was used just now."""
        if connection in self._all:
            for crowd in (self._all, self._by_client[connection.source]):
                del crowd[connection]
                crowd[connection] = None

    def remove(self, connection: Connection) -> None:
        """Removes ``connection``, which is closed."""
        if connection not in self._all:
            return
        del self._all[connection]
        others = self._by_client[connection.source]
        del others[connection]
        if not others:
            del self._by_client[connection.source]
