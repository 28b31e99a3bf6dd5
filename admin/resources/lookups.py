"""Look-ups as they happen, of one environment or of all, for as long as somebody watches.

The reply is a stream: server-sent events for a browser, or a JSON object on each line. It goes on until the client
closes it, or its token ends, or this process does.

    event: lookups    an array of look-ups, in the order in which they came
    event: status     which hosts are heard, and how many look-ups were left out
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Annotated, Literal

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta, Struct

from admin.auth.actors import Actor
from admin.commits import environment_in
from admin.http.context import ACTOR, CONTEXT
from admin.http.fields import EnvironmentName
from admin.http.inputs import read_query
from admin.http.limits import source_network
from admin.lookups.viewers import Batch, Viewer
from watcher.session.lookups import LookupFilter
from zones.errors import Invalid
from zones.names import Name, check_environment_id

EVENTS, LINES = "text/event-stream", "application/x-ndjson"
ALIVE_EVERY = 5.0  # seconds without a look-up until something is sent, by which a client that is gone is noticed
SEND_SECONDS = 30.0  # for a client to take what it is sent; then its stream ends
CHECK_EVERY = 10.0  # seconds between two looks whether the token is still good

Allowed = Callable[[], Awaitable[bool]]
"""Says whether the client may still watch."""


class LookupQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which look-ups to show: those that fit every parameter that is given."""

    name: Annotated[str, Meta(max_length=255, examples=["api.railway.internal"])] | None = None
    """Only names at or below this one; a single label is one below the zone. None: all."""
    type: Annotated[str, Meta(max_length=16, examples=["AAAA"])] | None = None
    """Only queries of this type. None: all."""
    result: Literal["ok", "failed", "nodata", "bad"] | None = None
    """``failed``: errors and names that do not exist; ``nodata``: names without records of the type; ``bad``: both;
    ``ok``: the others. None: all."""
    rcode: Annotated[str, Meta(max_length=16, examples=["NXDOMAIN"])] | None = None
    """Only replies with this rcode. None: all."""
    client: Annotated[str, Meta(max_length=64, examples=["fd12:5b1e:90c4:1::1"])] | None = None
    """Only those of the client with this address. None: of all."""


class PlatformLookupQuery(LookupQuery, frozen=True, forbid_unknown_fields=True):
    """Which look-ups to show, of all environments or of one."""

    environment: EnvironmentName | None = None
    """Only those of clients of this environment. None: of all, and of clients that belong to none."""


async def get_environment_lookups(request: web.Request) -> web.StreamResponse:
    """Show the look-ups of an environment's clients as they happen."""
    wanted = filter_of(read_query(request, LookupQuery), environment_in(request), request.app[CONTEXT].platform.apex)
    return await stream(request, wanted, still_good(request))


async def get_lookups(request: web.Request) -> web.StreamResponse:
    """Show the look-ups of all clients as they happen."""
    query = read_query(request, PlatformLookupQuery)
    environment = None if query.environment is None else check_environment_id(query.environment)
    wanted = filter_of(query, environment, request.app[CONTEXT].platform.apex)
    return await stream(request, wanted, still_good(request))


def filter_of(query: LookupQuery, environment: str | None, zone: Name) -> LookupFilter:
    """What ``query`` asks for, in ``environment`` (None: in all); a name of one label is below ``zone``."""
    name = query.name or None
    if name and "." not in name:
        name = f"{name}.{zone}"
    return LookupFilter(
        environment=environment,
        name=name,
        type=query.type.upper() if query.type else None,
        rcode=query.rcode.upper() if query.rcode else None,
        source=_read_address(query.client) if query.client else None,
        failed=query.result in ("failed", "bad"),
        nodata=query.result in ("nodata", "bad"),
        ok=query.result == "ok",
    )


def _read_address(text: str) -> str:
    """The address ``text`` as look-ups have it. Raises `Invalid`."""
    try:
        return str(ip_address(text))
    except ValueError:
        raise Invalid(f"{text!r} is not an address: give one as in fd12::1", field="client") from None


def still_good(request: web.Request) -> Allowed:
    """Says whether the token of ``request`` is the one that it was when the stream began."""
    identifier, actor = request.app[CONTEXT].identifier, request[ACTOR]
    authorization = request.headers.get(hdrs.AUTHORIZATION, "")

    async def check() -> bool:
        now: Actor = (await identifier.identify(authorization, source_network(request.remote or "")))[0]
        return now == actor

    return check


async def stream(
    request: web.Request, wanted: LookupFilter, allowed: Allowed, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Replies with the look-ups that ``wanted`` wants, while ``allowed`` says so. Raises `admin.errors.RateLimited`.

    ``headers`` are those that the reply has besides.
    """
    hub, actor = request.app[CONTEXT].lookups, request[ACTOR]
    is_events = EVENTS in request.headers.get(hdrs.ACCEPT, "")
    async with hub.watched(wanted, actor.id) as viewer:
        response = web.StreamResponse(headers={"Content-Type": EVENTS if is_events else LINES, **(headers or {})})
        response.headers["X-Accel-Buffering"] = "no"  # a proxy such as nginx would keep it back
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            with suppress(ConnectionError, TimeoutError):
                await _send_all(response, viewer, allowed, as_events if is_events else as_lines)
    return response


async def _send_all(
    response: web.StreamResponse, viewer: Viewer, allowed: Allowed, write: Callable[[Batch], bytes]
) -> None:
    checked = time.monotonic()
    while (batch := await viewer.next(ALIVE_EVERY)) is not None:
        if time.monotonic() - checked > CHECK_EVERY:
            checked = time.monotonic()
            if not await allowed():
                return
        async with asyncio.timeout(SEND_SECONDS):
            await response.write(write(batch))


def as_events(batch: Batch) -> bytes:
    """``batch`` as server-sent events."""
    events = b""
    if batch.status:
        events += b"event: status\ndata: " + _encoder.encode(batch.status) + b"\n\n"
    if batch.lookups:
        events += b"event: lookups\ndata: " + batch.encoded + b"\n\n"
    return events or b": alive\n\n"


def as_lines(batch: Batch) -> bytes:
    """``batch`` as JSON objects, each on a line of its own."""
    lines = [_encoder.encode(batch.status)] if batch.status else []
    lines += map(_encoder.encode, batch.lookups)
    return b"".join(line + b"\n" for line in lines) or b"\n"


_encoder = msgspec.json.Encoder()
