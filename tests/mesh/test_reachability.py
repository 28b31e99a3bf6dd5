"""Reachability: an instance reaches all others of its environment by name, and none of another, also by spoofing."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.clients.builds import Build
from tests.mesh.capture import EXPECTED, Capture
from tests.mesh.members import ZONE, Layout, Member, PopulatedEnvironment, at_once, populated
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.talking import PORT, ConnectionTimes, Reply, Talker
from tests.mesh.topology import Workload

MEBI = 1 << 20
NO_REPLY_TIMEOUT = 300  # ms to wait for a reply that must not come; one that may come takes a few
RESOLVER = "fd12::10"

# Both environments have all of these services and instances, under the same names.
LAYOUT: Layout = {
    "web": {"w1": "h1", "w2": "h2", "w3": "h3"},
    "db": {"primary": "h4", "replica": "h1"},
    "api": {"a1": "h2"},
}


def attach_by_command(node: Node, environment: str, service: str, instance: str) -> Workload:
    """Attaches a new workload with the command `interlock attach`."""
    workload = node.workload()
    done = node.interlock(
        "attach", "--environment", environment, "--service", service, "--instance", instance,
        "--netns", workload.path, "--resolv-conf", str(workload.resolv_conf), "--json",
    )  # fmt: skip
    workload.attach_answer = json.loads(done.stdout)
    return workload


@pytest.fixture(scope="module")
def red(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    with populated(mesh, "red", LAYOUT, programs, attach_by_command) as environment:
        yield environment


@pytest.fixture(scope="module")
def blue(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    with populated(mesh, "blue", {**LAYOUT, "only": {"blue": "h3"}}, programs) as environment:
        yield environment


@pytest.fixture(params=["red to blue", "blue to red"])
def across(
    request: pytest.FixtureRequest, red: PopulatedEnvironment, blue: PopulatedEnvironment
) -> tuple[PopulatedEnvironment, PopulatedEnvironment]:
    """Two environments: members of the first try to reach members of the second."""
    return (red, blue) if request.param == "red to blue" else (blue, red)


Try = Callable[[Talker, str], ConnectionTimes | Reply]

TRIES: dict[str, Try] = {
    # TCP first, and with a long timeout. Here all hosts send to each other for the first time, at the same moment. If
    # two begin a handshake within one round trip, each takes the other's in place of its own, and WireGuard begins
    # again only 5 s later. A datagram would be lost.
    "TCP": lambda talker, name: talker.tcp(name, MEBI, 15_000),
    "UDP": lambda talker, name: talker.udp(name),
    "ICMP": lambda talker, name: talker.icmp(name),
}


@pytest.mark.parametrize("library", ["glibc", "musl"])
def test_every_pair_of_an_environment_connects_by_name_and_the_underlay_carries_only_wireguard(
    mesh: Mesh, red: PopulatedEnvironment, blue: PopulatedEnvironment, library: str
) -> None:
    def fail_all(member: Member, protocol: str) -> list[str]:
        failed = []
        for other in (red if member.environment == red.id else blue).members:
            if other is not member:
                found = TRIES[protocol](member.talkers[library], other.name)
                address = found.address if isinstance(found, ConnectionTimes) else found.words[0]
                if address != other.address:
                    failed.append(f"{protocol} {member.environment}: {member.name} to {other.name}: {found}")
        return failed

    before = mesh.underlay.carried()
    with Capture(mesh.underlay.namespace, ignored=EXPECTED) as underlay:
        for protocol in TRIES:
            failed = at_once(lambda member: fail_all(member, protocol), [*red.members, *blue.members])  # noqa: B023
            assert [one for some in failed for one in some] == []
    assert underlay.kept == []
    far = [pair for each in (red, blue) for pair in each.pairs() if pair[0].node is not pair[1].node]
    assert mesh.underlay.carried() > before + len(far) * 2 * MEBI


@pytest.mark.parametrize("library", ["glibc", "musl"])
def test_a_service_name_resolves_to_all_instances(red: PopulatedEnvironment, library: str) -> None:
    talker = red.members[-1].talkers[library]
    expected = {member.address for member in red.members if member.service == "web"}
    assert set(talker.lookup("web").words[1:]) == expected
    assert set(talker.lookup("web.railway.internal.").words[1:]) == expected


def test_a_name_resolves_to_the_service_of_the_clients_own_environment(
    red: PopulatedEnvironment, blue: PopulatedEnvironment
) -> None:
    for environment in (red, blue):
        found = environment.members[0].server.lookup("api")
        (expected,) = [member.address for member in environment.members if member.service == "api"]
        assert found.words[1:] == (expected,)
    unknown = red.members[0].server.lookup(f"only.{ZONE}")
    assert (unknown.ok, unknown.stage) == (False, "lookup")


def test_no_packet_passes_between_environments(across: tuple[PopulatedEnvironment, PopulatedEnvironment]) -> None:
    here, there = across

    def try_all(member: Member) -> list[str]:
        reached = []
        for other in there.members:
            talker, address = member.server, other.address
            tries = (
                talker.tcp(address, timeout=NO_REPLY_TIMEOUT),
                talker.udp(address, NO_REPLY_TIMEOUT),
                talker.icmp(address, NO_REPLY_TIMEOUT),
            )
            reached += [
                f"{member.name} to {other.name}: {reply}"
                for reply in tries
                if isinstance(reply, ConnectionTimes) or reply.ok
            ]
        return reached

    with ExitStack() as stack:
        captures = [stack.enter_context(Capture(member.workload.namespace)) for member in there.members]
        reached = at_once(try_all, here.members)
    assert not any(reached)
    assert [packet for capture in captures for packet in capture.kept] == []


def test_no_spoofed_packet_arrives(mesh: Mesh, across: tuple[PopulatedEnvironment, PopulatedEnvironment]) -> None:
    here, there = across
    before = mesh.drops()

    def spoof_all(member: Member) -> int:
        sent = 0
        for other in there.members:
            # As a member of theirs on the same host, as one on another, as the resolver, as an address of nobody.
            for source in (*(one.address for one in there.members if one is not other), RESOLVER, "fd12:dead:beef::1"):
                sent += int(member.server.spoof(source, other.address).words[0])
        for other in here.members:
            # And as another member of the sender's own environment.
            for one in here.members:
                if one not in (member, other) and other is not member:
                    sent += int(member.server.spoof(one.address, other.address).words[0])
        return sent

    with ExitStack() as stack:
        all_members = [*here.members, *there.members]
        captures = [stack.enter_context(Capture(member.workload.namespace)) for member in all_members]
        sent = sum(at_once(spoof_all, here.members))
    assert [packet for capture in captures for packet in capture.kept] == []
    until(
        lambda: mesh.drops() >= before + sent, lambda: f"{sent} packets were sent, and {mesh.drops() - before} dropped"
    )


def test_a_workload_reaches_nothing_of_a_host_but_its_resolver(mesh: Mesh, red: PopulatedEnvironment) -> None:
    member = red.members[0]
    with ExitStack() as stack:
        for node in mesh.nodes.values():
            stack.enter_context(node.host.call(lambda: socket.create_server(("::", PORT), family=socket.AF_INET6)))
        for address in (RESOLVER, f"{red.network.network_address}10", member.node.host.v6, "fe80::1%railnet0"):
            tcp = member.server.tcp(address, timeout=NO_REPLY_TIMEOUT)
            assert not isinstance(tcp, ConnectionTimes), address
            assert not member.server.icmp(address, NO_REPLY_TIMEOUT).ok, address
        # The control: an instance with the same server is reached.
        assert isinstance(red.members[1].server.tcp(red.members[0].name), ConnectionTimes)
