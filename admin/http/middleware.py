"""The path of a request to its handler, outermost first; `ORDER` is that path.

answer_problems   whatever is raised below becomes a problem document here, and every answer is counted
identify          who asks?
limit             not too often?
audit             a write is logged, with how it ended
authorize         may they?
end_in_time       or give up
"""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp import hdrs, web

from admin.auth import actors, tokens
from admin.context import ACTOR, CONTEXT, REVISION
from admin.errors import RateLimited, TimedOut
from admin.http import problems
from admin.http.route import Access, Handler, route_of
from zones.addresses import Address
from zones.errors import Invalid

audit_log = logging.getLogger("interlock.audit")


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where an error becomes an answer."""
    try:
        response = await handler(request)
    except Exception as error:  # noqa: BLE001 the catch-all of this folder
        response = problems.answer(request, error)
    if context := request.app.get(CONTEXT):
        context.counts.requests[_series(request, response.status)] += 1
    return response


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Finds out who asks; without the store where that does not matter, so that health can be told without it."""
    route, context = route_of(request), request.app[CONTEXT]
    if route is None or route.access is Access.OPEN:
        request[ACTOR] = actors.Stranger()
    else:
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        request[ACTOR] = await actors.identify(authorization, context.root_token_digest, context.store)
    return await handler(request)


@web.middleware
async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns away who asks too often: by token, or by address without one. Health checks may ask at any rate."""
    route, context, actor = route_of(request), request.app[CONTEXT], request[ACTOR]
    if route is None or route.access is not Access.OPEN:
        if isinstance(actor, actors.Stranger):
            wait = context.strangers.take(_neighbourhood(_source(request)), time.monotonic())
        else:
            wait = context.clients.take(actor.id, time.monotonic())
        if wait:
            context.counts.rate_limited += 1
            raise RateLimited("too many requests: wait as long as Retry-After says, and use batches", wait=wait)
    return await handler(request)


@web.middleware
async def audit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Writes down who wrote what and how it ended: never a token, never a body."""
    route = route_of(request)
    if route is None or not route.is_write:
        return await handler(request)
    started = time.monotonic()
    status, outcome = 500, "cancelled"
    try:
        response = await handler(request)
        status, outcome = response.status, "done"
    except Exception as error:
        kind = problems.kind_of(error)
        status, outcome = kind.status, kind.name
        raise
    finally:
        fields = {
            "actor": request[ACTOR].id,
            "method": request.method,
            "path": tokens.redact(request.rel_url.raw_path),
            "environment": request.match_info.get("environment"),
            "revision": request.get(REVISION),
            "outcome": outcome,
            "status": status,
            "source": _source(request),
            "duration_ms": round((time.monotonic() - started) * 1000, 1),
        }
        audit_log.info("write", extra=fields)
    return response


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets through who may take the route."""
    if route := route_of(request):
        actors.authorize(request[ACTOR], route.access, request.match_info.get("environment"))
    return await handler(request)


@web.middleware
async def end_in_time(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives up on what takes too long."""
    try:
        async with asyncio.timeout(request.app[CONTEXT].limits.request_seconds) as timeout:
            return await handler(request)
    except TimeoutError:
        if not timeout.expired():
            raise
        raise TimedOut("a write may have been made or not: read before you send it again") from None


ORDER = (answer_problems, identify, limit, audit, authorize, end_in_time)


def _source(request: web.Request) -> str:
    return request.remote or "local"  # a unix socket's clients have no address


def _neighbourhood(source: str) -> str:
    # Whoever has one IPv6 address has the whole /64, so that is who is limited.
    try:
        return Address.parse(source)[:8].hex()
    except Invalid:
        return source


def _series(request: web.Request, status: int) -> tuple[str, str, int]:
    resource = request.match_info.route.resource
    method = request.method if request.method in hdrs.METH_ALL else "other"
    return method, resource.canonical if resource else "unmatched", status
