"""Hosts. Their agents register them; here they are shown, drained, and forgotten once they are gone."""

from __future__ import annotations

from typing import Annotated, TypeVar

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from admin.http.context import CONTEXT
from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.replies import show, show_nothing
from zones.errors import Conflict, Missing
from zones.hosts import Host
from zones.keys import PublicKey

T = TypeVar("T")

HostsRevision = Annotated[int, Meta(ge=0, description="that of all hosts, which grows by one with every change of one")]

# Replies about hosts have no entity tag: whether a host is alive changes without a new revision.


class HostView(Struct, frozen=True):
    """A host. ``draining`` takes nothing new; ``live`` says that its agent has renewed its lease lately."""

    id: str
    region: str | None
    endpoint: str
    public_key: PublicKey
    draining: bool
    live: bool


class HostReply(HostView, frozen=True):
    """A host, at a revision of all hosts."""

    revision: HostsRevision


class HostPage(Struct, frozen=True):
    """Hosts by id. ``unreadable`` are all those whose stored document breaks a rule; the others are unharmed."""

    hosts: tuple[HostView, ...]
    unreadable: tuple[str, ...]
    next: str | None
    revision: HostsRevision


class HostBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The part of a host that its agent does not set itself. What is left out stays as it is."""

    draining: bool | UnsetType = UNSET

    def change(self, host: Host) -> Host:
        """``host`` with the fields that are given."""
        return host if self.draining is UNSET else replace(host, draining=self.draining)


async def list_hosts(request: web.Request) -> web.Response:
    """List all hosts."""
    query, store = read_query(request, PageQuery), request.app[CONTEXT].store
    found = await store.hosts.read()
    page, following = cut_page(found.hosts.values(), lambda host: host.id, query)
    live = await store.leases.live(host.id for host in page)
    hosts = tuple(_view(host, live=host.id in live) for host in page)
    return show(request, HostPage(hosts, tuple(sorted(found.unreadable)), following, found.revision))


async def get_host(request: web.Request) -> web.Response:
    """Show a host."""
    id_, store = request.match_info["host"], request.app[CONTEXT].store
    found = await store.hosts.read()
    return await _show(request, found.revision, _require(id_, found.hosts.get(id_)))


async def put_host(request: web.Request) -> web.Response:
    """Drain a host, so that it takes nothing new, or end the drain."""
    id_, store = request.match_info["host"], request.app[CONTEXT].store
    body = await read_body(request, HostBody)
    revision, host = _require(id_, await store.hosts.change(id_, body.change))
    return await _show(request, revision, host)


async def delete_host(request: web.Request) -> web.Response:
    """Forget a host that is gone for good. Instances and peers that name it stay, and cannot be reached."""
    id_, store = request.match_info["host"], request.app[CONTEXT].store
    found = await store.hosts.read()
    if id_ not in found.unreadable:
        _require(id_, found.hosts.get(id_))
        if id_ in await store.leases.live([id_]):
            raise Conflict(
                f"the host {id_!r} is alive, and would register again at once: run 'interlock host leave' there, or"
                " stop its agent and wait for its lease to end",
                field="host",
            )
    await store.hosts.forget(id_)
    return show_nothing(request)


async def _show(request: web.Request, revision: int, host: Host) -> web.Response:
    live = await request.app[CONTEXT].store.leases.live([host.id])
    return show(request, HostReply(**asdict(_view(host, live=host.id in live)), revision=revision))


def _view(host: Host, *, live: bool) -> HostView:
    return HostView(host.id, host.region, host.endpoint, host.public_key, host.draining, live)


def _require(id_: str, found: T | None) -> T:
    if found is None:
        raise Missing(f"no host {id_!r} is registered: its agent does that when it starts", field="host")
    return found
