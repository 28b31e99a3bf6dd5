"""The log: look-ups as they happen, of all resolvers that are heard; and why one was answered as it was."""

from __future__ import annotations

from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import Access, authorize_environment
from admin.auth.actors import Anonymous, Tenant
from admin.console.rendering import SECURITY, show_page, show_problem
from admin.http.context import ACTOR, CONTEXT
from admin.http.cookies import cookie_of
from admin.http.inputs import read_query
from admin.http.limits import source_network
from admin.http.route import Route
from admin.resources.lookups import Allowed, LookupQuery, filter_of, stream
from store.errors import Unavailable
from zones.names import EnvironmentId, check_environment_id
from zones.records import RECORD_TYPES

PAGE = "/console/log"


class LogQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which look-ups to show; an empty field: all."""

    environment: Annotated[str, Meta(max_length=63)] = ""
    """The environment of the clients."""
    name: Annotated[str, Meta(max_length=255)] = ""
    """The name, or one above it."""
    type: Annotated[str, Meta(max_length=16)] = ""
    """The type."""
    result: Literal["", "ok", "failed", "nodata", "bad"] = ""
    """What came of it; as in `admin.resources.lookups`."""
    client: Annotated[str, Meta(max_length=64)] = ""
    """The address of the client."""


async def get_log(request: web.Request) -> web.Response:
    """Show the page, on which a script shows the look-ups."""
    query = read_query(request, LogQuery)
    environment = environment_of(request, query.environment)
    # Addresses of the platform say by themselves which environment they are in; others are bound to one by a resolver.
    prefix = str(request.app[CONTEXT].platform.prefix.network_address).rstrip(":") + ":"
    return show_page(request, "log.html", query=query, environment=environment or "", types=RECORD_TYPES, prefix=prefix)


async def get_stream(request: web.Request) -> web.StreamResponse:
    """Send the look-ups."""
    query = read_query(request, LogQuery)
    wanted = LookupQuery(
        name=query.name or None, type=query.type or None, result=query.result or None, client=query.client or None
    )
    environment = environment_of(request, query.environment)
    wanted_here = filter_of(wanted, environment, request.app[CONTEXT].platform.apex)
    return await stream(request, wanted_here, still_signed_in(request), SECURITY)


def environment_of(request: web.Request, asked: str) -> EnvironmentId | None:
    """The environment that ``asked`` names, or that of a token that is for one. None: all. Raises `Forbidden`."""
    actor = request[ACTOR]
    if isinstance(actor, Tenant) and not asked:
        return check_environment_id(actor.environment)
    if not asked:
        return None
    authorize_environment(actor, asked)
    return check_environment_id(asked)


def still_signed_in(request: web.Request) -> Allowed:
    """Says whether who looks still is who they were. While the store does not answer, nobody is signed out."""
    identifier, actor = request.app[CONTEXT].identifier, request[ACTOR]

    async def check() -> bool:
        try:
            now, _ = await identifier.identify_sign_in(cookie_of(request), source_network(request.remote or ""))
        except Unavailable:
            return True
        return now == actor and not isinstance(now, Anonymous)

    return check


ROUTES = (
    Route("GET", PAGE, get_log, "Show look-ups", Access.ANY, {200: str}, query=LogQuery, show_problem=show_problem),
    Route(
        "GET", PAGE + "/stream", get_stream, "Send look-ups", Access.ANY, {200: str}, query=LogQuery,
        show_problem=show_problem, is_stream=True,
    ),
)  # fmt: skip
