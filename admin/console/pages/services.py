"""Services: created, given ports and another name, deleted. What a change would do is shown before it is made."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from admin.auth.access import Access
from admin.commits import commit_edits, find_environment
from admin.console.difference import check_unchanged, difference, port_lines, tag_of
from admin.console.forms import read_form
from admin.console.pages.environment import PAGE, reply_committed
from admin.console.pages.records import show_difference
from admin.console.rendering import show_part, show_problem
from admin.http.fields import ConfirmQuery, at_field
from admin.http.inputs import read_query
from admin.http.route import Route
from zones.edits import DeleteService, PutService, get_service
from zones.errors import Conflict, Invalid
from zones.model import Environment, Port
from zones.names import check_service_name

_PORT = re.compile(r"(?P<name>[a-z0-9-]+):(?P<number>[0-9]{1,5})(?:/(?P<protocol>tcp|udp))?")


class ServiceForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the form of a new service sends."""

    name: str
    """Its name."""
    ports: str = ""
    """Its ports, as ``http:8080/tcp``, with spaces between them."""


class EditorQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done with a service."""

    action: Literal["ports", "rename", "delete"]
    """What is to be done."""


class PortsForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the editor of ports sends."""

    ports: str
    """All ports that it is to have."""
    was: str = ""
    """The tag of the ports when the difference was shown."""
    step: Literal["review", "commit"] = "review"
    """Whether the difference is to be shown, or made."""


class RenameForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the form of a rename sends."""

    rename: str
    """The new name."""
    overlap: int
    """For how many seconds the old name goes on answering."""


class DeletionForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the deletion of a service sends."""

    was: str
    """The tag of what went with it when that was shown."""


async def post_service(request: web.Request) -> web.Response:
    """Create a service."""
    form = await read_form(request, ServiceForm)
    name = form.name.strip().lower()
    with at_field("name"):
        check_service_name(name)

    def expect(environment: Environment) -> None:
        if name in environment.services:
            raise Conflict(f"there is a service {name!r} already: give the new one another name")

    edit = PutService(name, read_ports(form.ports))
    await commit_edits(request, [edit], expect=expect)
    return reply_committed()


async def get_service_editor(request: web.Request) -> web.Response:
    """Show the form that changes a service."""
    query, environment = read_query(request, EditorQuery), await find_environment(request)
    name = request.match_info["service"]
    service = get_service(environment, name)
    lost = _deletion_lines(environment, name)
    return show_part(
        request,
        "service_editor.html",
        environment=environment,
        name=name,
        service=service,
        action=query.action,
        ports=" ".join(port_lines(service)),
        lines=difference(lost, []),
        was=tag_of(lost),
    )


async def post_ports(request: web.Request) -> web.Response:
    """Show what the ports would become, or make them that."""
    form, name = await read_form(request, PortsForm), request.match_info["service"]
    ports = read_ports(form.ports)
    if form.step == "review":
        service = get_service(await find_environment(request), name)
        return show_difference(request, port_lines(service), port_lines(msgspec.structs.replace(service, ports=ports)))

    def expect(environment: Environment) -> None:
        check_unchanged(f"the ports of {name}", form.was, port_lines(get_service(environment, name)))

    await commit_edits(request, [PutService(name, ports)], expect=expect)
    return reply_committed()


async def post_rename(request: web.Request) -> web.Response:
    """Give a service another name."""
    form, name = await read_form(request, RenameForm), request.match_info["service"]
    new = form.rename.strip().lower()
    with at_field("rename"):
        check_service_name(new)
    await commit_edits(request, [PutService(name, rename=new, overlap=form.overlap)])
    return reply_committed()


async def post_service_deletion(request: web.Request) -> web.Response:
    """Delete a service with its instances."""
    form, name = await read_form(request, DeletionForm), request.match_info["service"]

    def expect(environment: Environment) -> None:
        check_unchanged(f"what is in {name}", form.was, _deletion_lines(environment, name))

    await commit_edits(request, [DeleteService(name)], expect=expect)
    return reply_committed()


def read_ports(text: str) -> tuple[Port, ...]:
    """The ports in ``text``, as ``http:8080/tcp dns:53/udp``. Raises `Invalid`."""
    ports = []
    for word in re.split(r"[\s,]+", text.strip()):
        if not word:
            continue
        found = _PORT.fullmatch(word)
        if not found:
            raise Invalid(f"{word!r} is no port: write it as http:8080/tcp, with spaces between several", field="ports")
        values: Any = found["protocol"] or "tcp"
        ports.append(Port(found["name"], int(found["number"]), values))
    return tuple(ports)


def _deletion_lines(environment: Environment, name: str) -> list[str]:
    """What goes with a service: its names."""
    service = get_service(environment, name)
    return [name, *(f"{id_}.{name}" for id_ in sorted(service.instances)), *sorted(service.former_names)]


ROUTES = (
    Route(
        "POST", PAGE + "/services", post_service, "Create a service", Access.INSIDE, {200: str}, body=ServiceForm,
        show_problem=show_problem,
    ),
    Route(
        "GET", PAGE + "/services/{service}/editor", get_service_editor, "Show the editor of a service", Access.INSIDE,
        {200: str}, query=EditorQuery, show_problem=show_problem,
    ),
    Route(
        "POST", PAGE + "/services/{service}/ports", post_ports, "Review or set ports", Access.INSIDE, {200: str},
        body=PortsForm, show_problem=show_problem,
    ),
    Route(
        "POST", PAGE + "/services/{service}/rename", post_rename, "Rename a service", Access.INSIDE, {200: str},
        body=RenameForm, show_problem=show_problem,
    ),
    Route(
        "POST", PAGE + "/services/{service}/delete", post_service_deletion, "Delete a service", Access.INSIDE,
        {200: str}, body=DeletionForm, query=ConfirmQuery, show_problem=show_problem,
    ),
)  # fmt: skip
