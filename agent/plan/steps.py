"""All of a host at once: what the system has, the steps from there to what is wanted, and the result of those steps.

    diff(wanted, actual, …)  ->  Steps       empty where the host is as it should be
    after(actual, steps, …)  ->  Actual      what a reading of the system would give now

`firewall`, `routes` and `peers` each do this for their own part.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from agent.plan import firewall, peers, routes
from agent.plan.firewall import Ruleset, SetChange
from agent.plan.peers import PeerStep, StartHandshake, Tunnel
from agent.plan.routes import Routes, RouteStep
from agent.plan.wanted import Wanted
from zones.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Actual:
    """The system as it was last read, with the agent's own changes since then added."""

    firewall: Ruleset
    """The agent's nftables table."""
    routes: Routes
    """The WireGuard device's addresses and route, and the workloads' links and routes."""
    tunnel: Tunnel
    """The WireGuard device's key, port and peers."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What is to be done to the system, in the order of the fields; each field in its own order."""

    firewall: tuple[SetChange, ...]
    """One change for each nftables set that differs."""
    routes: tuple[RouteStep, ...]
    """Changes of addresses, routes and neighbours."""
    peers: tuple[PeerStep, ...]
    """Changes of WireGuard peers, and then the handshakes to start."""

    def __len__(self) -> int:
        return len(self.firewall) + len(self.routes) + len(self.peers)


def diff(
    wanted: Wanted,
    actual: Actual,
    stable_peers: Collection[PublicKey] = (),
    earlier_peers: Collection[PublicKey] = (),
    due_handshakes: Collection[PublicKey] = (),
) -> Steps:
    """The steps that make ``actual`` as ``wanted``.

    ``stable_peers`` keep their endpoint (see `peers.diff`). ``earlier_peers`` were peers before; those of them that the
    device has lost get a handshake (see `peers.handshakes_with_lost_peers`), and so do ``due_handshakes``.
    """
    peer_steps = [
        *peers.diff(wanted.peers, actual.tunnel, stable_peers),
        *peers.handshakes_with_lost_peers(wanted.peers, actual.tunnel, earlier_peers),
        *(StartHandshake(key, peer.keepalive) for key, peer in wanted.peers.items() if key in due_handshakes),
    ]
    return Steps(
        tuple(firewall.diff(firewall.elements(wanted), actual.firewall.elements)),
        tuple(routes.diff(wanted, actual.routes)),
        tuple(peer_steps),
    )


def after(actual: Actual, steps: Steps, wanted: Wanted) -> Actual:
    """``actual`` once ``steps``, which lead to ``wanted``, have been taken."""
    return Actual(
        firewall.after(actual.firewall, firewall.elements(wanted)) if steps.firewall else actual.firewall,
        routes.after(actual.routes, steps.routes),
        peers.with_wanted_sets(_tunnel_after(actual, steps, wanted), wanted.peers),
    )


def _tunnel_after(actual: Actual, steps: Steps, wanted: Wanted) -> peers.Tunnel:
    return peers.after(actual.tunnel, steps.peers, wanted.peers) if steps.peers else actual.tunnel
