"""What keeps open pages up to date: one stream of server-sent events for each page (HTML, 9.2)."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web
from msgspec import Struct

from admin.auth.access import Access
from admin.console.context import CONSOLE
from admin.console.hub import encode_event
from admin.console.pages.log import still_signed_in
from admin.console.rendering import SECURITY, show_problem
from admin.console.topics import read_topics
from admin.http.context import ACTOR
from admin.http.inputs import read_query
from admin.http.route import Route

HEARTBEAT = 15.0  # seconds without an event, after which a comment shows proxies and us that the connection lives
CHECK_EVERY = 5.0  # seconds; as long can a page still be kept up to date after its token was revoked
PACE = 0.1  # seconds between two writes to one viewer: what comes faster is sent together
WRITE_SECONDS = 30.0  # for what was sent to be taken; a browser that does not read is given up
RETRY = b"retry: 1000\n\n"  # milliseconds until the browser comes back
SIGNED_OUT = "signed-out"  # the name of the event after which the page leads to the sign-in


class EventsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What a page looks at."""

    topics: str
    """The topics, separated by commas."""
    after: str = ""
    """The last event that the page has, where it opens the stream anew itself."""


async def get_events(request: web.Request) -> web.StreamResponse:
    """Send what happens, until the browser goes, or its holder has signed out."""
    query = read_query(request, EventsQuery)
    topics, hub = read_topics(query.topics, request[ACTOR]), request.app[CONSOLE].hub
    may_look = still_signed_in(request)
    viewer = hub.open(topics, request.headers.get("Last-Event-ID", query.after))
    try:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", **SECURITY})
        await response.prepare(request)
        await _write(response, RETRY)
        checked = written = time.monotonic()
        while not viewer.is_ended:
            await viewer.wait(min(CHECK_EVERY, HEARTBEAT))
            now = time.monotonic()
            if now - checked >= CHECK_EVERY:
                checked = now
                if not await may_look():
                    await _write(response, encode_event(SIGNED_OUT, ""))
                    break
            data = viewer.take()
            if data or now - written >= HEARTBEAT:
                await _write(response, data or b":\n\n")
                written = now
                await asyncio.sleep(PACE)
    except (ConnectionError, TimeoutError):
        if request.transport:
            request.transport.abort()
    finally:
        hub.close(viewer)
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(data)


ROUTES = (
    Route(
        "GET", "/console/events", get_events, "Send what happens", Access.ANY, {200: str},
        query=EventsQuery, show_problem=show_problem, is_stream=True,
    ),
)  # fmt: skip
