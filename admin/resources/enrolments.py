"""The enrolment of a host: a token by which it gets a credential of its own, once."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Annotated

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from admin.hosts.authority import load_authority
from admin.http.context import CONTEXT
from admin.http.fields import EnvironmentName, time_of
from admin.http.inputs import read_body
from admin.http.replies import show
from admin.resources.hosts import unknown_environments
from store.credentials import Enrolment
from watcher.session.token import SECRET_OCTETS, EnrolmentToken
from zones.errors import Invalid
from zones.names import check_environment_id, check_host_id

DEFAULT_SECONDS = 3600  # enough to set a host up, and little for one who finds the token later
MOST_SECONDS = 7 * 86_400
MOST_ENVIRONMENTS = 1_000  # that a host may be assigned by name; its credential is read with each session


class EnrolmentBody(Struct, frozen=True, forbid_unknown_fields=True):
    """An enrolment to be made. Without ``environments`` the host may place instances in all of them."""

    environments: tuple[EnvironmentName, ...] | UnsetType | None = UNSET
    """The environments in which it may place instances. None: all of them."""
    seconds: Annotated[int, Meta(ge=1, le=MOST_SECONDS, description="for which the token is valid")] = DEFAULT_SECONDS

    def __post_init__(self) -> None:
        for id_ in self.environments or ():
            check_environment_id(id_)


class EnrolmentReply(Struct, frozen=True):
    """An enrolment that was just made. ``token`` is shown this once. ``environments`` is null for all of them."""

    host: str
    """The id of the host."""
    token: str
    """The token, which is shown this once."""
    until: datetime
    """Until when it is valid."""
    environments: tuple[str, ...] | None
    """The environments in which it may place instances. None: all of them."""
    unknown: tuple[str, ...]
    """Those of the environments that do not exist, or not yet."""


async def post_enrolment(request: web.Request) -> web.Response:
    """Make the token by which a host enrols. One that was made before for this host is not valid any more."""
    host, store = request.match_info["host"], request.app[CONTEXT].store
    body = await read_body(request, EnrolmentBody)
    check_host_id(host)
    environments = None if body.environments is UNSET or body.environments is None else tuple(body.environments)
    if environments is not None and len(environments) > MOST_ENVIRONMENTS:
        raise Invalid(f"name {MOST_ENVIRONMENTS} environments at most", field="environments")
    token = EnrolmentToken(secrets.token_bytes(SECRET_OCTETS), (await load_authority(store)).digest)
    until = await store.clock.milliseconds() + body.seconds * 1000
    await store.credentials.invite(host, Enrolment(token.digest, until, environments))
    unknown = await unknown_environments(store, environments or ())
    return show(request, EnrolmentReply(host, str(token), time_of(until), environments, unknown), created=True)
