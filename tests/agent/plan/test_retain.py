"""What an earlier agent has made stays while only a snapshot says what is wanted."""

from __future__ import annotations

from ipaddress import IPv6Network

from agent.plan.firewall import NETWORKS, PINS, RESOLVERS, Ruleset
from agent.plan.peers import BLACKHOLE_PEER, ActualPeer, DropAddresses, DropPeer, Tunnel
from agent.plan.retain import retain
from agent.plan.routes import RemoveAddress, RemoveWorkload, Routes
from agent.plan.steps import Actual, Steps, diff
from agent.plan.wanted import Peer, Wanted
from tests.agent.worlds import address
from tests.worlds import public_key

ONE, TWO, THREE = (public_key(number) for number in (1, 2, 3))
NETWORK, OTHER = IPv6Network("fd12:1:1::/48"), IPv6Network("fd12:2:2::/48")

FOUND = Actual(
    Ruleset(
        {
            NETWORKS: frozenset({(str(OTHER.network_address), str(OTHER.network_address))}),
            RESOLVERS: frozenset({(str(OTHER), "fd12::10")}),
            PINS: frozenset({("rail2", str(address(1, 5)))}),
        },
        "rules",
        {},
    ),
    Routes(True, frozenset({address(1, 9)}), True, frozenset({"rail1", "rail2"}), {"rail2": address(1, 5)}),
    Tunnel(
        ONE,
        51820,
        {
            TWO: ActualPeer("192.0.2.2:51820", frozenset({address(2, 1), address(2, 2)})),
            THREE: ActualPeer("192.0.2.3:51820", frozenset({address(3, 1)}), keepalive=25),
        },
    ),
)
"""What an agent has made that had heard of more than the snapshot."""

PLANNED = Wanted(
    peers={TWO: Peer("192.0.2.2:51820", frozenset({address(2, 1), address(3, 1)}))},
    networks=frozenset({NETWORK}),
    workloads={"rail1": address(1, 1)},
)
"""What the snapshot plans: without a host, an environment, a workload, and with an instance where it was before."""


def removals(steps: Steps) -> list[object]:
    kinds = (DropPeer, DropAddresses, RemoveAddress, RemoveWorkload)
    return [
        *(step for step in (*steps.routes, *steps.peers) if isinstance(step, kinds)),
        *(change.remove for change in steps.firewall if change.remove),
    ]


def test_without_it_a_plan_from_a_snapshot_takes_away_what_is_newer() -> None:
    assert len(removals(diff(PLANNED, FOUND))) > 4  # the control: this is what must not happen


def test_nothing_is_taken_away_and_what_is_missing_is_made() -> None:
    wanted = retain(PLANNED, FOUND)
    assert removals(diff(wanted, FOUND)) == []
    assert wanted.networks == {NETWORK, OTHER}
    assert wanted.workloads == {"rail1": address(1, 1), "rail2": address(1, 5)}
    assert wanted.peers[TWO] == Peer("192.0.2.2:51820", frozenset({address(2, 1), address(2, 2)}))
    assert wanted.peers[THREE].allowed_ips == {address(3, 1)}  # an address has one owner: the one that was found


def test_on_a_host_on_which_nothing_was_found_the_plan_is_the_snapshots() -> None:
    nothing = Actual(Ruleset({}, "", {}), Routes(), Tunnel(None, 0))
    assert retain(PLANNED, nothing) == PLANNED


def test_peers_that_are_not_of_the_mesh_are_not_kept() -> None:
    foreign = {
        BLACKHOLE_PEER: ActualPeer(None, frozenset({address(4, 1)})),
        THREE: ActualPeer(None, frozenset(), is_foreign=True),
    }
    found = Actual(FOUND.firewall, FOUND.routes, Tunnel(ONE, 51820, foreign))
    assert retain(PLANNED, found).peers == PLANNED.peers
