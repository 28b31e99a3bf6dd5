"""Handlers of hosts. They register themselves; here they are shown, drained, and forgotten once they are gone."""

from __future__ import annotations

from typing import TypeVar

from aiohttp import web
from msgspec import UNSET
from msgspec.structs import replace

from admin.context import CONTEXT
from admin.http.inputs import read_body, read_query
from admin.http.pages import HostPage, PageQuery, cut_page
from admin.http.replies import show, show_nothing
from admin.resources.bodies import HostBody
from admin.resources.views import view_host, view_host_at
from zones.errors import Conflict, Missing
from zones.hosts import Host

T = TypeVar("T")

# No entity tags: whether a host is alive changes without a revision.


async def list_hosts(request: web.Request) -> web.Response:
    """List all hosts."""
    query, store = read_query(request, PageQuery), request.app[CONTEXT].store
    found = await store.hosts.read()
    page, following = cut_page(found.hosts.values(), lambda host: host.id, query)
    live = await store.hosts.live(host.id for host in page)
    hosts = tuple(view_host(host, live=host.id in live) for host in page)
    return show(request, HostPage(hosts, tuple(sorted(found.unreadable)), following, found.revision))


async def get_host(request: web.Request) -> web.Response:
    """Show a host."""
    id_, store = request.match_info["host"], request.app[CONTEXT].store
    found = await store.hosts.read()
    host = must_be_registered(id_, found.hosts.get(id_))
    return show(request, view_host_at(host, found.revision, live=id_ in await store.hosts.live([id_])))


async def put_host(request: web.Request) -> web.Response:
    """Drain a host, which takes nothing new then, or end that."""
    id_, store = request.match_info["host"], request.app[CONTEXT].store
    body = await read_body(request, HostBody)

    def change(host: Host) -> Host:
        return host if body.draining is UNSET else replace(host, draining=body.draining)

    revision, host = must_be_registered(id_, await store.hosts.change(id_, change))
    return show(request, view_host_at(host, revision, live=id_ in await store.hosts.live([id_])))


async def delete_host(request: web.Request) -> web.Response:
    """Forget a host that is gone for good. What names it stays as it is, without a way to it."""
    id_, store = request.match_info["host"], request.app[CONTEXT].store
    found = await store.hosts.read()
    if id_ not in found.unreadable:
        must_be_registered(id_, found.hosts.get(id_))
        if id_ in await store.hosts.live([id_]):
            raise Conflict(
                f"the host {id_!r} is alive, and would register again at once: run 'interlock host leave' there, or"
                " stop its agent and wait for its lease to end",
                field="host",
            )
    await store.hosts.forget(id_)
    return show_nothing(request)


def must_be_registered(id_: str, found: T | None) -> T:
    """``found``, what there is under ``id_``. Raises `Missing` where there is nothing."""
    if found is None:
        raise Missing(f"no host {id_!r} is registered: its agent does that, at its start", field="host")
    return found
