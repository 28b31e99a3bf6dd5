"""The connections to the API: bounded in all and for each client, and ended where a client keeps one without using it.

A connection is *busy* while a request on it is answered; else it is *idle*, whether nothing comes or a header that does
not end. Idle ones make room: those of the client that has too many, or else the oldest, and those first on which no
valid token was ever sent. So whoever opens a thousand connections has only closed their own.

Around each connection's protocol of aiohttp stands a `Connection`; the outermost step of the middleware tells it when a
request begins and ends.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from aiohttp import web

from admin.http.limits import source_network
from admin.http.wrapping import WrappingProtocol
from support.descriptors import share_of_files

MOST = 1024  # in all; one takes about 30 KiB
MOST_OF_ONE_CLIENT = 256  # of one source network; a proxy of a busy platform has fewer
SHARE_OF_FILES = 0.125  # of the files that the process may open; the others are for DNS, upstreams and the store
FIRST_HEADER = 10.0  # seconds from the connection to the end of the first header
IDLE = 40.0  # seconds from a reply to the end of the next header; the server has closed a quiet connection before


class Connections:
    """The open connections of one server; ``closed`` counts those that were ended here, by reason."""

    def __init__(self, closed: Counter[str] | None = None) -> None:
        self._most = share_of_files(MOST, SHARE_OF_FILES)
        self.closed: Counter[str] = Counter() if closed is None else closed
        self._all: dict[Connection, None] = {}  # the order is that in which they began to be as they are
        self._by_client: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all))

    def protocol(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of a new connection: a `Connection` around what ``make`` returns."""
        return lambda: Connection(self, make())

    def open(self, connection: Connection) -> bool:
        """Adds ``connection``. Gives False if there is no room for it, because all the others are busy."""
        others = self._by_client.get(connection.client, {})
        reason = "client" if len(others) >= MOST_OF_ONE_CLIENT else "most" if len(self._all) >= self._most else ""
        if reason:
            self.closed[reason] += 1
            victim = _least_needed(others if reason == "client" else self._all)
            if victim is None:
                return False
            self.remove(victim)
            victim.abort()
        self._all[connection] = None
        self._by_client.setdefault(connection.client, {})[connection] = None
        return True

    def note_change(self, connection: Connection) -> None:
        """``connection`` has become busy or idle just now."""
        if connection in self._all:
            for crowd in (self._all, self._by_client[connection.client]):
                del crowd[connection]
                crowd[connection] = None

    def remove(self, connection: Connection) -> None:
        """``connection`` is closed."""
        if connection in self._all:
            del self._all[connection]
            others = self._by_client[connection.client]
            del others[connection]
            if not others:
                del self._by_client[connection.client]


class Connection(WrappingProtocol):
    """One connection, around ``inner``, the protocol of the HTTP server."""

    def __init__(self, connections: Connections, inner: asyncio.Protocol) -> None:
        super().__init__(inner)
        self.client = ""
        self.is_busy = False
        self.is_known = False
        """Whether a request with a valid token has come over it."""
        self._connections = connections
        self._is_served = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The header of a request is complete."""
        self._stop_timer()
        self.is_busy = True
        self._connections.note_change(self)

    def end(self) -> None:
        """The reply of the request is made."""
        self.is_busy = False
        self._connections.note_change(self)
        self._start_timer(IDLE)

    def abort(self) -> None:
        """Closes at once."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.client = source_network(peer[0] if peer else "")
        if not self._connections.open(self):
            transport.abort()
            return
        self._is_served = True
        self._start_timer(FIRST_HEADER)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Either side has ended it."""
        self._stop_timer()
        self._connections.remove(self)
        self._transport = None
        if self._is_served:
            self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Passes it on, where the server knows of the connection."""
        return super().eof_received() if self._is_served else None

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        if self._transport:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._end_slow)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _end_slow(self) -> None:
        self._connections.closed["slow"] += 1
        self.abort()


def connection_of(request: web.Request) -> Connection | None:
    """The connection of ``request``; None where nobody counts the connections."""
    protocol = request.transport.get_protocol() if request.transport else None
    return protocol if isinstance(protocol, Connection) else None


def _least_needed(connections: Iterable[Connection]) -> Connection | None:
    """The oldest idle one on which no valid token came, or else the oldest idle one; None where all are busy."""
    idle = [connection for connection in connections if not connection.is_busy]
    return next((connection for connection in idle if not connection.is_known), idle[0] if idle else None)
