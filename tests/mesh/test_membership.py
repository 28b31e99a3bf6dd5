"""Hosts join and leave, change their keys and are drained, under traffic that does not notice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from agent.control.client import Refusal
from tests.clients.builds import Build
from tests.mesh.deploying import deployed
from tests.mesh.members import Layout, PopulatedEnvironment, instance_name, populated
from tests.mesh.mesh import AGENT_DIRECTORY, Mesh, Node, until
from tests.mesh.talking import ConnectionTimes
from tests.mesh.traffic import SERVICE, Traffic

LAYOUT: Layout = {"web": {"w1": "h1", "w2": "h2", "w3": "h3", "w4": "h4"}, SERVICE: {}}


@pytest.fixture
def environment(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    with populated(mesh, "membership", LAYOUT, programs) as environment:
        yield environment


@pytest.fixture
def newcomer(mesh: Mesh) -> Iterator[str]:
    """The name of a host that joins. It is removed however the test ends."""
    yield "h5"
    if node := mesh.nodes.get("h5"):
        mesh.remove(node)


class Peer(NamedTuple):
    """The counters of a peer on a host's device: Unix time of the last handshake, octets received, octets sent."""

    handshake: int
    received: int
    sent: int


def peers(node: Node) -> dict[str, Peer]:
    """The peers of the device of ``node``, by public key."""
    lines = node.host.run(["wg", "show", "interlock0", "dump"]).stdout.splitlines()[1:]
    return {fields[0]: Peer(*map(int, fields[4:7])) for fields in (line.split("\t") for line in lines)}


def public_key(node: Node) -> str:
    key: str = node.ask("mesh")["public_key"]
    return key


class Untouched:
    """The counters of the devices of ``nodes`` for each other. They only grow, unless a peer is added again."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes, self._keys = nodes, {public_key(node) for node in nodes}
        self._before = self._read()

    def check(self) -> None:
        """Fails if a peer was removed or added again since the start."""
        after = self._read()
        assert after.keys() == self._before.keys()
        assert [
            between for between, before in self._before.items() if any(map(int.__lt__, after[between], before))
        ] == []

    def _read(self) -> dict[tuple[str, str], Peer]:
        return {
            (node.name, key): peer for node in self._nodes for key, peer in peers(node).items() if key in self._keys
        }


def traces(node: Node) -> list[str]:
    """All that the product has made on the system of ``node``, except its logs."""
    commands = {
        "link": "ip -brief link show | grep -E '^(interlock|rail)'",
        "route": "ip -6 route show table all | grep fd12:",
        "address": "ip -6 -oneline address show | grep fd12:",
        "neighbour": "ip -6 neighbour show | grep fd12:",
        "rule": "nft list tables",
        "process": "pidof wireguard-go",
        "file": f"find {AGENT_DIRECTORY} {node.state} /run/wireguard /etc/netns -mindepth 1 -not -type d",
    }
    return [
        f"{kind}: {line}"
        for kind, command in commands.items()
        for line in node.host.run(["sh", "-c", command], check=False).stdout.splitlines()
    ]


def test_a_host_joins_and_leaves_under_traffic(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build], newcomer: str
) -> None:
    untouched = Untouched(list(mesh.nodes.values()))
    with Traffic(environment, environment.members, environment.members, programs["musl"]) as traffic:
        traffic.until_deployed(3)
        (node,) = mesh.add(newcomer)
        key = public_key(node)
        for member in environment.members:
            with deployed(
                node, environment.id, SERVICE, f"for-{member.id}", member.server, programs["glibc"]
            ) as deploy:
                assert deploy.is_reached, str(deploy)
        workload = node.workload()
        netns = ("--netns", workload.path)  # its resolv.conf is written where ip-netns(8) looks for it
        node.interlock("attach", "--environment", environment.id, "--service", SERVICE, "--instance", "last", *netns)
        kinds = {trace.partition(":")[0] for trace in traces(node)}
        process = {"process"} if node.device == "userspace" else set()
        assert kinds == {"link", "route", "address", "neighbour", "rule", "file"} | process

        node.ask("leave")
        until(lambda: not node.agent.is_running, "the agent goes on")
        node.resolver.stop()
        assert traces(node) == []
        assert "railnet0" not in workload.run(["ip", "-brief", "link"]).stdout
        until(lambda: all(key not in peers(member.node) for member in environment.members), "its key is still known")
        registered = mesh.interlock("host", "list").stdout.splitlines()
        assert newcomer not in [line.split()[0] for line in registered]  # not "in the text": a key may contain it
        assert not environment.members[0].server.lookup(instance_name(SERVICE, "last")).ok
        traffic.until_deployed(3)
    mesh.remove(node)
    traffic.check()
    untouched.check()
    mesh.until_healthy()


def test_a_host_changes_its_key_under_traffic(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    node, *others = (member.node for member in environment.members)
    untouched, before = Untouched(others), public_key(node)
    with Traffic(environment, environment.members, environment.members, programs["musl"]) as traffic:
        traffic.until_deployed(3)
        after = node.ask("rotate")["public_key"]
        traffic.until_deployed(3)
    traffic.check()
    untouched.check()
    assert before != after == public_key(node)
    for other in others:
        until(lambda other=other: before not in peers(other), "the old key is still known")  # type: ignore[misc]
        assert after in peers(other)
    mesh.until_healthy()
    for one, two in environment.pairs():
        assert isinstance(one.server.tcp(two.name), ConnectionTimes)


def test_a_host_is_drained_under_traffic(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    first, *_, drained = environment.members
    all_members = {member.address for member in environment.members}

    def answered() -> set[str]:
        return set(first.server.lookup("web").words[1:])

    with Traffic(environment, environment.members, environment.members[:-1], programs["musl"]) as traffic:
        assert answered() == all_members
        mesh.interlock("host", "drain", drained.node.name)
        until(lambda: answered() == all_members - {drained.address}, "its instance is still answered")
        assert isinstance(first.server.tcp(drained.name), ConnectionTimes)  # its own name is answered until the end
        with pytest.raises(Refusal, match="drained") as refusal:
            drained.node.attach(environment.id, SERVICE, "late")
        assert refusal.value.kind == "refused"
        traffic.until_deployed(3)
        mesh.interlock("host", "undrain", drained.node.name)
        until(lambda: answered() == all_members, "its instance is not answered again")
        with deployed(drained.node, environment.id, SERVICE, "again", first.server, programs["glibc"]) as deploy:
            assert deploy.is_reached, str(deploy)
    traffic.check()
    mesh.until_healthy()
