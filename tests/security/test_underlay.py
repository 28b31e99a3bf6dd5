"""Who is on the underlay, or a user of a host, is no member of an environment, whatever address he sends to or from.

h1 is the gateway of a laptop of the red environment, so it has that environment's resolver address.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.mesh.mesh import Mesh, Node
from tests.mesh.topology import Host
from tests.security.packets import KINDS, ethernet, matrix, send_frames
from tests.security.places import Arrivals, Members, ask, watched

NOBODY = 65534
REFUSED = 5


@pytest.fixture(scope="module")
def outsider(mesh: Mesh) -> Iterator[Host]:
    """A machine on the underlay that has a route for the platform's prefix to h1, and nothing else."""
    machine = mesh.underlay.host("outsider")
    machine.namespace.ip([f"route add fd12::/16 via {mesh.nodes['h1'].host.v6} dev eth0"])
    yield machine
    machine.kill()


def test_the_control_a_member_is_answered(red: Members, laptop: Host) -> None:
    assert red.on["h1"].call(lambda: ask(red.resolver)) == 0
    assert laptop.call(lambda: ask(red.resolver)) == 0


def test_the_resolver_of_a_gateway_does_not_hear_the_underlay(outsider: Host, red: Members, laptop: Host) -> None:
    for resolver in (red.resolver, "fd12::10"):
        assert outsider.call(lambda: ask(resolver)) is None  # noqa: B023


def test_without_nftables_it_refuses(outsider: Host, red: Members, laptop: Host, without_agents: list[Node]) -> None:
    assert outsider.call(lambda: ask(red.resolver)) == REFUSED


def send_all(mesh: Mesh, outsider: Host, red: Members, blue: Members, destinations: list[str]) -> Arrivals:
    """Sends everything to h1 by its link to the underlay; gives what arrived, in all workloads."""
    mac = "02:00:c0:00:02:01"
    workloads = [workload for each in (red, blue) for workload in each.on.values()]
    sources = [outsider.v6, "fd12::10", red.resolver, *(one.address for one in workloads), red.nobody]
    with watched(mesh, workloads, is_underlay=False) as arrivals:
        frames = (ethernet(mac, packet) for packet in matrix(sources, destinations))
        sent = outsider.call(lambda: send_frames("eth0", frames))
    print(f"{sent} packets sent: {arrivals}")
    assert sent == len(sources) * len(destinations) * len(KINDS)
    return arrivals


def members(*environments: Members) -> list[str]:
    return [workload.address for each in environments for workload in each.on.values()]


def test_nothing_arrives_that_is_sent_to_a_host(
    mesh: Mesh, outsider: Host, red: Members, blue: Members, laptop: Host
) -> None:
    assert not send_all(mesh, outsider, red, blue, [*members(red, blue), red.resolver, "fd12::10", red.nobody])


def test_nothing_arrives_in_a_workload_without_nftables(
    mesh: Mesh, outsider: Host, red: Members, blue: Members, laptop: Host, without_agents: list[Node]
) -> None:
    assert not send_all(mesh, outsider, red, blue, [*members(red, blue), red.nobody])


def as_nobody(node: Node, resolver: str, source: str) -> int | None:
    """What a user of the host of ``node`` without any rights is answered."""
    reader, writer = os.pipe()

    def run() -> None:
        child = os.fork()
        if child == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            rcode = ask(resolver, source)
            os.write(writer, b"-" if rcode is None else bytes([48 + rcode]))
            os._exit(0)
        os.waitpid(child, 0)

    node.host.call(run)
    os.close(writer)
    with open(reader, "rb") as found:
        answer = found.read()
    return None if answer == b"-" else int(answer)


def test_a_user_of_the_host_is_no_member(mesh: Mesh, red: Members, blue: Members, laptop: Host) -> None:
    h1 = mesh.nodes["h1"]
    workloads = [workload for each in (red, blue) for workload in each.on.values()]
    with watched(mesh, workloads) as arrivals:
        for resolver in (red.resolver, "fd12::10"):
            # The addresses of members here and elsewhere, of nobody, of the resolver itself; any user can use them.
            for source in (*members(red, blue), red.nobody, red.resolver):
                assert as_nobody(h1, resolver, source) is None, (resolver, source)
            for source in ("::1", h1.host.v6, "fd12::10"):
                assert as_nobody(h1, resolver, source) in (None, REFUSED), (resolver, source)
    assert not arrivals
