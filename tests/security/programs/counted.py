"""The product, saying with each reply of the API how many steps of others its request has waited for.

As `python -m interlock`, for `test_commit_fairness`: the header `WAITED` of a reply. A step of a request that can go on
stands behind those in the queue of the event loop; they are counted when it is put there. How long they take is no
matter, nor for how long the request waits for the store, so the number hardly depends on how busy the machine is.
"""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from typing import Any
from unittest.mock import patch

from aiohttp import web

from admin.http.middleware import ORDER
from admin.http.route import Handler
from interlock.cli import main

WAITED = "Steps-Waited"

_waited: ContextVar[list[int] | None] = ContextVar("waited", default=None)
_call_soon = asyncio.BaseEventLoop.call_soon


def call_soon(loop: Any, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
    """As the event loop's own; adds to what the request waits for on whose behalf ``callback`` is called."""
    waited = _waited.get() if context is None else context.get(_waited)
    if waited:
        waited[0] += len(loop._ready)
    return _call_soon(loop, callback, *args, context=context)


@web.middleware
async def count_steps(request: web.Request, handler: Handler) -> web.StreamResponse:
    waited = [0]
    token = _waited.set(waited)
    try:
        response = await handler(request)
    finally:
        _waited.reset(token)
    response.headers[WAITED] = str(waited[0])
    return response


def run() -> None:
    with (
        patch.object(asyncio.BaseEventLoop, "call_soon", call_soon),
        patch("admin.app.ORDER", (count_steps, *ORDER)),
    ):
        main()


if __name__ == "__main__":
    run()
