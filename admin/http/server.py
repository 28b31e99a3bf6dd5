"""Serves an application over HTTP, and at the end lets the requests that are under way finish."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from admin.http.connections import Connections
from support.listening import ListenError

SHUTDOWN_TIMEOUT = 4.0  # seconds for requests that are under way; more than any write takes while the store is well
BACKLOG = 1024  # connections that wait to be accepted, so that a burst of clients is not refused

ACCEPTED_AT_ONCE = 32
KEEP_ALIVE = 30.0  # seconds for which a connection without a request is kept
LINGER = 2.0  # seconds for the rest of a body that nobody wants, so that its sender reads why

Application = web.Application  # a name for the composition root, which does not import aiohttp


@asynccontextmanager
async def serve(
    app: web.Application, host: str, port: int, connections: Connections | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Serves ``app`` on ``host`` and ``port`` (0 takes a free one) inside the ``async with``.

    ``connections`` bounds its connections and counts those that it ends; without one it counts for itself.
    Gives the address and port on which it listens. At the end it accepts no more connections, and requests that are
    under way may finish for `SHUTDOWN_TIMEOUT`. Raises `ListenError`.
    """
    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        shutdown_timeout=SHUTDOWN_TIMEOUT,
        keepalive_timeout=KEEP_ALIVE,
        lingering_time=LINGER,
        auto_decompress=False,  # a body is unpacked once its sender is known, and only as far as it may be large
    )
    await runner.setup()
    try:
        try:
            await _Site(runner, host, port, Connections() if connections is None else connections).start()
        except OSError as error:
            raise ListenError(host, port, "HTTP", error) from error
        bound_host, bound_port = runner.addresses[0][:2]
        yield bound_host, bound_port
    finally:
        await runner.cleanup()


class _Site(web.BaseSite):
    """An address on which ``runner`` serves, with all its connections among ``connections``."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, connections: Connections) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._address = host, port
        self._connections = connections

    @property
    def name(self) -> str:
        return f"http://{self._address[0]}:{self._address[1]}"

    async def start(self) -> None:
        await super().start()
        assert self._runner.server
        sock = _bound(*self._address)
        # The event loop accepts as many as its backlog says before it closes any. They must not use up the descriptors.
        self._server = await asyncio.get_running_loop().create_server(
            self._connections.protocol(self._runner.server), sock=sock, backlog=ACCEPTED_AT_ONCE
        )
        sock.listen(BACKLOG)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as unless_bound:
        sock = unless_bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        unless_bound.pop_all()
    return sock
