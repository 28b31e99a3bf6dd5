"""Handlers of external peers: machines elsewhere that are in an environment by way of one of its hosts."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from admin.context import CONTEXT
from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, PeerPage, cut_page
from admin.http.replies import show, show_nothing
from admin.resources.bodies import PeerBody
from admin.resources.environments import find_environment
from admin.resources.gateways import place_peers
from admin.resources.views import view_environment, view_peer
from admin.resources.writes import write
from admin.wgquick import Form, write_config
from zones import edits
from zones.errors import Conflict


class ConfigQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is to read the file."""

    form: Annotated[Form, Meta(description="who is to read it: wg-quick, or an app, as which it fits a QR code")] = (
        "wg-quick"
    )


async def put_peer(request: web.Request) -> web.Response:
    """Create a peer, which is given an address and, where it names none, a gateway; or change it."""
    id_ = request.match_info["peer"]
    wanted = await place_peers(request, [(await read_body(request, PeerBody)).edit(id_)])
    committed = await write(request, wanted, lambda environment: id_ in environment.peers)
    after = committed.after
    created = committed.before is None or id_ not in committed.before.peers
    return show(request, view_peer(after, id_), after.revision, created=created)


async def get_peer(request: web.Request) -> web.Response:
    """Show a peer."""
    environment = await find_environment(request)
    return show(request, view_peer(environment, request.match_info["peer"]), environment.revision)


async def delete_peer(request: web.Request) -> web.Response:
    """Delete a peer; its address is not given to another."""
    id_ = request.match_info["peer"]
    committed = await write(request, [edits.DeletePeer(id_)], lambda environment: id_ in environment.peers)
    return show_nothing(request, committed.after.revision)


async def list_peers(request: web.Request) -> web.Response:
    """List the peers of an environment."""
    query, environment = read_query(request, PageQuery), await find_environment(request)
    peers, following = cut_page(view_environment(environment).peers, lambda peer: peer.id, query)
    return show(request, PeerPage(peers, following, environment.revision), environment.revision)


async def get_peer_config(request: web.Request) -> web.Response:
    """Give the file that sets a peer up, all of it but the private key."""
    id_, query, context = request.match_info["peer"], read_query(request, ConfigQuery), request.app[CONTEXT]
    environment = await find_environment(request)
    peer = edits.get_peer(environment, id_)
    gateway = (await context.store.hosts.read()).hosts.get(peer.gateway)
    if gateway is None:
        raise Conflict(f"the gateway {peer.gateway!r} is no longer registered: give the peer another", field="gateway")
    # No entity tag: the file changes with the host, without a new revision of the environment.
    return web.Response(text=write_config(environment, id_, gateway, context.platform.apex, query.form))
