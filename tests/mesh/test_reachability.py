"""Who reaches whom: every instance every other of its environment, by name; nobody else, whoever they claim to be."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.clients.builds import Build
from tests.mesh.capture import LINK, WIREGUARD, Capture
from tests.mesh.members import ZONE, Layout, Member, Settled, at_once, settled
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.talking import PORT, Said, Talker, Times
from tests.mesh.topology import Workload

MEBI = 1 << 20
SHORT = 300  # ms that are waited for what must not come; what may come is there within a few
RESOLVER = "fd12::10"

# Both environments have all of these, under the same names; some on one host, some alone on theirs.
LAYOUT: Layout = {
    "web": {"w1": "h1", "w2": "h2", "w3": "h3"},
    "db": {"primary": "h4", "replica": "h1"},
    "api": {"a1": "h2"},
}


def attach_by_command(node: Node, environment: str, service: str, instance: str) -> Workload:
    """Attaches a new workload as an operator does."""
    workload = node.workload()
    done = node.interlock(
        "attach", "--environment", environment, "--service", service, "--instance", instance,
        "--netns", workload.path, "--resolv-conf", str(workload.resolv_conf), "--json",
    )  # fmt: skip
    workload.place = json.loads(done.stdout)
    return workload


@pytest.fixture(scope="module")
def red(mesh: Mesh, programs: dict[str, Build]) -> Iterator[Settled]:
    with settled(mesh, "red", LAYOUT, programs, attach_by_command) as environment:
        yield environment


@pytest.fixture(scope="module")
def blue(mesh: Mesh, programs: dict[str, Build]) -> Iterator[Settled]:
    with settled(mesh, "blue", {**LAYOUT, "only": {"blue": "h3"}}, programs) as environment:
        yield environment


@pytest.fixture(params=["red to blue", "blue to red"])
def across(request: pytest.FixtureRequest, red: Settled, blue: Settled) -> tuple[Settled, Settled]:
    """Who tries to reach whom, of two environments."""
    return (red, blue) if request.param == "red to blue" else (blue, red)


Try = Callable[[Talker, str], Times | Said]

TRIES: dict[str, Try] = {
    # TCP first, and with time. Here all hosts speak with each other for the first time, and at the same moment: where
    # two begin a handshake within a round trip, each takes the other's in place of its own, and WireGuard begins again
    # only 5 s later. A datagram would be lost.
    "TCP": lambda talker, name: talker.tcp(name, MEBI, 15_000),
    "UDP": lambda talker, name: talker.udp(name),
    "ICMP": lambda talker, name: talker.icmp(name),
}


@pytest.mark.parametrize("library", ["glibc", "musl"])
def test_every_pair_of_an_environment_connects_by_name_and_the_underlay_carries_only_wireguard(
    mesh: Mesh, red: Settled, blue: Settled, library: str
) -> None:
    def fail_all(member: Member, protocol: str) -> list[str]:
        failed = []
        for other in (red if member.environment == red.id else blue).members:
            if other is not member:
                found = TRIES[protocol](member.talkers[library], other.name)
                address = found.address if isinstance(found, Times) else found.words[0]
                if address != other.address:
                    failed.append(f"{protocol} {member.environment}: {member.name} to {other.name}: {found}")
        return failed

    before = mesh.underlay.carried()
    with Capture(mesh.underlay.namespace, passed_over=f"{WIREGUARD} or {LINK}") as underlay:
        for protocol in TRIES:
            failed = at_once(lambda member: fail_all(member, protocol), [*red.members, *blue.members])  # noqa: B023
            assert [one for some in failed for one in some] == []
    assert underlay.kept == []
    far = [pair for each in (red, blue) for pair in each.pairs() if pair[0].node is not pair[1].node]
    assert mesh.underlay.carried() > before + len(far) * 2 * MEBI


@pytest.mark.parametrize("library", ["glibc", "musl"])
def test_a_services_name_leads_to_all_of_its_instances(red: Settled, library: str) -> None:
    talker = red.members[-1].talkers[library]
    expected = {member.address for member in red.members if member.service == "web"}
    assert set(talker.lookup("web").words[1:]) == expected
    assert set(talker.lookup("web.railway.internal.").words[1:]) == expected


def test_one_name_is_another_service_in_another_environment(red: Settled, blue: Settled) -> None:
    for environment in (red, blue):
        found = environment.members[0].server.lookup("api")
        (expected,) = [member.address for member in environment.members if member.service == "api"]
        assert found.words[1:] == (expected,)
    unknown = red.members[0].server.lookup(f"only.{ZONE}")
    assert (unknown.ok, unknown.stage) == (False, "lookup")


def test_no_packet_passes_between_environments(across: tuple[Settled, Settled]) -> None:
    here, there = across

    def try_all(member: Member) -> list[str]:
        reached = []
        for other in there.members:
            talker, address = member.server, other.address
            tries = (talker.tcp(address, patience=SHORT), talker.udp(address, SHORT), talker.icmp(address, SHORT))
            reached += [
                f"{member.name} to {other.name}: {said}" for said in tries if isinstance(said, Times) or said.ok
            ]
        return reached

    with ExitStack() as stack:
        captures = [stack.enter_context(Capture(member.workload.namespace)) for member in there.members]
        reached = at_once(try_all, here.members)
    assert not any(reached)
    assert [packet for capture in captures for packet in capture.kept] == []


def test_no_spoofed_packet_arrives(mesh: Mesh, across: tuple[Settled, Settled]) -> None:
    here, there = across
    before = mesh.drops()

    def pretend(member: Member) -> int:
        sent = 0
        for other in there.members:
            # As one of theirs on the same host, as one on another, as the resolver, as nobody.
            for source in (*(one.address for one in there.members if one is not other), RESOLVER, "fd12:dead:beef::1"):
                sent += int(member.server.spoof(source, other.address).words[0])
        for other in here.members:
            # And as another of one's own environment.
            for one in here.members:
                if one not in (member, other) and other is not member:
                    sent += int(member.server.spoof(one.address, other.address).words[0])
        return sent

    with ExitStack() as stack:
        everybody = [*here.members, *there.members]
        captures = [stack.enter_context(Capture(member.workload.namespace)) for member in everybody]
        sent = sum(at_once(pretend, here.members))
    assert [packet for capture in captures for packet in capture.kept] == []
    until(
        lambda: mesh.drops() >= before + sent, lambda: f"{sent} packets were sent, and {mesh.drops() - before} dropped"
    )


def test_of_a_host_only_its_resolver_is_reached(mesh: Mesh, red: Settled) -> None:
    member = red.members[0]
    with ExitStack() as stack:
        for node in mesh.nodes.values():
            stack.enter_context(node.host.call(lambda: socket.create_server(("::", PORT), family=socket.AF_INET6)))
        for address in (RESOLVER, f"{red.network.network_address}10", member.node.host.v6, "fe80::1%railnet0"):
            tcp = member.server.tcp(address, patience=SHORT)
            assert not isinstance(tcp, Times), address
            assert not member.server.icmp(address, SHORT).ok, address
        # The one that serves is reached, so it is not for want of a server that nobody is.
        assert isinstance(red.members[1].server.tcp(red.members[0].name), Times)
