"""The gateway of an external peer, the host through which it reaches its environment: chosen, or checked if named."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence

from aiohttp import web
from msgspec import UNSET
from msgspec.structs import replace

from admin.allowed_hosts import read_allowed_hosts
from admin.commits import find_environment
from admin.hosts.rights import may_place
from admin.http.context import CONTEXT
from zones.edits import Edit, PutPeer
from zones.errors import Conflict, ZonesError
from zones.hosts import Host, hosts_of
from zones.model import Environment, Peer


async def assign_gateways(request: web.Request, wanted: Sequence[Edit]) -> list[Edit]:
    """The edits ``wanted`` by ``request``, in which each new peer that names no gateway has been given one.

    Raises `Conflict` if a peer cannot be set up with the hosts that are registered, and `admin.errors.Forbidden` if
    the request names one that its token may not choose.
    """
    assigned = list(wanted)
    peer_edits = [(position, edit) for position, edit in enumerate(wanted) if isinstance(edit, PutPeer)]
    if not peer_edits:
        return assigned
    store, environment = request.app[CONTEXT].store, await find_environment(request)
    (await read_allowed_hosts(request, wanted)).check(environment, wanted)
    hosts = (await store.hosts.read()).hosts
    credentials = await store.credentials.find(hosts)
    # A host reads the environments that have a member on it: it is not chosen for one that it was not enrolled for.
    live = await store.leases.live(host for host, one in credentials.items() if may_place(one, environment.id))
    for position, edit in peer_edits:
        try:
            check_peer(edit, environment, hosts)
            if edit.gateway is UNSET and edit.id not in environment.peers:
                assigned[position] = replace(edit, gateway=choose_gateway(edit.id, environment, hosts, live))
        except ZonesError as error:
            error.edit = position
            raise
    return assigned


async def find_gateway(request: web.Request, peer: Peer) -> Host:
    """The gateway of ``peer``. Raises `Conflict` if it is no longer registered."""
    gateway = (await request.app[CONTEXT].store.hosts.read()).hosts.get(peer.gateway)
    if gateway is None:
        raise Conflict(
            f"the gateway {peer.gateway!r} is no longer registered: give the peer another with 'interlock peer put'",
            field="gateway",
        )
    return gateway


def choose_gateway(id_: str, environment: Environment, hosts: Mapping[str, Host], live: Collection[str]) -> str:
    """The gateway to ``environment`` for the new peer ``id_``: one of ``hosts`` that is ``live`` and not draining.

    One behind NAT is none, for the peer could not reach it. A host that has a member of the environment is preferred,
    because any other host has to be sent the environment from then on. Among equally good hosts a hash decides: it
    spreads the peers, and gives the same peer the same host.

    Raises `Conflict` if no host is fit.
    """
    fit = [host.id for host in hosts.values() if host.id in live and not (host.draining or host.behind_nat)]
    if not fit:
        raise Conflict(
            "no host can be the gateway, for none is alive, not draining and not behind NAT, and enrolled for this"
            " environment: start 'interlock agent' on one, or end a drain with 'interlock host undrain'",
            field="gateway",
        )
    members = hosts_of(environment)
    return min(fit, key=lambda host: (host not in members, zlib.crc32(f"{environment.id}/{id_}/{host}".encode())))


def check_peer(wanted: PutPeer, environment: Environment, hosts: Mapping[str, Host]) -> None:
    """Raises `Conflict` if ``hosts`` do not allow what ``wanted`` changes; what the peer already has may stay."""
    before = environment.peers.get(wanted.id)
    if wanted.gateway is not UNSET and (before is None or before.gateway != wanted.gateway):
        gateway = hosts.get(wanted.gateway)
        if gateway is None:
            raise Conflict(f"no host {wanted.gateway!r} is registered: name one that is", field="gateway")
        if gateway.draining:
            raise Conflict(f"the host {wanted.gateway!r} is draining: name another", field="gateway")
        if gateway.behind_nat:
            raise Conflict(
                f"the host {wanted.gateway!r} is behind NAT, where the peer cannot reach it: name another",
                field="gateway",
            )
    if wanted.public_key is not UNSET and (before is None or before.public_key != wanted.public_key):
        for host in hosts.values():
            if wanted.public_key in (host.public_key, host.next_public_key):
                raise Conflict(
                    f"the public key is that of the host {host.id!r}: make a key pair for the peer alone",
                    field="public_key",
                )
