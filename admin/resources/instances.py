"""Instances of a service: created, changed, shown, deleted."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from admin.commits import commit_edits, find_environment
from admin.http.fields import Label, Revision
from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.replies import show_made, show_nothing, show_part
from admin.resources.batch import BatchEdit
from admin.resources.placements import check_hosts, hosts_away
from zones import edits
from zones.addresses import Address
from zones.model import Environment, Instance, Service, State
from zones.names import check_host_id, check_instance_id, check_region
from zones.placement import HostsAway, placement_of

PlacementName = Annotated[
    Literal["unmanaged", "attached", "not attached", "host down"],
    Meta(
        description="'unmanaged': it has no host, and that it can be reached is its caller's word; 'attached': its host"
        " lives and has attached it; 'not attached': nothing is attached on its host under this name; 'host down':"
        " nothing was heard of its host for longer than its lease and the grace"
    ),
]


class InstanceView(Struct, frozen=True):
    """One running copy of a service."""

    id: str
    """The id, which is one in its service."""
    address: Address
    """The address that it was given, in the subnet of its service."""
    state: State
    """The state."""
    region: str | None
    """The region that it is in. None: no region."""
    host: str | None
    """The host that it is on. None: no host."""
    placement: PlacementName
    """Whether there is a path to it; it is answered only if it is ``unmanaged`` or ``attached``."""


class InstanceReply(InstanceView, frozen=True):
    """An instance, at a revision of its environment."""

    revision: Revision


class InstancePage(Struct, frozen=True):
    """Instances by id."""

    instances: tuple[InstanceView, ...]
    """The instances of this page."""
    next: str | None
    """The ``after`` of the next page. None: this is the last one."""
    revision: Revision


class InstanceBody(Struct, frozen=True, forbid_unknown_fields=True):
    """An instance as it should be. What is left out stays as it is; a new one is ready."""

    state: State | UnsetType = UNSET
    """The state; a new instance is ``ready``."""
    host: Label | UnsetType | None = UNSET
    """The host that it is on. None: no host."""
    region: Label | UnsetType | None = UNSET
    """The region that it is in. None: no region."""

    def __post_init__(self) -> None:
        if isinstance(self.host, str):
            check_host_id(self.host)
        if isinstance(self.region, str):
            check_region(self.region)

    def edit_of(self, service: str, id_: str) -> edits.PutInstance:
        """The edit that sets these fields of the instance ``id_`` of ``service``."""
        return edits.PutInstance(service, id_, self.state, self.host, self.region)


class PutInstance(InstanceBody, BatchEdit, frozen=True, kw_only=True, tag="put-instance"):
    """Create the instance ``id`` of ``service`` or change the fields that are given."""

    view_type: ClassVar = InstanceView

    service: Label
    """The service that it belongs to."""
    id: Label
    """The id of the instance."""

    def __post_init__(self) -> None:
        check_instance_id(self.id)
        super().__post_init__()

    def edit(self) -> edits.PutInstance:
        return self.edit_of(self.service, self.id)

    def view(self, environment: Environment, away: HostsAway) -> InstanceView | None:
        service = environment.services.get(self.service)
        instance = service.instances.get(self.id) if service else None
        return _view(self.id, instance, away) if instance else None


class DeleteInstance(BatchEdit, frozen=True, tag="delete-instance"):
    """Delete the instance ``id`` of ``service``."""

    service: Label
    """The service that it belongs to."""
    id: Label
    """The id of the instance."""

    def edit(self) -> edits.DeleteInstance:
        return edits.DeleteInstance(self.service, self.id)


async def put_instance(request: web.Request) -> web.Response:
    """Create an instance, which is given an address, or change it."""
    service, id_ = request.match_info["service"], request.match_info["instance"]
    edit = (await read_body(request, InstanceBody)).edit_of(service, id_)
    await check_hosts(request, [edit])
    committed = await commit_edits(request, [edit], lambda environment: _exists(environment, service, id_))
    environment = committed.environment
    away = await hosts_away(request, environment)
    view = _view(id_, environment.services[service].instances[id_], away)
    return show_part(request, InstanceReply, view, environment, created=committed.created, away=away)


async def get_instance(request: web.Request) -> web.Response:
    """Show an instance."""
    service, id_ = request.match_info["service"], request.match_info["instance"]
    environment = await find_environment(request)
    away = await hosts_away(request, environment)
    view = _view(id_, edits.get_instance(environment, service, id_), away)
    return show_part(request, InstanceReply, view, environment, away=away)


async def delete_instance(request: web.Request) -> web.Response:
    """Delete an instance; its address is not given to another."""
    service, id_ = request.match_info["service"], request.match_info["instance"]
    edit = edits.DeleteInstance(service, id_)
    committed = await commit_edits(request, [edit], lambda environment: _exists(environment, service, id_))
    return show_nothing(request, committed.environment)


async def list_instances(request: web.Request) -> web.Response:
    """List the instances of a service."""
    query, environment = read_query(request, PageQuery), await find_environment(request)
    service = edits.get_service(environment, request.match_info["service"])
    away = await hosts_away(request, environment)

    def make() -> InstancePage:
        ids, following = cut_page(service.instances, str, query)
        views = tuple(_view(id_, service.instances[id_], away) for id_ in ids)
        return InstancePage(views, following, environment.revision)

    return await show_made(request, make, environment, away)


def view_instances(service: Service, away: HostsAway) -> tuple[InstanceView, ...]:
    """The instances of ``service`` by id, while the hosts in ``away`` are."""
    return tuple(_view(id_, instance, away) for id_, instance in sorted(service.instances.items()))


def _view(id_: str, instance: Instance, away: HostsAway) -> InstanceView:
    placement: Any = placement_of(instance, away).value  # never 'unreachable', which one host alone knows
    return InstanceView(id_, instance.address, instance.state, instance.region, instance.host, placement)


def _exists(environment: Environment, service: str, id_: str) -> bool:
    return service in environment.services and id_ in environment.services[service].instances
