"""The links of this host, as its WireGuard device has them now: nothing is probed."""

from __future__ import annotations

import time

from msgspec import Struct

from agent.mesh.mesh import Mesh
from zones.hosts import hosts_of


class LinkFacts(Struct, frozen=True, omit_defaults=True):
    """What this host knows of another one that it shares an environment with."""

    host: str
    """The other host."""
    has_peer: bool = True
    """Whether the WireGuard device has it as a peer."""
    handshake_age: float | None = None
    """Seconds since the newest handshake. None: there was none."""
    silent: float | None = None
    """For how many seconds it has owed a packet. None: it owes none."""
    received: int = 0
    """Octets that came from it."""
    sent: int = 0
    """Octets that were sent to it."""


def read_links(mesh: Mesh) -> tuple[LinkFacts, ...]:
    """The links to all hosts that share an environment with this one."""
    published, actual = mesh.published, mesh.status.actual
    needed = set[str]().union(*(hosts_of(environment) for environment in published.environments.values()))
    peers = actual.tunnel.peers if actual else {}
    silent, now = mesh.status.health.silent(time.monotonic()), time.time()
    links = []
    for id_ in sorted(needed - {mesh.identity.id}):
        host = published.hosts.hosts.get(id_)
        keys = [key for key in ((host.public_key, host.next_public_key) if host else ()) if key and key in peers]
        if not keys:
            links.append(LinkFacts(id_, has_peer=False))
            continue
        key = max(keys, key=lambda one: peers[one].handshake or 0)
        peer = peers[key]
        age = max(0.0, round(now - peer.handshake, 1)) if peer.handshake else None
        quiet = round(silent[key], 1) if key in silent else None
        links.append(LinkFacts(id_, True, age, quiet, peer.received, peer.sent))
    return tuple(links)
