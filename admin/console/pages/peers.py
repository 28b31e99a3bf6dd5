"""External peers: the browser makes the key pair, and the private key never leaves it."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from msgspec import UNSET, Struct

from admin.auth.access import Access
from admin.commits import commit_edits, find_environment
from admin.console.difference import check_unchanged, difference, tag_of
from admin.console.forms import read_form
from admin.console.pages.environment import PAGE, reply_committed
from admin.console.rendering import show_part, show_problem
from admin.errors import PreconditionFailed
from admin.http.context import CONTEXT
from admin.http.inputs import read_query
from admin.http.route import Route
from admin.resources.gateways import assign_gateways, find_gateway
from admin.wgquick import PLACEHOLDER, write_config
from zones.edits import DeletePeer, PutPeer, get_peer
from zones.keys import PublicKey, check_public_key
from zones.model import Environment
from zones.names import check_peer_id


class PeerForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the form of a new peer sends, or of a new key for one."""

    peer: str
    """Its id."""
    public_key: str
    """Its public key, of which the browser has the private one."""
    gateway: str = ""
    """The host that its tunnel ends at; empty: one is chosen."""
    replace: str = ""
    """Its public key until now, where it is given a new one; empty where it is new."""


class PeerDeletionForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the deletion of a peer sends."""

    peer: str
    """Its id."""
    was: str
    """The tag of what was deleted with it when that was shown."""


class PanelQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be done with a peer."""

    action: Literal["show", "delete"] = "show"
    """What is to be done."""


async def post_peer(request: web.Request) -> web.Response:
    """Create a peer, or give it another key; and show the configuration, for the browser to put the private key in."""
    form = await read_form(request, PeerForm)
    id_ = form.peer.strip().lower()
    check_peer_id(id_)
    check_public_key(form.public_key)

    def expect(environment: Environment) -> None:
        present = environment.peers.get(id_)
        if (present.public_key if present else "") != form.replace:
            raise PreconditionFailed(f"there is a peer {id_!r} already, or its key was changed: reload the page")

    edit = PutPeer(id_, PublicKey(form.public_key), form.gateway or UNSET)
    wanted = await assign_gateways(request, [edit])
    committed = await commit_edits(request, wanted, expect=expect)
    return await _show_config(request, committed.environment, id_)


async def post_peer_deletion(request: web.Request) -> web.Response:
    """Delete a peer, which cuts it off."""
    form = await read_form(request, PeerDeletionForm)

    def expect(environment: Environment) -> None:
        check_unchanged(f"the peer {form.peer}", form.was, _deletion_lines(environment, form.peer))

    await commit_edits(request, [DeletePeer(form.peer)], expect=expect)
    return reply_committed()


async def get_peer_panel(request: web.Request) -> web.Response:
    """Show what can be done with a peer, and its configuration without the private key."""
    query, environment = read_query(request, PanelQuery), await find_environment(request)
    id_ = request.match_info["peer"]
    if query.action == "show":
        return await _show_config(request, environment, id_)
    lost = _deletion_lines(environment, id_)
    lines, was = difference(lost, []), tag_of(lost)
    return show_part(request, "peer_deletion.html", environment=environment, id=id_, lines=lines, was=was)


def _deletion_lines(environment: Environment, id_: str) -> list[str]:
    """What goes with a peer: its address and its key, with which its machine has its tunnel."""
    peer = get_peer(environment, id_)
    return [f"{id_} {peer.address}", f"its key {peer.public_key}, by way of {peer.gateway}"]


async def _show_config(request: web.Request, environment: Environment, id_: str) -> web.Response:
    peer, apex = get_peer(environment, id_), request.app[CONTEXT].platform.apex
    gateway = await find_gateway(request, peer)
    return show_part(
        request,
        "peer_panel.html",
        environment=environment,
        id=id_,
        peer=peer,
        config=write_config(environment, id_, gateway, apex),
        app=write_config(environment, id_, gateway, apex, "app"),
        placeholder=PLACEHOLDER,
    )


ROUTES = (
    Route(
        "POST", PAGE + "/peers", post_peer, "Create a peer, or give it another key", Access.INSIDE, {200: str},
        body=PeerForm, show_problem=show_problem,
    ),
    Route(
        "POST", PAGE + "/peers/delete", post_peer_deletion, "Delete a peer", Access.INSIDE, {200: str},
        body=PeerDeletionForm, show_problem=show_problem,
    ),
    Route(
        "GET", PAGE + "/peers/{peer}", get_peer_panel, "Show the configuration of a peer", Access.INSIDE, {200: str},
        query=PanelQuery, show_problem=show_problem,
    ),
)  # fmt: skip
