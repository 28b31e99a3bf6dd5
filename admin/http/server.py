"""Serving an application: listen, serve, and at the end let what was begun be finished."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from support.listening import ListenError

SHUTDOWN_TIMEOUT = 4.0  # seconds for requests that are under way; more than any write takes while the store is well
BACKLOG = 1024  # connections that wait to be accepted; a burst of clients is not turned away

Application = web.Application  # for whoever puts the parts together, who has no other business with aiohttp


@asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Serves ``app`` on ``host`` and ``port`` (0 takes a free one) inside the ``async with``; gives where it listens.

    At the end no more connections are taken and requests under way are finished. Raises `ListenError`.
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
