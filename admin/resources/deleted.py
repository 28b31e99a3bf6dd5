"""Deleted environments that are kept for a while: listed, and brought back."""

from __future__ import annotations

from datetime import datetime
from ipaddress import IPv6Network
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from admin.commits import environment_in
from admin.http.context import CONTEXT
from admin.http.fields import time_of
from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.replies import show
from admin.resources.environments import summarize
from store.deleted import Deleted
from zones.model import MAX_REVISION, Environment


class DeletedView(Struct, frozen=True):
    """A deleted environment that can be brought back, and how much was in it."""

    id: str
    """The id."""
    revision: int
    """The revision of the deletion, by which it is told apart from others of this id."""
    network: IPv6Network
    """The network, which it has again when it comes back."""
    until: datetime
    """Until when it can be brought back, by the store's clock."""
    services: int
    """How many services it had."""
    instances: int
    """How many instances it had."""
    records: int
    """How many custom record sets it had."""
    peers: int
    """How many external peers it had."""


class DeletedPage(Struct, frozen=True):
    """Deleted environments, by id and by the revision of the deletion."""

    environments: tuple[DeletedView, ...]
    """The environments of this page."""
    next: str | None
    """The ``after`` of the next page. None: this is the last one."""


class UndeleteBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of several environments of one id is to come back."""

    revision: Annotated[int, Meta(ge=1, le=MAX_REVISION)] | None = None
    """The revision of its deletion. None: that of the last one."""


async def list_deleted(request: web.Request) -> web.Response:
    """List the deleted environments that can be brought back."""
    query, deleted = read_query(request, PageQuery), request.app[CONTEXT].store.deleted
    page, following = cut_page(await deleted.read(), _name, query)
    found = [(one, await deleted.document(one)) for one in page]
    views = tuple(_view(one, environment) for one, environment in found if environment)
    return show(request, DeletedPage(views, following))


async def post_undelete(request: web.Request) -> web.Response:
    """Bring a deleted environment back, into its network and with all that was in it; its tokens stay deleted."""
    id_, body = environment_in(request), await read_body(request, UndeleteBody)
    environment = await request.app[CONTEXT].writer.undelete(id_, body.revision)
    return show(request, summarize(environment), environment, created=True)


def _name(deleted: Deleted) -> str:
    return f"{deleted.id}@{deleted.revision:016}"


def _view(deleted: Deleted, environment: Environment) -> DeletedView:
    return DeletedView(
        id=deleted.id,
        revision=deleted.revision,
        network=environment.network,
        until=time_of(deleted.until),
        services=len(environment.services),
        instances=sum(len(service.instances) for service in environment.services.values()),
        records=len(environment.records),
        peers=len(environment.peers),
    )
