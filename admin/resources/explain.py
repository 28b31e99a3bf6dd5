"""Explanations: what the resolver answers to a name and type in an environment, and why."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import authorize_environment
from admin.auth.actors import Tenant
from admin.errors import Malformed
from admin.http.context import ACTOR, CONTEXT
from admin.http.fields import ENVIRONMENT_ID, at_field
from admin.http.inputs import read_query
from admin.http.replies import show
from zones.names import Name, check_environment_id

Explanation = dict[str, Any]


class ExplainQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The question: ``name`` as a client would send it to the resolver, with the zone at its end."""

    name: Annotated[str, Meta(examples=["api.railway.internal"])]
    """The name that is asked for."""
    environment: Annotated[str, Meta(extra_json_schema={"pattern": ENVIRONMENT_ID})] | None = None
    """The environment whose client asks. None: the one that the address of the client belongs to."""
    type: Annotated[str, Meta(pattern="^[A-Za-z0-9]{1,16}$", examples=["AAAA", "SRV"])] = "AAAA"
    """The type of record that is asked for."""
    source: Annotated[str, Meta(max_length=255, examples=["a1.api"])] | None = None
    """The client that asks: its address, or INSTANCE.SERVICE. None: any."""


async def get_explanation(request: web.Request) -> web.Response:
    """Explain what the resolver answers to a name, and why."""
    query, actor = read_query(request, ExplainQuery), request[ACTOR]
    environment = None
    if query.environment is not None:
        authorize_environment(actor, query.environment)
        environment = check_environment_id(query.environment)
    elif query.source is None:
        raise Malformed(
            "name the environment whose client asks, or the client: environment or source", field="environment"
        )
    elif isinstance(actor, Tenant):
        environment = check_environment_id(actor.environment)
    with at_field("name"):
        qname = Name.parse(query.name)
    is_whole = not isinstance(actor, Tenant)
    explain = request.app[CONTEXT].explain
    explanation: Explanation = {
        **await explain(environment, qname, query.type.upper(), query.source, is_whole=is_whole)
    }
    return show(request, explanation)
