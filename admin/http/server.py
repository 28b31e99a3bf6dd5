"""Serving an application: listen, serve, and at the end let what was begun be finished."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from admin.errors import AdminError

SHUTDOWN_TIMEOUT = 4.0  # seconds for requests that are under way; more than any write takes while the store is well
BACKLOG = 1024  # connections that wait to be accepted; a burst of clients is not turned away

Application = web.Application  # for whoever puts the parts together, who has no other business with aiohttp


class ListenError(AdminError):
    """An address cannot be listened on; the message is one line that says why and what to do."""


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
            raise ListenError(_explain(host, port, error)) from error
        bound_host, bound_port = runner.addresses[0][:2]
        yield bound_host, bound_port
    finally:
        await runner.cleanup()


def _explain(host: str, port: int, error: OSError) -> str:
    hints = {
        errno.EADDRINUSE: "another server listens there; stop it or choose another address",
        errno.EACCES: "a port below 1024 needs CAP_NET_BIND_SERVICE; grant it or choose another address",
        errno.EADDRNOTAVAIL: "this machine does not have the address; add it or choose another",
    }
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"cannot listen on {where} (HTTP): {reason}" + (f": {hint}" if (hint := hints.get(error.errno or 0)) else "")
