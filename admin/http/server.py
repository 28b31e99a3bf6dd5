"""Serves an application over HTTP, and at the end lets the requests that are under way finish."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from support.listening import ListenError

SHUTDOWN_TIMEOUT = 4.0  # seconds for requests that are under way; more than any write takes while the store is well
BACKLOG = 1024  # connections that wait to be accepted, so that a burst of clients is not refused

Application = web.Application  # a name for the composition root, which does not import aiohttp


@asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Serves ``app`` on ``host`` and ``port`` (0 takes a free one) inside the ``async with``.

    Gives the address and port on which it listens. At the end it accepts no more connections, and requests that are
    under way may finish for `SHUTDOWN_TIMEOUT`. Raises `ListenError`.
    """
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        except OSError as error:
            raise ListenError(host, port, "HTTP", error) from error
        bound_host, bound_port = runner.addresses[0][:2]
        yield bound_host, bound_port
    finally:
        await runner.cleanup()
