"""External peers: machines outside of the platform that reach an environment through one of its hosts, the gateway."""

from __future__ import annotations

from typing import Annotated, ClassVar

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from admin.commits import commit_edits, find_environment
from admin.http.context import CONTEXT
from admin.http.fields import Label, Revision
from admin.http.inputs import read_body, read_query
from admin.http.pages import PageQuery, cut_page
from admin.http.replies import show_made, show_nothing, show_part
from admin.resources.batch import BatchEdit
from admin.resources.gateways import assign_gateways, find_gateway
from admin.wgquick import Form, write_config
from zones import edits
from zones.addresses import Address
from zones.keys import PublicKey, check_public_key
from zones.model import Environment, Peer
from zones.names import check_host_id, check_peer_id
from zones.placement import HostsAway

PublicKeyText = Annotated[
    str,
    Meta(
        extra_json_schema={"pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"},
        description="of WireGuard: 32 octets in base64",
    ),
]


class PeerView(Struct, frozen=True):
    """An external machine, and the host that is its gateway."""

    id: str
    """The id."""
    public_key: PublicKey
    """The public key of its WireGuard device, in base64."""
    address: Address
    """The address that it was given."""
    gateway: str
    """The host that its tunnel ends at."""


class PeerReply(PeerView, frozen=True):
    """An external machine, at a revision of its environment."""

    revision: Revision


class PeerPage(Struct, frozen=True):
    """External peers by id."""

    peers: tuple[PeerView, ...]
    """The external peers of this page."""
    next: str | None
    """The ``after`` of the next page. None: this is the last one."""
    revision: Revision


class PeerBody(Struct, frozen=True, forbid_unknown_fields=True):
    """An external peer as it should be. What is left out stays as it is; for a new one a gateway is chosen."""

    public_key: PublicKeyText | UnsetType = UNSET
    gateway: Label | UnsetType = UNSET
    """The host that its tunnel ends at."""

    def __post_init__(self) -> None:
        if self.public_key is not UNSET:
            check_public_key(self.public_key)
        if self.gateway is not UNSET:
            check_host_id(self.gateway, field="gateway")

    def edit_of(self, id_: str) -> edits.PutPeer:
        """The edit that sets these fields of the peer ``id_``."""
        key = self.public_key
        return edits.PutPeer(id_, key if key is UNSET else PublicKey(key), self.gateway)


class PutPeer(PeerBody, BatchEdit, frozen=True, kw_only=True, tag="put-peer"):
    """Create the external peer ``id`` or change the fields that are given; for a new one a gateway is chosen."""

    view_type: ClassVar = PeerView

    id: Label
    """The id of the external peer."""

    def __post_init__(self) -> None:
        check_peer_id(self.id)
        super().__post_init__()

    def edit(self) -> edits.PutPeer:
        return self.edit_of(self.id)

    def view(self, environment: Environment, _away: HostsAway) -> PeerView | None:
        peer = environment.peers.get(self.id)
        return _view(self.id, peer) if peer else None


class DeletePeer(BatchEdit, frozen=True, tag="delete-peer"):
    """Delete the external peer ``id``."""

    id: Label
    """The id of the external peer."""

    def edit(self) -> edits.DeletePeer:
        return edits.DeletePeer(self.id)


class ConfigQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """For which program the configuration is written."""

    form: Annotated[Form, Meta(description="the program that reads it: wg-quick, or an app, for a QR code")] = (
        "wg-quick"
    )


async def put_peer(request: web.Request) -> web.Response:
    """Create a peer, which is given an address and, if it names none, a gateway; or change it."""
    id_ = request.match_info["peer"]
    edit = (await read_body(request, PeerBody)).edit_of(id_)
    wanted = await assign_gateways(request, [edit])
    committed = await commit_edits(request, wanted, lambda environment: id_ in environment.peers)
    environment = committed.environment
    view = _view(id_, environment.peers[id_])
    return show_part(request, PeerReply, view, environment, created=committed.created)


async def get_peer(request: web.Request) -> web.Response:
    """Show a peer."""
    id_, environment = request.match_info["peer"], await find_environment(request)
    view = _view(id_, edits.get_peer(environment, id_))
    return show_part(request, PeerReply, view, environment)


async def delete_peer(request: web.Request) -> web.Response:
    """Delete a peer; its address is not given to another."""
    id_ = request.match_info["peer"]
    edit = edits.DeletePeer(id_)
    committed = await commit_edits(request, [edit], lambda environment: id_ in environment.peers)
    return show_nothing(request, committed.environment)


async def list_peers(request: web.Request) -> web.Response:
    """List the peers of an environment."""
    query, environment = read_query(request, PageQuery), await find_environment(request)

    def make() -> PeerPage:
        page, following = cut_page(view_peers(environment), lambda peer: peer.id, query)
        return PeerPage(page, following, environment.revision)

    return await show_made(request, make, environment)


async def get_peer_config(request: web.Request) -> web.Response:
    """Give the WireGuard configuration of a peer, all of it but the private key."""
    id_, query = request.match_info["peer"], read_query(request, ConfigQuery)
    environment = await find_environment(request)
    gateway = await find_gateway(request, edits.get_peer(environment, id_))
    apex = request.app[CONTEXT].platform.apex
    # No entity tag: the configuration changes with the host, without a new revision of the environment.
    return web.Response(text=write_config(environment, id_, gateway, apex, query.form))


def view_peers(environment: Environment) -> tuple[PeerView, ...]:
    """The external peers of ``environment`` by id."""
    return tuple(_view(id_, peer) for id_, peer in sorted(environment.peers.items()))


def _view(id_: str, peer: Peer) -> PeerView:
    return PeerView(id_, peer.public_key, peer.address, peer.gateway)
