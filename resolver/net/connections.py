"""The open TCP connections of a server: bounded in all and for each client, in their number and in what they hold.

The least recently used one is closed for a new one. What has been received of messages that are not complete is bounded
too: beyond that, the connection is closed that has held back the rest of its message for longest.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

MOST = 10_000  # in all; some 100 MB
MOST_OF_ONE_CLIENT = 256  # a host of many processes needs far fewer; one client cannot push the others out
MOST_RECEIVED = 16 << 20  # octets of messages that are not answered yet, of all; a query has fifty
MOST_RECEIVED_OF_ONE_CLIENT = 1 << 20  # octets of them; one client cannot have those of others closed
SHARE_OF_FILES = 0.5  # of the files that the process may open; the others are for upstreams and the store


class Connection(Protocol):
    """A connection that can be closed to make room."""

    source: bytes
    """The client's address."""

    def close(self) -> None:
        """Closes when all replies are sent."""

    def close_if_idle(self) -> bool:
        """Closes if its client has not used it for a moment, and waits for nothing; gives whether it has."""

    def abort(self) -> None:
        """Closes at once."""


class Connections:
    """Connections in the order of their last use."""

    def __init__(self) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = MOST if files == resource.RLIM_INFINITY else min(MOST, int(files * SHARE_OF_FILES))
        self._all: dict[Connection, None] = {}
        self._by_client: dict[bytes, dict[Connection, None]] = {}
        self._received: dict[Connection, int] = {}  # octets, where there are any; who has had some for longest is first
        self._received_from: Counter[bytes] = Counter()
        self.received = 0
        """Octets of messages that are not answered yet, of all connections."""

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

    def hold(self, connection: Connection, octets: int) -> bool:
        """Notes that ``connection`` holds ``octets`` of messages that are not answered yet.

        Gives whether a connection, perhaps this one, was closed because all hold too much, or those of its client.
        """
        if connection not in self._all:
            return False
        more = octets - self._received.get(connection, 0)
        if octets:
            self._received[connection] = octets
        else:
            self._received.pop(connection, None)
        self._received_from[connection.source] += more
        self.received += more
        if more <= 0:
            return False
        is_too_much = self._received_from[connection.source] > MOST_RECEIVED_OF_ONE_CLIENT
        holders = self._by_client[connection.source] if is_too_much else self._received
        if not is_too_much and self.received <= MOST_RECEIVED:
            return False
        oldest = next(one for one in self._received if one in holders)
        self.remove(oldest)
        oldest.abort()
        return True

    def remove(self, connection: Connection) -> None:
        """Removes ``connection``, which is closed."""
        if connection not in self._all:
            return
        self.hold(connection, 0)
        if not self._received_from[connection.source]:
            del self._received_from[connection.source]
        del self._all[connection]
        others = self._by_client[connection.source]
        del others[connection]
        if not others:
            del self._by_client[connection.source]
