"""The steps of a request on its path to the handler, outermost first; `ORDER` is that path.

answer_problems   turns every error that is raised further inside into a problem document, and counts every reply
identify          finds out which route the request takes, and which client sent it
limit             refuses a client that sends too many requests
audit             logs every write, with its outcome
authorize         refuses a client that may not use the route
end_in_time       gives up when the request takes too long
take_turns        lets a write of one environment wait while others of it are worked on
check_inputs      refuses a write with inputs that it would not look at
"""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp import hdrs, web

from admin.auth import access, tokens
from admin.auth.access import Access
from admin.auth.actors import Admin, Anonymous, Tenant
from admin.errors import RateLimited, TimedOut
from admin.http import problems
from admin.http.connections import connection_of
from admin.http.context import ACTOR, CONTEXT, COUNTED, REVISION, ROUTE
from admin.http.cookies import CSRF_HEADER, check_origin, cookie_of
from admin.http.inputs import refuse_inputs
from admin.http.limits import source_network
from admin.http.route import Handler, route_of

audit_log = logging.getLogger("interlock.audit")


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns an error into a reply; the only place that does."""
    connection, began = connection_of(request), time.monotonic()
    if connection:
        connection.begin()
    try:
        response = await handler(request)
    except Exception as error:  # noqa: BLE001 the catch-all of this package
        response = problems.answer(request, error)
    finally:
        if connection:
            connection.end()
    if context := request.app.get(CONTEXT):
        context.counts.rate_limited += response.status == web.HTTPTooManyRequests.status_code
        series = _series(request, response.status)
        context.counts.requests[series] += 1
        if not ((route := request.get(ROUTE)) and route.is_stream):
            context.counts.seconds[series[0]].observe(time.monotonic() - began)
    return response


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Finds out which route the request takes, and which client sent it.

    An open route does not need the store for this, so health checks work while the store is down.
    """
    route, context = route_of(request), request.app[CONTEXT]
    request[ROUTE] = route
    authorization = request.headers.get(hdrs.AUTHORIZATION, "")
    request[ACTOR] = context.identifier.identify_root(authorization)  # also for errors of what follows
    if route is None:
        request[ACTOR] = Anonymous()
    elif route.by_sign_in:
        request[ACTOR] = Anonymous()
        cookie = cookie_of(request)
        request[ACTOR], request[COUNTED] = await context.identifier.identify_sign_in(
            cookie, source_network(_source(request))
        )
        if route.is_write:
            needs_cookie = not (isinstance(request[ACTOR], Anonymous) or route.begins_sign_in)
            check_origin(request, cookie if needs_cookie else "")
    elif route.access is not Access.OPEN and not authorization and CSRF_HEADER in request.headers:
        # A page of the console, where people try the API with the rights that they have signed in with.
        cookie, request[ACTOR] = cookie_of(request), Anonymous()
        network = source_network(_source(request))
        request[ACTOR], request[COUNTED] = await context.identifier.identify_sign_in(cookie, network)
        check_origin(request, cookie)
    elif route.access is not Access.OPEN:
        request[ACTOR], request[COUNTED] = await context.identifier.identify(
            authorization, source_network(_source(request))
        )
    if not isinstance(request[ACTOR], Anonymous) and (connection := connection_of(request)):
        connection.is_known = True
    if isinstance(actor := request[ACTOR], Admin | Tenant):
        context.uses.note(actor.id)
    return await handler(request)


@web.middleware
async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses a client that sends too many requests: counted by token, or by source network for anonymous clients.

    Open routes have no limit, so that health checks are always answered.
    """
    route, context, actor = request[ROUTE], request.app[CONTEXT], request[ACTOR]
    if route is None or route.access is not Access.OPEN:
        if request.get(COUNTED):
            wait = 0.0
        elif isinstance(actor, Anonymous):
            wait = context.anonymous_buckets.take(source_network(_source(request)), time.monotonic())
        else:
            wait = context.token_buckets.take(actor.id, time.monotonic())
        if wait:
            raise RateLimited("too many requests: wait as long as Retry-After says, and use batches", wait=wait)
    return await handler(request)


@web.middleware
async def audit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Logs who wrote what, and the outcome; never a token, never a body."""
    route = request[ROUTE]
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
    """Refuses a client that may not use the route."""
    if route := request[ROUTE]:
        environment = request.match_info.get("environment")
        access.authorize(request[ACTOR], route.access, environment, is_write=route.is_write)
    return await handler(request)


@web.middleware
async def end_in_time(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives up when the request takes too long."""
    if (route := request[ROUTE]) and route.is_stream:
        return await handler(request)
    try:
        async with asyncio.timeout(request.app[CONTEXT].limits.request_seconds) as timeout:
            return await handler(request)
    except TimeoutError:
        if not timeout.expired():
            raise
        raise TimedOut("a write may have been made or not: read before you send it again") from None


@web.middleware
async def take_turns(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets a write of one environment wait while others of it are worked on."""
    environment = request.match_info.get("environment")
    if not environment or not (route := request[ROUTE]) or not route.is_write or route.is_stream:
        return await handler(request)
    async with request.app[CONTEXT].writer.turns.taken(environment):
        return await handler(request)


@web.middleware
async def check_inputs(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses a write with inputs that it would not look at."""
    if (route := request[ROUTE]) and route.is_write:
        await refuse_inputs(request, route)
    return await handler(request)


ORDER = (answer_problems, identify, limit, audit, authorize, end_in_time, take_turns, check_inputs)


def _source(request: web.Request) -> str:
    return request.remote or "local"  # the clients of a unix socket have no address


def _series(request: web.Request, status: int) -> tuple[str, str, int]:
    resource = request.match_info.route.resource
    method = request.method if request.method in hdrs.METH_ALL else "other"
    return method, resource.canonical if resource else "unmatched", status
