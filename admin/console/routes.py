"""The table of the console: the routes of all its pages, and what works while somebody looks.

A new page is a file in `admin.console.pages`, its template, its entry in `admin.console.navigation`, and its line here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from admin.auth.access import Access
from admin.console.assets import PATH as ASSETS
from admin.console.assets import get_asset
from admin.console.context import CONSOLE, Console
from admin.console.figures import RATES, Rates, run_feed
from admin.console.pages import (
    api,
    deploys,
    environment,
    events,
    history,
    log,
    mesh,
    missing,
    overview,
    peers,
    records,
    services,
    signin,
    tries,
)
from admin.console.pages.overview import REPORTS, Reports
from admin.http.route import Route

RESTART_AFTER = 1.0  # seconds

logger = logging.getLogger(__name__)

Feed = Callable[[web.Application], Awaitable[None]]


async def _run_ages(app: web.Application) -> None:
    await app[CONSOLE].state.ages.run()


FEEDS: tuple[Feed, ...] = (run_feed, mesh.run_feed, _run_ages)
"""What works beside the pages; what brings news does so only while somebody looks."""

ROUTES: tuple[Route, ...] = (
    *signin.ROUTES,
    Route("GET", ASSETS + "{digest}/{name:.+}", get_asset, "Give a file of the pages", Access.OPEN, {200: bytes}),
    *events.ROUTES,
    *overview.ROUTES,
    *environment.ROUTES,
    *services.ROUTES,
    *records.ROUTES,
    *peers.ROUTES,
    *history.ROUTES,
    *log.ROUTES,
    *tries.ROUTES,
    *mesh.ROUTES,
    *deploys.ROUTES,
    *api.ROUTES,
    *missing.ROUTES,
)


def add_console(app: web.Application, console: Console) -> None:
    """Has ``app`` serve the pages of ``console``, whose routes are registered with those of the API."""
    app[CONSOLE], app[RATES], app[REPORTS] = console, Rates(), Reports()
    app.cleanup_ctx.append(_run_feeds)
    app.on_shutdown.append(_end_viewers)


async def _run_feeds(app: web.Application) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(_keep_running(feed, app)) for feed in FEEDS]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _keep_running(feed: Feed, app: web.Application) -> None:
    while True:
        try:
            await feed(app)
        except Exception:
            logger.exception("console_feed_failed", extra={"feed": getattr(feed, "__name__", "")})
            await asyncio.sleep(RESTART_AFTER)


async def _end_viewers(app: web.Application) -> None:
    """Ends the streams at once, so that the end of the server does not wait for the viewers."""
    app[CONSOLE].hub.end_all()
