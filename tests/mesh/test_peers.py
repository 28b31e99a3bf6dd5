"""An external peer: a machine without the product, but with the file that `interlock peer create` printed.

It has WireGuard, its wg-quick(8), and openresolv, as Debian has them.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.clients import builds
from tests.clients.builds import Build, Unavailable
from tests.mesh.capture import EXPECTED, Capture
from tests.mesh.members import Layout, PopulatedEnvironment, populated
from tests.mesh.mesh import Mesh, until
from tests.mesh.talking import PORT, Reply, talk_once
from tests.mesh.topology import Host

LAYOUT: Layout = {"web": {"w1": "h1", "w2": "h2"}, "db": {"d3": "h3"}}
OTHERS: Layout = {"only": {"o2": "h2", "o4": "h4"}}
GATEWAY = "h2"
OCTETS = 100_000
NO_REPLY_TIMEOUT = 300  # ms to wait for a reply that must not come

# Puts the files of the package openresolv where its installation would.
_PUT_IN_PLACE = """
set -e
for place in sbin lib; do mount -t overlay -o "lowerdir=$0/$place:/$place" overlay "/$place"; done
cp "$0/etc/resolvconf.conf" /etc/
"""


@pytest.fixture(scope="module")
def environment(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    with populated(mesh, "peers", LAYOUT, programs) as environment:
        yield environment


@pytest.fixture(scope="module")
def others(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    with populated(mesh, "others", OTHERS, programs) as environment:
        yield environment


@pytest.fixture
def laptop(mesh: Mesh, environment: PopulatedEnvironment) -> Iterator[Host]:
    """A machine on the underlay that runs wg-quick with the file of `interlock peer create`."""
    if shutil.which("wg-quick") is None:
        pytest.skip("no wg-quick: install the package wireguard-tools")
    try:
        openresolv = builds.unpacked("openresolv")
    except Unavailable as error:
        pytest.skip(f"no resolvconf, which wg-quick needs: {error}")
    machine = mesh.underlay.host("laptop")
    try:
        machine.run(["sh", "-c", _PUT_IN_PLACE, str(openresolv)])
        added = mesh.interlock("peer", "add", "laptop", "--environment", environment.id, "--gateway", GATEWAY)
        machine.run(
            ["sh", "-c", "umask 077; mkdir -p /etc/wireguard; cat >/etc/wireguard/office.conf"], text=added.stdout
        )
        machine.run(["wg-quick", "up", "office"])
        yield machine
        mesh.interlock("peer", "remove", "laptop", "--environment", environment.id, check=False)
    finally:
        machine.kill()


def reach_all(laptop: Host, program: Build, target: str) -> list[Reply]:
    """The replies to tries of ``target`` over UDP, ICMP and TCP."""
    requests = (
        ("udp", target, PORT, NO_REPLY_TIMEOUT),
        ("icmp", target, NO_REPLY_TIMEOUT),
        ("tcp", target, PORT, OCTETS, 5 * NO_REPLY_TIMEOUT),
    )
    return [talk_once(laptop, program, *request) for request in requests]


def test_an_external_peer_reaches_its_environment_by_name_and_nothing_else(
    mesh: Mesh,
    environment: PopulatedEnvironment,
    others: PopulatedEnvironment,
    laptop: Host,
    programs: dict[str, Build],
) -> None:
    until(lambda: talk_once(laptop, programs["musl"], "lookup", "web").ok, "no name is known there")
    count = f'interlock_external_peers_connected{{environment="{environment.id}"}}'
    until(lambda: mesh.nodes[GATEWAY].metrics().get(count) == 1, "the gateway does not count its handshake")
    assert mesh.nodes[GATEWAY].metrics()[count.replace("_connected", "")] == 1
    with ExitStack() as stack:
        underlay = stack.enter_context(Capture(mesh.underlay.namespace, ignored=EXPECTED))
        for program in programs.values():
            for member in environment.members:
                found = reach_all(laptop, program, member.name)
                assert [reply.words[0] for reply in found if reply.ok] == [member.address] * 3, found
            web_addresses = {member.address for member in environment.members if member.service == "web"}
            assert set(talk_once(laptop, program, "lookup", "web").words[1:]) == web_addresses

        captures = [stack.enter_context(Capture(member.workload.namespace)) for member in others.members]
        peer = laptop.run(["wg", "show", "office", "peers"]).stdout.strip()
        dropped, sent = mesh.drops(), 0
        for is_honest in (True, False):
            if not is_honest:  # it sends packets to other environments, and with source addresses of others
                laptop.run(["wg", "set", "office", "peer", peer, "allowed-ips", "fd12::/16"])
                laptop.namespace.ip(["route replace fd12::/16 dev office"])
            for member in others.members:
                assert not talk_once(laptop, programs["musl"], "lookup", member.name).ok
                assert not any(reply.ok for reply in reach_all(laptop, programs["glibc"], member.address))
                for source in (environment.members[0].address, others.members[0].address):
                    spoofed = talk_once(laptop, programs["glibc"], "spoof", source, member.address, PORT)
                    sent += 0 if is_honest else int(spoofed.words[0])
            check_host_is_closed(mesh, environment, laptop, programs["glibc"])
    assert sent
    # WireGuard itself has dropped the packets with other source addresses; the firewall must drop the rest.
    until(lambda: mesh.drops() > dropped, "nothing was dropped")
    assert [packet for capture in captures for packet in capture.kept] == []
    assert underlay.kept == []


def check_host_is_closed(mesh: Mesh, environment: PopulatedEnvironment, laptop: Host, program: Build) -> None:
    """Of its gateway it reaches the resolver, and no other port."""
    resolver = str(environment.network.network_address + 0x10)
    listening = mesh.nodes[GATEWAY].host.call(lambda: socket.create_server(("::", PORT), family=socket.AF_INET6))
    with listening:
        assert not any(reply.ok for reply in reach_all(laptop, program, resolver))


def test_services_reach_the_external_peer(
    environment: PopulatedEnvironment, laptop: Host, programs: dict[str, Build]
) -> None:
    until(lambda: talk_once(laptop, programs["musl"], "lookup", "web").ok, "no name is known there")
    shown = laptop.run(["ip", "-6", "-oneline", "address", "show", "dev", "office", "scope", "global"]).stdout
    address = shown.split()[3].removesuffix("/128")
    for member in environment.members:
        assert member.server.icmp(address).ok, member.name


def test_a_removed_peer_reaches_nothing(
    mesh: Mesh, environment: PopulatedEnvironment, laptop: Host, programs: dict[str, Build]
) -> None:
    until(lambda: talk_once(laptop, programs["musl"], "lookup", "web").ok, "no name is known there")
    gateway, key = mesh.nodes[GATEWAY], laptop.run(["wg", "show", "office", "public-key"]).stdout.strip()
    assert key in gateway.host.run(["wg", "show", "interlock0", "peers"]).stdout
    mesh.interlock("peer", "remove", "laptop", "--environment", environment.id)
    until(lambda: key not in gateway.host.run(["wg", "show", "interlock0", "peers"]).stdout, "it is still a peer")
    with ExitStack() as stack:
        captures = [stack.enter_context(Capture(member.workload.namespace)) for member in environment.members]
        for member in environment.members:
            assert not any(reply.ok for reply in reach_all(laptop, programs["glibc"], member.address))
        assert not talk_once(laptop, programs["musl"], "lookup", "web").ok
    assert [packet for capture in captures for packet in capture.kept] == []
    laptop.run(["wg-quick", "down", "office"])
    mesh.until_healthy()
