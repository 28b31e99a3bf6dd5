"""Explanations: what the resolver answers to a name and type in an environment, and why."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import authorize_environment
from admin.http.context import ACTOR, CONTEXT
from admin.http.fields import ENVIRONMENT_ID, at_field
from admin.http.inputs import read_query
from admin.http.replies import show
from zones.names import Name, check_environment_id

Explanation = dict[str, Any]


class ExplainQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """The question: ``name`` as a client would send it to the resolver, with the zone at its end."""

    environment: Annotated[str, Meta(extra_json_schema={"pattern": ENVIRONMENT_ID})]
    """The environment whose client asks."""
    name: Annotated[str, Meta(examples=["api.railway.internal"])]
    """The name that is asked for."""
    type: Annotated[str, Meta(pattern="^[A-Za-z0-9]{1,16}$", examples=["AAAA", "SRV"])] = "AAAA"
    """The type of record that is asked for."""


async def get_explanation(request: web.Request) -> web.Response:
    """Explain what the resolver answers to a name, and why."""
    query = read_query(request, ExplainQuery)
    authorize_environment(request[ACTOR], query.environment)
    environment = check_environment_id(query.environment)
    with at_field("name"):
        qname = Name.parse(query.name)
    explanation: Explanation = {**await request.app[CONTEXT].explain(environment, qname, query.type.upper())}
    return show(request, explanation)
