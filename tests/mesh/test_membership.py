"""Hosts come and go, change their keys and are drained, under traffic: nobody else notices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from agent.control.client import Refusal
from tests.clients.builds import Build
from tests.mesh.deploying import deployed
from tests.mesh.members import Layout, Settled, instance_name, settled
from tests.mesh.mesh import AGENT_DIRECTORY, Mesh, Node, until
from tests.mesh.talking import Times
from tests.mesh.traffic import SERVICE, Traffic

LAYOUT: Layout = {"web": {"w1": "h1", "w2": "h2", "w3": "h3", "w4": "h4"}, SERVICE: {}}


@pytest.fixture
def environment(mesh: Mesh, programs: dict[str, Build]) -> Iterator[Settled]:
    with settled(mesh, "membership", LAYOUT, programs) as environment:
        yield environment


@pytest.fixture
def newcomer(mesh: Mesh) -> Iterator[str]:
    """The name of a host that joins. However the test ends, the others are left as they were."""
    yield "h5"
    if node := mesh.nodes.get("h5"):
        mesh.remove(node)


class Peer(NamedTuple):
    """A peer as a host's device counts for it: the Unix time of the newest handshake, and octets."""

    handshake: int
    received: int
    sent: int


def peers(node: Node) -> dict[str, Peer]:
    """By public key, in the words of wg(8)."""
    lines = node.host.run(["wg", "show", "interlock0", "dump"]).stdout.splitlines()[1:]
    return {told[0]: Peer(*map(int, told[4:7])) for told in (line.split("\t") for line in lines)}


def public_key(node: Node) -> str:
    key: str = node.ask("mesh")["public_key"]
    return key


class Untouched:
    """What the devices of ``nodes`` count for each other: it only grows, unless a peer is made anew."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes, self._keys = nodes, {public_key(node) for node in nodes}
        self._before = self._read()

    def check(self) -> None:
        """Fails if one has been made anew since the start."""
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
    """What there is of the product on the system of ``node``, but its logs."""
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
    mesh: Mesh, environment: Settled, programs: dict[str, Build], newcomer: str
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
        netns = ("--netns", workload.path)  # its resolv.conf goes where ip-netns(8) looks for it
        node.interlock("attach", "--environment", environment.id, "--service", SERVICE, "--instance", "last", *netns)
        kinds = {trace.partition(":")[0] for trace in traces(node)}
        assert kinds == {"link", "route", "address", "neighbour", "rule", "process", "file"}

        node.ask("leave")
        until(lambda: not node.agent.is_running, "the agent goes on")
        node.resolver.stop()
        assert traces(node) == []
        assert "railnet0" not in workload.run(["ip", "-brief", "link"]).stdout
        until(lambda: all(key not in peers(member.node) for member in environment.members), "its key is still known")
        registered = mesh.interlock("host", "list").stdout.splitlines()
        assert newcomer not in [line.split()[0] for line in registered]  # a key may have it in it
        assert not environment.members[0].server.lookup(instance_name(SERVICE, "last")).ok
        traffic.until_deployed(3)
    mesh.remove(node)
    traffic.check()
    untouched.check()
    mesh.until_whole()


def test_a_key_is_changed_under_traffic(mesh: Mesh, environment: Settled, programs: dict[str, Build]) -> None:
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
    mesh.until_whole()
    for one, two in environment.pairs():
        assert isinstance(one.server.tcp(two.name), Times)


def test_a_host_is_drained_under_traffic(mesh: Mesh, environment: Settled, programs: dict[str, Build]) -> None:
    first, *_, drained = environment.members
    everybody = {member.address for member in environment.members}

    def answered() -> set[str]:
        return set(first.server.lookup("web").words[1:])

    with Traffic(environment, environment.members, environment.members[:-1], programs["musl"]) as traffic:
        assert answered() == everybody
        mesh.interlock("host", "drain", drained.node.name)
        until(lambda: answered() == everybody - {drained.address}, "its instance is still answered")
        assert isinstance(first.server.tcp(drained.name), Times)  # by its own name it is there to the end
        with pytest.raises(Refusal, match="drained") as refusal:
            drained.node.attach(environment.id, SERVICE, "late")
        assert refusal.value.kind == "refused"
        traffic.until_deployed(3)
        mesh.interlock("host", "undrain", drained.node.name)
        until(lambda: answered() == everybody, "its instance is not answered again")
        with deployed(drained.node, environment.id, SERVICE, "again", first.server, programs["glibc"]) as deploy:
            assert deploy.is_reached, str(deploy)
    traffic.check()
    mesh.until_whole()
