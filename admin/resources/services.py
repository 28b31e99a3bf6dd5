"""Services of an environment: created, changed, renamed, shown, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from ipaddress import IPv6Network
from typing import Annotated, ClassVar, Literal

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from admin.commits import commit_edits, find_environment
from admin.http.fields import LABEL, Label, Revision, at_field, time_of
from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.replies import show_made, show_nothing, show_part
from admin.resources.batch import BatchEdit
from admin.resources.instances import InstanceView, view_instances
from admin.resources.placements import hosts_away
from zones import edits
from zones.edits import DEFAULT_OVERLAP, MAX_OVERLAP
from zones.errors import Invalid, ZonesError
from zones.model import Environment, Port, Service
from zones.names import check_service_name
from zones.placement import HostsAway

PortName = Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z0-9-]{1,15}$"})]
PortNumber = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": 65535})]
Overlap = Annotated[int, Meta(ge=0, le=MAX_OVERLAP, description="seconds for which the old name goes on answering")]
FormerSpelling = Annotated[
    str, Meta(description="the former spelling of 'rename'", extra_json_schema={"pattern": LABEL, "deprecated": True})
]


class FormerName(Struct, frozen=True):
    """A name that a service had before a rename, and until when it goes on answering."""

    name: str
    """The former name."""
    until: datetime
    """When it ceases to be answered."""


class ServiceView(Struct, frozen=True):
    """A service with its instances."""

    name: str
    """The name."""
    subnet: IPv6Network
    """The subnet, in which the addresses of its instances are."""
    ports: tuple[Port, ...]
    """The named ports."""
    former_names: tuple[FormerName, ...]
    """The names from before a rename that are still answered."""
    instances: tuple[InstanceView, ...]
    """The instances, by id."""


class ServiceReply(ServiceView, frozen=True):
    """A service, at a revision of its environment."""

    revision: Revision


class ServicePage(Struct, frozen=True):
    """Services by name."""

    services: tuple[ServiceView, ...]
    """The services of this page."""
    next: str | None
    """The ``after`` of the next page. None: this is the last one."""
    revision: Revision


class PortBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A named port of a service."""

    name: PortName
    """The name, as ``http`` (RFC 6335)."""
    number: PortNumber
    """The port number."""
    protocol: Literal["tcp", "udp"] = "tcp"
    """The transport protocol."""

    def __post_init__(self) -> None:
        self.port()

    def port(self) -> Port:
        return Port(self.name, self.number, self.protocol)


class ServiceFields(Struct, frozen=True, forbid_unknown_fields=True):
    """What can be set of a service. What is left out stays as it is; ``rename`` gives the service another name."""

    ports: tuple[PortBody, ...] | UnsetType = UNSET
    """All named ports that it is to have."""
    rename: Label | UnsetType = UNSET
    """The name that it is given in place of the one that it has."""
    overlap_seconds: Overlap | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.rename is not UNSET:
            with at_field("rename"):
                check_service_name(self.rename)
        if self.overlap_seconds is not UNSET and self.new_name() is UNSET:
            message = "an overlap is between two names: give the new one with 'rename', or leave the overlap out"
            raise Invalid(message, field="overlap_seconds")

    def new_name(self) -> str | UnsetType:
        """The name that the service is given; UNSET if it keeps the one that it has."""
        return self.rename

    def edit_of(self, service: str) -> edits.PutService:
        """The edit that sets these fields of ``service``."""
        new = self.new_name()
        return edits.PutService(
            service,
            self.ports if self.ports is UNSET else tuple(port.port() for port in self.ports),
            None if new is UNSET else new,
            DEFAULT_OVERLAP if self.overlap_seconds is UNSET else self.overlap_seconds,
        )


class ServiceBody(ServiceFields, frozen=True, forbid_unknown_fields=True):
    """A service as it should be. What is left out stays as it is; ``rename`` gives the service another name."""

    name: FormerSpelling | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not UNSET:
            if self.rename is not UNSET:
                raise Invalid("'name' is the former spelling of 'rename': give only 'rename'", field="name")
            with at_field("name"):
                check_service_name(self.name)

    def new_name(self) -> str | UnsetType:
        return self.rename if self.name is UNSET else self.name

    @contextmanager
    def at_sent_fields(self) -> Iterator[None]:
        """Names the field that the client has sent, in an error about the new name that is raised inside."""
        try:
            yield
        except ZonesError as error:
            if error.field == "rename" and self.name is not UNSET:
                error.field = "name"
            raise


class PutService(ServiceFields, BatchEdit, frozen=True, kw_only=True, tag="put-service"):
    """Create the service ``name`` or change the fields that are given; ``rename`` gives it another name."""

    view_type: ClassVar = ServiceView

    name: Label
    """The name of the service."""

    def __post_init__(self) -> None:
        check_service_name(self.name)
        super().__post_init__()

    def edit(self) -> edits.PutService:
        return self.edit_of(self.name)

    def view(self, environment: Environment, away: HostsAway) -> ServiceView | None:
        new = self.new_name()
        name = self.name if new is UNSET else new
        service = environment.services.get(name)
        return _view(name, service, away) if service else None


class DeleteService(BatchEdit, frozen=True, tag="delete-service"):
    """Delete the service ``name`` with its instances."""

    name: Label
    """The name of the service."""

    def edit(self) -> edits.DeleteService:
        return edits.DeleteService(self.name)


async def put_service(request: web.Request) -> web.Response:
    """Create a service, change it, or give it another name."""
    name = request.match_info["service"]
    body = await read_body(request, ServiceBody)
    edit = body.edit_of(name)
    with body.at_sent_fields():
        committed = await commit_edits(request, [edit], lambda environment: name in environment.services)
    environment, present_name = committed.environment, edit.rename or name
    away = await hosts_away(request, environment)
    view = _view(present_name, environment.services[present_name], away)
    # A rename creates no service, not even where it is repeated and nothing has the old name any more.
    created = committed.created and present_name == name
    return show_part(request, ServiceReply, view, environment, created=created, away=away)


async def get_service(request: web.Request) -> web.Response:
    """Show a service with its instances."""
    name, environment = request.match_info["service"], await find_environment(request)
    service = edits.get_service(environment, name)
    away = await hosts_away(request, environment)

    def make() -> ServiceReply:
        return ServiceReply(**asdict(_view(name, service, away)), revision=environment.revision)

    return await show_made(request, make, environment, away)


async def delete_service(request: web.Request) -> web.Response:
    """Delete a service with its instances and all its names."""
    name = request.match_info["service"]
    edit = edits.DeleteService(name)
    committed = await commit_edits(request, [edit], lambda environment: name in environment.services)
    return show_nothing(request, committed.environment)


async def list_services(request: web.Request) -> web.Response:
    """List the services of an environment with their instances."""
    query, environment = read_query(request, PageQuery), await find_environment(request)
    away = await hosts_away(request, environment)

    def make() -> ServicePage:
        names, following = cut_page(environment.services, str, query)
        views = tuple(_view(name, environment.services[name], away) for name in names)
        return ServicePage(views, following, environment.revision)

    return await show_made(request, make, environment, away)


def view_services(environment: Environment, away: HostsAway) -> tuple[ServiceView, ...]:
    """The services of ``environment`` by name, while the hosts in ``away`` are."""
    return tuple(_view(name, service, away) for name, service in sorted(environment.services.items()))


def _view(name: str, service: Service, away: HostsAway) -> ServiceView:
    former_names = tuple(FormerName(former, time_of(until)) for former, until in sorted(service.former_names.items()))
    return ServiceView(name, service.subnet, service.ports, former_names, view_instances(service, away))
