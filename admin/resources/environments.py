"""Environments: created, switched on and off, shown, listed, deleted."""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import Annotated, Literal

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from admin.auth.actors import Tenant
from admin.commits import commit_deletion, commit_environment, find_environment
from admin.http.context import ACTOR, CONTEXT
from admin.http.fields import Revision
from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.replies import show, show_deleted, show_made
from admin.resources.peers import PeerView, view_peers
from admin.resources.placements import hosts_away
from admin.resources.records import RecordView, view_records
from admin.resources.services import ServiceView, view_services
from store.errors import Corrupt
from zones import edits
from zones.model import Environment
from zones.names import EnvironmentId

READ_AT_ONCE = 100  # documents in one reply of the store, each of up to some megabytes


class EnvironmentSummary(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An environment, without what is in it. ``isolated`` is left out where it is false."""

    id: str
    """The id."""
    network: IPv6Network
    """The network, in which all addresses of the environment are."""
    enabled: bool
    """Whether its names are answered."""
    isolated: bool = False
    """Whether its clients get no answers but its own names."""
    revision: Revision


class EnvironmentView(EnvironmentSummary, frozen=True, kw_only=True, omit_defaults=True):
    """An environment with all that is in it."""

    services: tuple[ServiceView, ...]
    """The services, by name."""
    records: tuple[RecordView, ...]
    """The custom records, by name and type."""
    peers: tuple[PeerView, ...]
    """The external peers, by id."""


class EnvironmentPage(Struct, frozen=True):
    """Environments by id. ``unreadable`` are those that are damaged in the store; the others are unharmed."""

    environments: tuple[EnvironmentSummary, ...]
    """The environments of this page."""
    unreadable: tuple[str, ...]
    """The ids of those on this page that are damaged in the store."""
    next: str | None
    """The ``after`` of the next page. None: this is the last one."""


class ReplaceQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What may be replaced."""

    replace: Annotated[
        Literal["damaged"] | None, Meta(description="put an empty environment in the place of one that is damaged")
    ] = None


class EnvironmentBody(Struct, frozen=True, forbid_unknown_fields=True):
    """An environment as it should be. What is left out stays as it is; a new one is enabled and not isolated."""

    enabled: bool | UnsetType = UNSET
    """Whether its names are answered."""
    isolated: bool | UnsetType = UNSET
    """Whether its clients get no answers but its own names."""

    def edits(self) -> list[edits.Edit]:
        """The edits that set the fields that are given."""
        wanted: list[edits.Edit] = []
        if self.enabled is not UNSET:
            wanted.append(edits.SetEnabled(self.enabled))
        if self.isolated is not UNSET:
            wanted.append(edits.SetIsolated(self.isolated))
        return wanted


async def put_environment(request: web.Request) -> web.Response:
    """Create an environment or change it."""
    query, body = read_query(request, ReplaceQuery), await read_body(request, EnvironmentBody)
    committed = await commit_environment(request, body.edits(), replace_damaged=query.replace is not None)
    environment = committed.environment
    return show(request, summarize(environment), environment, created=committed.created)


async def get_environment(request: web.Request) -> web.Response:
    """Show an environment with all that is in it."""
    environment = await find_environment(request)
    away = await hosts_away(request, environment)

    def view() -> EnvironmentView:
        return EnvironmentView(
            **asdict(summarize(environment)),
            services=view_services(environment, away),
            records=view_records(environment),
            peers=view_peers(environment),
        )

    return await show_made(request, view, environment, away)


async def delete_environment(request: web.Request) -> web.Response:
    """Delete an environment with all that is in it, and its tokens."""
    return show_deleted(request, await commit_deletion(request))


async def list_environments(request: web.Request) -> web.Response:
    """List the environments that the token may see."""
    query, actor, store = read_query(request, PageQuery), request[ACTOR], request.app[CONTEXT].store
    if isinstance(actor, Tenant):
        ids = [EnvironmentId(actor.environment)]
    else:
        ids = [id_ for id_, entry in (await store.environments.index()).items() if entry.digest is not None]
    page, following = cut_page(ids, str, query)
    summaries: list[EnvironmentSummary] = []
    unreadable: list[str] = []
    for start in range(0, len(page), READ_AT_ONCE):
        for id_, stored in (await store.environments.stored(page[start : start + READ_AT_ONCE])).items():
            try:
                # None: the environment was deleted after the index was read, so the list leaves it out.
                if environment := stored.decode():
                    summaries.append(summarize(environment))
            except Corrupt:
                unreadable.append(id_)
    return show(request, EnvironmentPage(tuple(summaries), tuple(unreadable), following))


def summarize(environment: Environment) -> EnvironmentSummary:
    """``environment`` without what is in it."""
    return EnvironmentSummary(
        id=environment.id,
        network=environment.network,
        enabled=environment.enabled,
        isolated=environment.isolated,
        revision=environment.revision,
    )
