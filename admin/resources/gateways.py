"""Which host is an external peer's way in: chosen where nobody names one, and checked where somebody does."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence

from aiohttp import web
from msgspec import UNSET
from msgspec.structs import replace

from admin.context import CONTEXT
from admin.resources.environments import find_environment
from zones.edits import Edit, PutPeer
from zones.errors import Conflict, ZonesError
from zones.hosts import Host, hosts_of
from zones.model import Environment


async def place_peers(request: web.Request, wanted: Sequence[Edit]) -> list[Edit]:
    """The edits ``wanted`` by ``request``; each new peer among them that names no gateway is given one.

    Raises `Conflict` where the hosts that there are do not allow for one of the peers.
    """
    placed = list(wanted)
    puts = [(position, edit) for position, edit in enumerate(wanted) if isinstance(edit, PutPeer)]
    if not puts:
        return placed
    store, environment = request.app[CONTEXT].store, await find_environment(request)
    hosts = (await store.hosts.read()).hosts
    live = await store.hosts.live(hosts)
    for position, edit in puts:
        try:
            check(edit, environment, hosts)
            if edit.gateway is UNSET and edit.id not in environment.peers:
                placed[position] = replace(edit, gateway=choose(edit.id, environment, hosts, live))
        except ZonesError as error:
            error.edit = position
            raise
    return placed


def choose(id_: str, environment: Environment, hosts: Mapping[str, Host], live: Collection[str]) -> str:
    """The way into ``environment`` for the new peer ``id_``: one of ``hosts`` that is ``live`` and stays.

    At best it is one that has a member of the environment already, for it has to be told of it from then on. Peers are
    spread over those that are as good, and the same peer is given the same. Raises `Conflict` where there is none.
    """
    fit = [host.id for host in hosts.values() if host.id in live and not host.draining]
    if not fit:
        raise Conflict(
            "no host can be the gateway, for none is both alive and not draining: start 'interlock agent' on one, or"
            " end a drain with 'interlock host undrain'",
            field="gateway",
        )
    members = hosts_of(environment)
    return min(fit, key=lambda host: (host not in members, zlib.crc32(f"{environment.id}/{id_}/{host}".encode())))


def check(wanted: PutPeer, environment: Environment, hosts: Mapping[str, Host]) -> None:
    """Raises `Conflict` unless ``hosts`` allow for what is new in ``wanted``; what has been so already may stay."""
    before = environment.peers.get(wanted.id)
    if wanted.gateway is not UNSET and (before is None or before.gateway != wanted.gateway):
        gateway = hosts.get(wanted.gateway)
        if gateway is None:
            raise Conflict(f"no host {wanted.gateway!r} is registered: name one that is", field="gateway")
        if gateway.draining:
            raise Conflict(f"the host {wanted.gateway!r} is draining: name another", field="gateway")
    if wanted.public_key is not UNSET and (before is None or before.public_key != wanted.public_key):
        for host in hosts.values():
            if wanted.public_key in (host.public_key, host.next_public_key):
                raise Conflict(
                    f"the public key is that of the host {host.id!r}: make a key pair for the peer alone",
                    field="public_key",
                )
