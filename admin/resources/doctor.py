"""The doctor: what is wrong with the platform, an environment or a name in it, and what to do about it."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import authorize_environment
from admin.auth.actors import Tenant
from admin.errors import Forbidden
from admin.http.context import ACTOR, CONTEXT
from admin.http.fields import EnvironmentName, Label, at_field
from admin.http.inputs import read_query
from admin.http.replies import show
from zones.names import check_environment_id, check_host_id

Report = dict[str, Any]


class DoctorQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What to examine: all of the platform, or an environment, or a name in it; for a client, if one is given."""

    environment: EnvironmentName | None = None
    """The environment to examine. None: the platform alone."""
    name: Annotated[str, Meta(max_length=255, examples=["api"])] | None = None
    """The name to examine, as a client asks for it, or below the zone."""
    source: Annotated[str, Meta(max_length=255, examples=["a1.api"])] | None = None
    """The client that asks: its address, or INSTANCE.SERVICE. None: any."""
    host: Label | None = None
    """The host whose agent is asked, about itself or about the environment. None: those that have the name."""


async def get_report(request: web.Request) -> web.Response:
    """Examine the platform, an environment or a name, and say what to mend first."""
    query, actor = read_query(request, DoctorQuery), request[ACTOR]
    is_whole = not isinstance(actor, Tenant)
    environment = None
    if query.environment is not None:
        authorize_environment(actor, query.environment)
        with at_field("environment"):
            environment = check_environment_id(query.environment)
    elif not is_whole:
        raise Forbidden("this token is for one environment: name it, as in ?environment=production")
    if query.host is not None:
        if not is_whole:
            raise Forbidden("this token is for one environment, and hosts are not in one: leave out the host")
        check_host_id(query.host)
    diagnose = request.app[CONTEXT].diagnose
    report: Report = {**await diagnose(environment, query.name, query.source, query.host, is_whole=is_whole)}
    return show(request, report)
