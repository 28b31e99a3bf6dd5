"""A member leaves nothing in conntrack's table, which is the whole host's: no flood of flows fills it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.mesh.mesh import Mesh, Node
from tests.security.places import QUERY, Members

FLOWS = 5_000
FEW = 100  # entries of what the host itself does meanwhile

# As Docker's rules do: a rule that needs conntrack, on the way to other hosts and to this one.
_CONNTRACK = """table inet conntracking {
    chain f { type filter hook forward priority 10; ct state invalid drop; }
    chain i { type filter hook input priority 10; ct state invalid drop; }
}"""


@pytest.fixture
def conntracked(mesh: Mesh) -> Iterator[list[Node]]:
    """All hosts, each with a firewall beside the agent's that needs conntrack."""
    nodes = list(mesh.nodes.values())
    for node in nodes:
        node.host.run(["nft", "-f", "-"], text=_CONNTRACK)
    yield nodes
    for node in nodes:
        node.host.run(["nft", "delete", "table", "inet", "conntracking"])


def entries(node: Node) -> int:
    """How many entries the table of ``node`` has."""
    return int(node.host.run(["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).stdout)


def send_from_many_ports(destination: str, port: int, payload: bytes) -> None:
    for _ in range(FLOWS):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.sendto(payload, (destination, port))


def test_what_conntrack_would_keep_of_the_host_itself_it_keeps(conntracked: list[Node]) -> None:
    """The control: the same flood from the host, to itself, is in the table."""
    node, before = conntracked[0], entries(conntracked[0])
    node.host.call(lambda: send_from_many_ports("::1", 9, b"flood"))
    assert entries(node) > before + FLOWS / 2


@pytest.mark.parametrize("to", ["another host", "this host", "the resolver"])
def test_a_flood_of_flows_leaves_no_entries(red: Members, conntracked: list[Node], to: str) -> None:
    workload, before = red.on["h1"], [entries(node) for node in conntracked]
    destination, port, payload = {
        "another host": (red.on["h2"].address, 7000, b"flood"),
        "this host": (red.nobody, 7000, b"flood"),
        "the resolver": (red.resolver, 53, QUERY),
    }[to]
    workload.call(lambda: send_from_many_ports(destination, port, payload))
    after = [entries(node) for node in conntracked]
    assert all(now < then + FEW for now, then in zip(after, before, strict=True)), (before, after)
