"""What an earlier agent has made stays while this one knows the environments from a snapshot alone. Pure.

A snapshot lacks what was committed in the seconds before its end. To plan from it alone would take away a route, a peer
or a member of a set that was made in these seconds. So what was found at the start is kept beside what is planned,
until the store answers. Where the two disagree about an address, what was found is newer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv6Network

from agent.plan.firewall import NETWORKS, RESOLVERS
from agent.plan.peers import BLACKHOLE_PEER, ActualPeer
from agent.plan.steps import Actual
from agent.plan.wanted import Peer, Wanted
from zones.addresses import Address, network_of
from zones.keys import PublicKey


def retain(planned: Wanted, found: Actual) -> Wanted:
    """``planned``, and all that was ``found``."""
    elements = found.firewall.elements
    return replace(
        planned,
        peers=_peers(planned.peers, found.tunnel.peers),
        addresses=planned.addresses | found.routes.addresses,
        networks=planned.networks | {network_of(first) for first, _ in elements.get(NETWORKS, ())},
        resolvers=planned.resolvers
        | {(IPv6Network(network), Address.parse(address)) for network, address in elements.get(RESOLVERS, ())},
        workloads={**planned.workloads, **found.routes.workloads},
    )


def _peers(planned: Mapping[PublicKey, Peer], found: Mapping[PublicKey, ActualPeer]) -> dict[PublicKey, Peer]:
    ours = {key: peer for key, peer in found.items() if key != BLACKHOLE_PEER and not peer.is_foreign}
    owners = {address: key for key, peer in ours.items() for address in peer.allowed_ips}
    peers = {
        key: replace(peer, allowed_ips=frozenset(one for one in peer.allowed_ips if owners.get(one, key) == key))
        for key, peer in planned.items()
    }
    for key, peer in ours.items():
        before = peers.get(key, Peer(peer.endpoint, frozenset(), peer.keepalive))
        peers[key] = replace(before, allowed_ips=before.allowed_ips | peer.allowed_ips)
    return peers
