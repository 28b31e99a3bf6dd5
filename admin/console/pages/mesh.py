"""The mesh: hosts and their links, drawn; what is wrong with one of them when it is chosen."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from admin.auth.access import Access
from admin.console.context import CONSOLE
from admin.console.drawing import RING, circle, describe, in_octets, matrix
from admin.console.rendering import show_page, show_part, show_problem
from admin.errors import Malformed
from admin.http.context import CONTEXT
from admin.http.inputs import read_query
from admin.http.route import Route
from admin.resources.mesh import MeshLink, MeshReply, read_mesh
from zones.names import check_host_id

PAGE = "/console/mesh"
TOPIC = "mesh"
EVERY = 2.0  # seconds between two looks
IDLE = 30.0  # seconds between two looks whether anybody looks
LISTED = 100  # links that are not well, in words


class MeshQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What to draw."""

    focus: Annotated[str, Meta(max_length=63)] = ""
    """The host in the middle; empty: all hosts."""


class WhyQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What to ask the doctor about."""

    host: Annotated[str, Meta(max_length=63)] = ""
    """The host that is asked."""
    target: Annotated[str, Meta(max_length=63)] = ""
    """The host that it is to reach; empty: the host itself."""


async def get_mesh(request: web.Request) -> web.Response:
    """Show the page."""
    return show_page(request, "mesh.html", **await _drawn(request))


async def get_drawing(request: web.Request) -> web.Response:
    """Show the drawing anew."""
    return show_part(request, "mesh_drawing.html", **await _drawn(request))


async def get_why(request: web.Request) -> web.Response:
    """Show what the doctor says of a host, or of its link with another."""
    query = read_query(request, WhyQuery)
    if not query.host:
        raise Malformed("choose the host that is asked", field="host")
    host, target = query.host, query.target
    check_host_id(host)
    mesh = await read_mesh(request.app[CONTEXT])
    link = next((one for one in mesh.links if (one.source, one.target) == (host, target)), None)
    report = await request.app[CONTEXT].diagnose(None, None, None, host, is_whole=True)
    marks = [mark for mark in report["marks"] if _is_about(mark, host, target)]
    return show_part(
        request, "mesh_why.html", host=host, target=target, link=describe(link) if link else "", marks=marks
    )


def _is_about(mark: dict[str, Any], host: str, target: str) -> bool:
    """Whether ``mark`` says something of the link, or of the host."""
    said = f" {mark['detail']} ".replace(",", " ").replace(":", " ").replace(";", " ")
    return f" {target or host} " in said or (mark["standing"] != "ok" and not target)


async def _drawn(request: web.Request) -> dict[str, Any]:
    query, mesh = read_query(request, MeshQuery), await read_mesh(request.app[CONTEXT])
    focus = query.focus if any(host.id == query.focus for host in mesh.hosts) else ""
    is_circle = bool(focus) or len(mesh.hosts) <= RING
    bad = [one for one in mesh.links if one.state not in ("ok", "idle")]
    # A control plane that serves no hosts knows none, though others on its store may serve some.
    elsewhere = 0 if mesh.hosts else len((await request.app[CONTEXT].store.hosts.read()).hosts)
    return {
        "mesh": mesh,
        "elsewhere": elsewhere,
        "focus": focus,
        "version": version_of(mesh),
        "circle": circle(mesh, focus) if is_circle else None,
        "matrix": None if is_circle else matrix(mesh),
        "bad": [(one, describe(one)) for one in bad[:LISTED]],
        "more": max(0, len(bad) - LISTED),
        "troubled": [host for host in mesh.hosts if host.state != "live"],
        "links": [(one, describe(one)) for one in _of(mesh, focus)],
        "received": in_octets(sum(one.received for one in mesh.links)),
    }


def _of(mesh: MeshReply, focus: str) -> Sequence[MeshLink]:
    return [one for one in mesh.links if one.source == focus] if focus else []


def version_of(mesh: MeshReply) -> str:
    """Another text where a host or a link has another state; ages and octets do not count."""
    states = [(one.id, one.state, one.behind) for one in mesh.hosts]
    links = [(one.source, one.target, one.state) for one in mesh.links]
    return hashlib.sha256(msgspec.json.encode((states, links))).hexdigest()[:16]


async def run_feed(app: web.Application) -> None:
    """Tells those who look that the mesh has changed. It asks the hosts only while somebody does."""
    hub, shown = app[CONSOLE].hub, ""
    while True:
        if TOPIC not in hub.topics:
            shown = ""
            await hub.wait_for_change(IDLE)
            continue
        version = version_of(await read_mesh(app[CONTEXT]))
        if version != shown:
            shown = version
            hub.publish(TOPIC, version)
        await asyncio.sleep(EVERY)


ROUTES = (
    Route("GET", PAGE, get_mesh, "Show the mesh", Access.ROOT, {200: str}, query=MeshQuery, show_problem=show_problem),
    Route(
        "GET", PAGE + "/drawing", get_drawing, "Draw the mesh", Access.ROOT, {200: str}, query=MeshQuery,
        show_problem=show_problem,
    ),
    Route(
        "GET", PAGE + "/why", get_why, "Say what is wrong with a link", Access.ROOT, {200: str}, query=WhyQuery,
        show_problem=show_problem,
    ),
)  # fmt: skip
