"""Negative controls of the mesh's test tools: without the product, they see what must not be there.

Two hosts, each with a workload, and routes between them that the test makes: with WireGuard, and without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests import wireguard
from tests.clients.builds import Build
from tests.mesh import topology
from tests.mesh.capture import EXPECTED, LINK, Capture
from tests.mesh.talking import ConnectionTimes, talking
from tests.mesh.topology import Underlay, Workload

MEBI = 1 << 20
SPOOFED_SOURCE = "fd12:2:2::1"

pytestmark = pytest.mark.skipif(bool(topology.why_not()), reason=f"no mesh of hosts: {topology.why_not()}")


@pytest.fixture(scope="module")
def underlay() -> Iterator[Underlay]:
    with topology.underlay() as joined:
        yield joined


@pytest.fixture(scope="module")
def workloads(underlay: Underlay) -> list[Workload]:
    """Two workloads, on two hosts that only route."""
    hosts = [underlay.host(name) for name in ("left", "right")]
    made = [host.workload() for host in hosts]
    for number, (host, other, workload) in enumerate(zip(hosts, reversed(hosts), made, strict=True), 1):
        workload.attach_answer = {"address": f"fd12:1:1::{number}"}
        host.namespace.ip(
            [
                f"link add rail0 type veth peer name railnet0 netns {workload.namespace.name}",
                "address add fe80::1/64 dev rail0 nodad",
                "link set rail0 up",
                f"route add {workload.address} dev rail0",
                f"route add fd12:1:1::{3 - number} via {other.v6}",
            ]
        )
        workload.namespace.ip(
            [
                "link set railnet0 up",
                f"address add {workload.address} dev railnet0 nodad",
                "route add fd12::/16 via fe80::1 dev railnet0",
            ]
        )
        host.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"])
    return made


@pytest.mark.parametrize("library", ["glibc", "musl"])
def test_the_program_connects_over_tcp_udp_and_icmp(
    workloads: list[Workload], programs: dict[str, Build], library: str
) -> None:
    left, right = workloads
    with talking(left, programs[library]) as talker, talking(right, programs[library]) as server:
        server.serve()
        times = talker.tcp(right.address, octets=MEBI)
        assert isinstance(times, ConnectionTimes), times
        assert talker.udp(right.address).ok
        assert talker.icmp(right.address).ok
        talker.hold(right.address)
        held = talker.release()
        assert not held.broken
        refused = talker.tcp(right.address, port=1)
        assert not isinstance(refused, ConnectionTimes)
        assert refused.stage == "connect"


def test_a_capture_has_packets_on_the_underlay_that_are_not_wireguard(
    underlay: Underlay, workloads: list[Workload], programs: dict[str, Build]
) -> None:
    left, right = workloads
    capture = Capture(underlay.namespace, ignored=EXPECTED)
    with capture, talking(left, programs["glibc"]) as talker:
        talker.udp(right.address, port=51820)  # on WireGuard's port, but not a WireGuard message
    assert {packet.kind for packet in capture.kept} == {"udp", "icmpv6 1"}


def test_a_capture_has_spoofed_packets_where_they_arrive(workloads: list[Workload], programs: dict[str, Build]) -> None:
    left, right = workloads
    with ExitStack() as stack:
        capture = stack.enter_context(Capture(right.namespace, "railnet0", LINK))
        talker = stack.enter_context(talking(left, programs["glibc"]))
        assert talker.spoof(SPOOFED_SOURCE, right.address).words == ("9",)
    spoofed = [packet.kind for packet in capture.kept if str(packet.source) == SPOOFED_SOURCE]
    assert sorted(spoofed) == ["icmpv6 128"] * 3 + ["tcp"] * 3 + ["udp"] * 3


@pytest.mark.parametrize("device", wireguard.available())
def test_a_capture_ignores_wireguard_on_the_underlay(
    underlay: Underlay, workloads: list[Workload], programs: dict[str, Build], device: str
) -> None:
    left, right = workloads
    keys = [workload.host.run(["wg", "genkey"]).stdout.strip() for workload in workloads]
    publics = [
        workload.host.run(["wg", "pubkey"], text=key).stdout.strip()
        for workload, key in zip(workloads, keys, strict=True)
    ]
    make = ["wireguard-go", "wg0"] if device == "userspace" else ["ip", "link", "add", "wg0", "type", "wireguard"]
    for number, (workload, other) in enumerate(((left, right), (right, left))):
        host = workload.host
        host.run(make)
        peer = [
            "peer",
            publics[1 - number],
            "endpoint",
            f"[{other.host.v6}]:51820",
            "allowed-ips",
            f"{other.address}/128",
        ]
        host.run(["wg", "set", "wg0", "listen-port", "51820", "private-key", "/dev/stdin", *peer], text=keys[number])
        host.namespace.ip(["link set wg0 up", f"route replace {other.address} dev wg0"])
    before = underlay.carried()
    capture = Capture(underlay.namespace, ignored=EXPECTED)
    with capture, talking(left, programs["glibc"]) as talker, talking(right, programs["musl"]) as server:
        server.serve()
        assert isinstance(talker.tcp(right.address, octets=MEBI), ConnectionTimes)
    assert capture.kept == []
    assert underlay.carried() > before + 2 * MEBI
    sockets = left.host.run(["sh", "-c", "ls /run/wireguard"], check=False).stdout.split()
    assert sockets == (["wg0.sock"] if device == "userspace" else [])
    for workload in workloads:
        workload.host.namespace.ip(["link delete wg0"])
