"""A mesh of two hosts and two environments, and what arrives where it must not."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from tests.mesh.capture import CONTROL_PLANE, LINK, WIREGUARD, Capture, Packet
from tests.mesh.mesh import Mesh, Node
from tests.mesh.topology import Workload

# Counts what reaches the programs of a host by its links, behind all that filters; the resolver may be asked by DNS.
_PROBE = """
table inet probe {
    chain arrived {
        type filter hook input priority 2147483646; policy accept;
        iifname { "rail*", "interlock0" } udp dport != 53 counter
        iifname { "rail*", "interlock0" } tcp dport != 53 counter
        iifname { "rail*", "interlock0" } meta l4proto != { tcp, udp } counter
        iifname eth0 ip6 daddr fd12::/16 counter
    }
}
"""

IPV6_FREEBIND = 78  # <linux/in6.h>; everybody may use it
QUERY = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\x03api\x07railway\x08internal\0" + struct.pack("!HH", 28, 1)
PATIENCE = 0.5  # seconds for an answer that must not come


@dataclass(frozen=True, slots=True)
class Members:
    """An environment's workloads, by the name of the host."""

    id: str
    network: IPv6Network
    on: Mapping[str, Workload]

    @property
    def resolver(self) -> str:
        """The environment's own resolver address."""
        return str(self.network.network_address + 0x10)

    @property
    def nobody(self) -> str:
        """An address that no member has."""
        return str(self.network.network_address + 0x1_0000_0000_0000_0999)


@contextmanager
def members(mesh: Mesh, environment: str, hosts: list[str]) -> Iterator[Members]:
    """A new environment with a workload on each of ``hosts``."""
    network = mesh.environment(environment, "api")
    try:
        found = {host: mesh.nodes[host].attach(environment, "api", f"a-{host}") for host in hosts}
        yield Members(environment, network, found)
        for host, workload in found.items():
            mesh.nodes[host].detach(environment, "api", f"a-{host}")
            workload.remove()
    finally:
        mesh.client.delete("environments", environment)


@dataclass(slots=True)
class Arrivals:
    """What arrived where it must not; complete once the with-statement of `watched` has ended."""

    packets: list[Packet] = field(default_factory=list)
    """In the workloads, and on the underlay in the clear."""
    at_hosts: int = 0
    """How many at the programs of the hosts."""

    def __str__(self) -> str:
        some = ", ".join(sorted({f"{one.kind} on {one.link}" for one in self.packets})[:5])
        return (
            f"{len(self.packets)} packets arrived in workloads and on the underlay ({some}), {self.at_hosts} at hosts"
        )

    def __bool__(self) -> bool:
        return bool(self.packets or self.at_hosts)


@contextmanager
def watched(mesh: Mesh, workloads: list[Workload], *, is_underlay: bool = True) -> Iterator[Arrivals]:
    """Watches ``workloads``, the hosts of ``mesh``, and the underlay, unless what is sent there is the test's own."""
    arrivals, nodes = Arrivals(), list(mesh.nodes.values())
    for node in nodes:
        node.host.run(["nft", "-f", "-"], text=_PROBE)
    try:
        with ExitStack() as stack:
            captures = [stack.enter_context(Capture(one.namespace)) for one in workloads]
            if is_underlay:
                ignored = f"{WIREGUARD} or {CONTROL_PLANE} or {LINK}"
                captures.append(stack.enter_context(Capture(mesh.underlay.namespace, ignored=ignored)))
            yield arrivals
        arrivals.packets += [packet for capture in captures for packet in capture.kept]
        arrivals.at_hosts = sum(_counted(node) for node in nodes)
    finally:
        for node in nodes:
            node.host.run(["nft", "delete", "table", "inet", "probe"], check=False)


def _counted(node: Node) -> int:
    listed = json.loads(node.host.run(["nft", "--json", "list", "table", "inet", "probe"]).stdout)["nftables"]
    rules = [entry["rule"] for entry in listed if "rule" in entry]
    return sum(one["counter"]["packets"] for rule in rules for one in rule["expr"] if "counter" in one)


def flush(node: Node) -> None:
    """Somebody flushes nftables on the host of ``node``, as a reload of a firewall does; the probe stays."""
    node.host.run(["nft", "-f", "-"], text="add table inet interlock\ndelete table inet interlock\n")
    assert "interlock" not in node.host.run(["nft", "list", "tables"]).stdout or node.agent.is_running


@contextmanager
def flushed_again_and_again(nodes: list[Node]) -> Iterator[list[int]]:
    """Flushes nftables on the hosts of ``nodes`` without a pause; gives a list that has an entry for each time."""
    is_over, times = threading.Event(), list[int]()

    def work() -> None:
        while not is_over.is_set():
            for node in nodes:
                flush(node)
            times.append(len(times))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield times
    finally:
        is_over.set()
        thread.join()


def host_mac(workload: Workload) -> str:
    """The MAC address of the host's end of the link of ``workload``."""
    mac: str = workload.attach_answer["host_mac"]
    return mac


def without_filters(mesh: Mesh) -> list[str]:
    """The links of the agents on the hosts of ``mesh`` that lack one of their two filters."""
    return [
        f"{node.name}: {link['ifname']} {direction}"
        for node in mesh.nodes.values()
        for link in json.loads(node.host.run(["ip", "-json", "link", "show"]).stdout)
        for direction in ("ingress", "egress")
        if link["ifname"].startswith(("rail", "interlock0"))
        and "interlock-" not in node.host.run(["tc", "filter", "show", "dev", link["ifname"], direction]).stdout
    ]


def neighbours(node: Node) -> int:
    """How many IPv4 neighbours the host of ``node`` knows or looks for."""
    return len(node.host.run(["ip", "-4", "neighbour", "show", "nud", "all"]).stdout.splitlines())


def ask(resolver: str, source: str = "::") -> int | None:
    """The rcode of the answer of ``resolver`` to a query from ``source``, in this thread's namespace; None for none."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        sock.bind((source, 0))
        sock.settimeout(PATIENCE)
        try:
            sock.sendto(QUERY, (resolver, 53))
            return sock.recv(512)[3] & 0xF
        except OSError:
            return None
