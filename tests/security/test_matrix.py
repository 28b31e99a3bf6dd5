"""No packet of one environment arrives in another, on the underlay or at a host, whatever it is and whatever filters.

From a workload: 18 sources, 19 destinations, and every kind of packet and frame; while nftables filters, while somebody
flushes it again and again, and once it is flushed with no agent to put it back. Then the links' own filters are all
that is left, and the control shows what arrives without those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address

from tests.mesh.mesh import Mesh, Node
from tests.security.packets import KINDS, WHOLE_KINDS, Kind, ethernet, matrix, other_frames, send_frames
from tests.security.places import Arrivals, Members, flush, flushed_again_and_again, host_mac, neighbours, watched

OUTSIDE = "2001:db8:ffff::1"


def sources(red: Members, blue: Members, mesh: Mesh) -> list[str]:
    """18 of them: one that is the sender's own, and those of everybody else."""
    return [
        red.on["h1"].address, red.on["h2"].address, red.nobody, red.resolver,
        blue.on["h1"].address, blue.on["h2"].address, blue.nobody, blue.resolver,
        "fd12::10", "fd12::1", "fd12:dead:beef::1",
        mesh.nodes["h1"].host.v6, mesh.nodes["h2"].host.v6, OUTSIDE,
        "fe80::1", "::", "::1", "::ffff:192.0.2.1",
    ]  # fmt: skip


def destinations(red: Members, blue: Members, mesh: Mesh) -> list[str]:
    """19 of them: no member of the sender's own environment, and its resolvers only because of other ports than 53."""
    return [
        blue.on["h1"].address, blue.on["h2"].address, blue.nobody, blue.resolver, str(blue.network.network_address),
        red.resolver, "fd12::10", "fd12::1", "fd12:dead:beef::1",
        mesh.nodes["h1"].host.v6, mesh.nodes["h2"].host.v6, OUTSIDE,
        "fe80::1", "::1", "ff02::1", "ff02::2", "ff05::2", "ff0e::1", "::ffff:192.0.2.1",
    ]  # fmt: skip


def frames(red: Members, blue: Members, mesh: Mesh, kinds: Mapping[str, Kind]) -> Iterator[bytes]:
    """All that a workload of ``red`` on h1 sends."""
    mac = host_mac(red.on["h1"])
    for packet in matrix(sources(red, blue, mesh), destinations(red, blue, mesh), kinds):
        yield ethernet(mac, packet)
    for environment in (blue, red):
        ends = [IPv6Address(one.on["h1"].address).packed for one in (red, environment)]
        hosts = [node.host.v4 for node in mesh.nodes.values()]
        yield from other_frames(mac, KINDS["udp"](*ends), hosts)


def send_all(mesh: Mesh, red: Members, blue: Members, kinds: Mapping[str, Kind] = KINDS) -> Arrivals:
    """Sends everything; gives what arrived."""
    with watched(mesh, list(blue.on.values())) as arrivals:
        sent = red.on["h1"].call(lambda: send_frames("railnet0", frames(red, blue, mesh, kinds)))
    print(f"{sent} packets sent: {arrivals}")
    assert sent > 18 * 19 * len(kinds)
    return arrivals


def test_with_nftables_in_place(mesh: Mesh, red: Members, blue: Members) -> None:
    known = neighbours(mesh.nodes["h1"])
    assert not send_all(mesh, red, blue)
    assert neighbours(mesh.nodes["h1"]) <= known + 1  # h2 may have come meanwhile, which is a neighbour


def test_while_nftables_is_flushed_again_and_again(mesh: Mesh, red: Members, blue: Members) -> None:
    with flushed_again_and_again(list(mesh.nodes.values())) as times:
        assert not send_all(mesh, red, blue)
    assert times
    mesh.until_healthy()


def test_with_nftables_flushed_and_no_agent(
    mesh: Mesh, red: Members, blue: Members, without_agents: list[Node]
) -> None:
    for node in without_agents:
        flush(node)
    assert not send_all(mesh, red, blue)


def test_the_control_without_nftables_and_without_the_links_filters_packets_arrive(
    mesh: Mesh, red: Members, blue: Members, without_agents: list[Node]
) -> None:
    for node in without_agents:
        flush(node)
        links = [one.on[node.name].attach_answer["host_interface"] for one in (red, blue)]
        for link in ("interlock0", *links):
            node.host.run(["tc", "qdisc", "delete", "dev", link, "clsact"])
    arrivals = send_all(mesh, red, blue, WHOLE_KINDS)
    assert len(arrivals.packets) > 500
    assert arrivals.at_hosts > 500
