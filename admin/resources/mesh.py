"""The mesh: the hosts, and how each is linked with those that it shares an environment with."""

from __future__ import annotations

from typing import Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from admin.http.context import CONTEXT, Context
from admin.http.replies import show

HostState = Literal["live", "behind", "draining", "down", "unheard"]
LinkState = Literal["ok", "idle", "silent", "missing", "down", "unknown"]


class MeshHost(Struct, frozen=True):
    """A host."""

    id: str
    """Its id."""
    region: str | None
    """Its region."""
    endpoint: str
    """Where it is registered, as ADDRESS:PORT."""
    state: HostState
    """``behind``: it lives, and does not have the newest revision of an environment; ``unheard``: this control plane
    cannot ask its agent; ``down``: nothing on it is answered."""
    behind: int
    """Of how many environments it does not have the newest revision."""
    problem: str
    """Why its agent has said nothing; empty if it has."""


class MeshLink(Struct, frozen=True):
    """How one host sees another."""

    source: str
    """The host that sees."""
    target: str
    """The host that is seen."""
    state: LinkState
    """``ok``; ``idle``: no handshake yet, for nothing was sent; ``silent``: it owes a packet; ``missing``: it is no
    peer; ``down``: one of the two is down; ``unknown``: nobody says."""
    handshake_seconds: float | None
    """Seconds since the newest handshake. None: there was none, or nobody says."""
    silent_seconds: float | None
    """For how many seconds the target has owed a packet. None: it owes none."""
    received: int
    """Octets that came from the target."""
    sent: int
    """Octets that were sent to it."""


class MeshReply(Struct, frozen=True):
    """All hosts and links."""

    hosts: tuple[MeshHost, ...]
    """The hosts, by their ids."""
    links: tuple[MeshLink, ...]
    """The links of each host with those that it shares an environment with."""


async def get_mesh(request: web.Request) -> web.Response:
    """Show the hosts and their links."""
    return show(request, await read_mesh(request.app[CONTEXT]))


async def read_mesh(context: Context) -> MeshReply:
    """The hosts and their links now."""
    return msgspec.convert(await context.mesh(), MeshReply)
