"""One mesh of hosts with their kernel's WireGuard and of a host with wireguard-go: nobody notices a difference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import wireguard
from tests.clients.builds import Build
from tests.mesh import mesh as meshes
from tests.mesh import topology
from tests.mesh.deploying import deployed
from tests.mesh.members import Layout, PopulatedEnvironment, populated
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.talking import PORT, ConnectionTimes
from tests.mesh.traffic import SERVICE, Traffic

MISSING = topology.why_not() or " and ".join(filter(None, map(wireguard.why_not, wireguard.DEVICES)))
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not both kinds of WireGuard: {MISSING}")

HOSTS = {"k1": "kernel", "k2": "kernel", "g1": "userspace"}
LAYOUT: Layout = {"web": {f"w-{host}": host for host in HOSTS}, SERVICE: {}}
NO_REPLY_TIMEOUT = 300  # ms to wait for a reply that must not come
# ms, in the guest too: a handshake that is lost is begun again after 5 s, the TCP client sends again after 7 s; and a
# lost session that nobody tells them of is found out after 15 s.
FOUND_AGAIN = 12_000


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh of `HOSTS`, in the place of the one whose hosts are all of one kind."""
    with meshes.running(tmp_path_factory.mktemp("both")) as mesh:
        mesh.start([mesh.boot(host, wireguard=device) for host, device in HOSTS.items()])
        assert {host: node.device for host, node in mesh.nodes.items()} == HOSTS
        yield mesh


@pytest.fixture(scope="module")
def environment(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    with populated(mesh, "both", LAYOUT, programs) as environment:
        yield environment


def check_all_reach_all(environment: PopulatedEnvironment) -> None:
    for one, other in environment.pairs():
        found = one.server.tcp(other.name)
        assert isinstance(found, ConnectionTimes), f"{one.name} to {other.name}: {found.text}"


def test_all_reach_all(environment: PopulatedEnvironment) -> None:
    check_all_reach_all(environment)


@pytest.mark.parametrize("host", HOSTS)
def test_a_deploy_is_reached_at_once(environment: PopulatedEnvironment, programs: dict[str, Build], host: str) -> None:
    node = next(member.node for member in environment.members if member.node.name == host)
    for client in environment.members:
        with deployed(node, environment.id, SERVICE, client.id, client.server, programs["musl"]) as deploy:
            assert deploy.is_reached, str(deploy)


def test_another_environment_is_not_reached(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    with populated(mesh, "other", {"web": {"x-k": "k2", "x-g": "g1"}}, programs) as other:
        check_all_reach_all(other)
        for one in environment.members:
            for there in other.members:
                assert not isinstance(one.server.tcp(there.address, 1, NO_REPLY_TIMEOUT, PORT), ConnectionTimes)
                assert not one.server.icmp(there.address, NO_REPLY_TIMEOUT).ok


@pytest.mark.parametrize("host", ["k1", "g1"])
def test_a_key_is_changed_under_traffic(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build], host: str
) -> None:
    before = mesh.nodes[host].ask("mesh")["public_key"]
    with Traffic(environment, environment.members, environment.members, programs["musl"]) as traffic:
        traffic.until_deployed(2)
        assert mesh.nodes[host].ask("rotate")["public_key"] != before
        traffic.until_deployed(2)
    traffic.check()
    check_all_reach_all(environment)


@pytest.mark.parametrize("host", ["k1", "g1"])
def test_manual_changes_are_repaired(mesh: Mesh, environment: PopulatedEnvironment, host: str) -> None:
    (repaired,) = (member for member in environment.members if member.node.name == host)
    others = [member for member in environment.members if member is not repaired]
    node, device = repaired.node, "interlock0"
    for change in (
        ["wg", "set", device, "listen-port", "51999"],
        ["ip", "link", "set", device, "down"],
        ["ip", "link", "delete", device],
    ):
        mesh.until_healthy()
        repairs = repairs_of(node)
        node.host.run(change)
        repaired.server.icmp(others[0].name)  # from the other port, if it is so soon, which the other host follows
        until(lambda repairs=repairs: repairs_of(node) > repairs, f"not repaired: {change}")  # type: ignore[misc]
        for other in others:
            found = other.server.tcp(repaired.name, timeout=FOUND_AGAIN)
            assert isinstance(found, ConnectionTimes), f"{change}: {other.name} to {repaired.name}: {found.text}"
    check_all_reach_all(environment)


def repairs_of(node: Node) -> float:
    return node.metrics()["interlock_mesh_repairs_total"]
