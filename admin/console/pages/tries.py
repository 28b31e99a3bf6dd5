"""Try it: a name, a type, and who asks; what the answer is, and how it comes about."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import Access
from admin.auth.actors import Tenant
from admin.console.pages.log import environment_of
from admin.console.rendering import show_page, show_part, show_problem
from admin.http.context import ACTOR, CONTEXT
from admin.http.fields import at_field
from admin.http.inputs import read_query
from admin.http.route import Route
from zones.errors import Invalid
from zones.names import Name
from zones.records import RECORD_TYPES

PAGE = "/console/try"
TYPES = (*RECORD_TYPES, "PTR", "SOA", "NS")


class TryQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What to look up."""

    name: Annotated[str, Meta(max_length=255)] = ""
    """The name; a single label is one below the zone."""
    type: Annotated[str, Meta(max_length=16)] = "AAAA"
    """The type."""
    environment: Annotated[str, Meta(max_length=63)] = ""
    """The environment whose client asks."""
    source: Annotated[str, Meta(max_length=255)] = ""
    """The client: its address, or INSTANCE.SERVICE."""


async def get_try(request: web.Request) -> web.Response:
    """Show the form; and the answer, where the address of the page has a name."""
    query = read_query(request, TryQuery)
    environment = environment_of(request, query.environment)
    return show_page(request, "try.html", query=query, environment=environment or "", types=TYPES)


async def get_answer(request: web.Request) -> web.Response:
    """Show what the answer is, and how it comes about."""
    query, actor = read_query(request, TryQuery), request[ACTOR]
    environment = environment_of(request, query.environment)
    source = query.source.strip() or None
    if environment is None and source is None:
        raise Invalid("name the environment whose client asks, or the address of a client", field="environment")
    context = request.app[CONTEXT]
    written = query.name.strip()
    with at_field("name"):
        qname = Name.parse(written) if "." in written else context.platform.apex.child(written)
    is_whole = not isinstance(actor, Tenant)
    found = await context.explain(environment, qname, query.type.upper(), source, is_whole=is_whole)
    return show_part(request, "explained.html", found=found, source=source or "")


ROUTES = (
    Route("GET", PAGE, get_try, "Try a name", Access.ANY, {200: str}, query=TryQuery, show_problem=show_problem),
    Route(
        "GET", PAGE + "/answer", get_answer, "Explain a name", Access.ANY, {200: str}, query=TryQuery,
        show_problem=show_problem,
    ),
)  # fmt: skip
