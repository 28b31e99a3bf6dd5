"""The handler of explanations: what a name is answered with, and why."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.actors import authorize_environment
from admin.context import ACTOR, CONTEXT, Explain
from admin.http.inputs import read_query
from admin.http.replies import show
from zones.errors import Invalid
from zones.names import Name, check_environment_id

__all__ = ["Explain", "ExplainQuery", "Explanation", "get_explanation"]

Explanation = dict[str, Any]


class ExplainQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked: ``name`` as it would be sent to the resolver, the zone included."""

    environment: Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z0-9-]{1,63}$"})]
    name: Annotated[str, Meta(examples=["api.railway.internal"])]
    type: Annotated[str, Meta(pattern="^[A-Za-z0-9]{1,16}$", examples=["AAAA", "SRV"])] = "AAAA"


async def get_explanation(request: web.Request) -> web.Response:
    """Explain what a name is answered with, and why."""
    query = read_query(request, ExplainQuery)
    authorize_environment(request[ACTOR], query.environment)
    environment = check_environment_id(query.environment)
    try:
        qname = Name.parse(query.name)
    except Invalid as error:
        raise Invalid(str(error), field="name") from None
    explain = request.app[CONTEXT].explain
    explanation: Explanation = {**await explain(environment, qname, query.type.upper())}
    return show(request, explanation)
