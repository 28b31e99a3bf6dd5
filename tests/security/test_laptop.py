"""An external peer reaches the members of its environment and the resolver, whatever it sends through its tunnel."""

from __future__ import annotations

from collections.abc import Mapping

from tests.mesh.mesh import Mesh, Node
from tests.mesh.topology import Host
from tests.security.packets import KINDS, WHOLE_KINDS, Kind, matrix, send_frames
from tests.security.places import Arrivals, Members, watched
from tests.security.test_matrix import destinations, sources


def send_all(mesh: Mesh, laptop: Host, red: Members, blue: Members, kinds: Mapping[str, Kind] = KINDS) -> Arrivals:
    """Sends everything through the tunnel, as the owner of the laptop can set it up; gives what arrived."""
    shown = laptop.run(["wg", "show", "office", "peers"]).stdout.strip()
    laptop.run(["wg", "set", "office", "peer", shown, "allowed-ips", "::/0"])  # sends to everywhere
    own = laptop.run(["ip", "-6", "-oneline", "address", "show", "dev", "office", "scope", "global"]).stdout.split()[3]
    packets = matrix([own.partition("/")[0], *sources(red, blue, mesh)], destinations(red, blue, mesh), kinds)
    with watched(mesh, list(blue.on.values())) as arrivals:
        sent = laptop.call(lambda: send_frames("office", packets))
    print(f"{sent} packets sent: {arrivals}")
    assert sent == 19 * 19 * len(kinds)
    return arrivals


def test_with_nftables_in_place(mesh: Mesh, laptop: Host, red: Members, blue: Members) -> None:
    assert not send_all(mesh, laptop, red, blue)


def test_with_nftables_flushed_and_no_agent(
    mesh: Mesh, laptop: Host, red: Members, blue: Members, without_agents: list[Node]
) -> None:
    assert not send_all(mesh, laptop, red, blue)


def test_the_control_without_nftables_and_without_the_filter_of_the_tunnel_packets_arrive(
    mesh: Mesh, laptop: Host, red: Members, blue: Members, without_agents: list[Node]
) -> None:
    without_agents[0].host.run(["tc", "qdisc", "delete", "dev", "interlock0", "clsact"])
    assert send_all(mesh, laptop, red, blue, WHOLE_KINDS).at_hosts > 20
