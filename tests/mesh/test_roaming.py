"""Underlays as they are: hosts behind NAT, several behind one address, IPv4 beside IPv6, addresses that change.

underlay
   ├─ p1, p2                   p2 at an IPv6 address; p1 at the address by which it reaches the control plane
   ├─ router of a site         one address outside for all that are inside
   │    └─ n1, n2              to which nobody outside can begin to send: --behind-nat
   └─ router of another site   with the same addresses inside
        └─ f1, f2              to which the router forwards a port each, of its IPv4 address
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator

import pytest

from tests.clients.builds import Build
from tests.mesh import mesh as meshes
from tests.mesh import topology
from tests.mesh.deploying import deployed
from tests.mesh.members import PopulatedEnvironment, populated
from tests.mesh.mesh import WIREGUARD, Mesh, Node, until
from tests.mesh.talking import ConnectionTimes
from tests.mesh.traffic import SERVICE, Traffic

HIDDEN = ("n1", "n2")
FORWARDED = {"f1": WIREGUARD, "f2": WIREGUARD + 1}
READ_BACKS = 2  # after so many, an endpoint that is left alone stays


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """The hosts above, in the place of the mesh whose hosts are all on one bridge."""
    if reason := topology.why_not():
        pytest.skip(f"no mesh of hosts: {reason}")
    with meshes.running(tmp_path_factory.mktemp("roaming")) as mesh:
        hiding, forwarding = mesh.underlay.site(), mesh.underlay.site()
        (p2,) = mesh.start([mesh.boot("p2", endpoint=f"[{topology.V6}3]:{WIREGUARD}")])
        assert p2.host.v6 == f"{topology.V6}3"
        mesh.add("p1", endpoint="auto", planes=[mesh.plane.url_of_ipv6])
        made = [mesh.boot(name, on=hiding, endpoint="auto", options=["--behind-nat"]) for name in HIDDEN]
        for name, port in FORWARDED.items():
            made.append(mesh.boot(name, on=forwarding, endpoint=f"{forwarding.v4_outside}:{port}"))
            forwarding.forward(port, made[-1].host.v4)
        mesh.start(made)
        yield mesh


@pytest.fixture(scope="module")
def environment(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    layout = {"web": {f"w-{host}": host for host in mesh.nodes}, SERVICE: {}}
    with populated(mesh, "roaming", layout, programs) as environment:
        yield environment


def endpoints(node: Node) -> dict[str, str]:
    """Where the device of ``node`` sends packets to, by host."""
    return {peer["host"]: str(peer["endpoint"]) for peer in node.ask("mesh")["peers"]}


def received_from(node: Node, host: str) -> int:
    """The octets that ``node`` had received from ``host`` when its device was last read."""
    return sum(peer["received"] for peer in node.ask("mesh")["peers"] if peer["host"] == host)


def until_hidden_are_found(node: Node, site: topology.Site) -> None:
    """Waits until ``node`` has read from its device that the hosts behind NAT are at the address of ``site``'s router.

    Until its next read-back it says what it set: the endpoints that they registered.
    """
    until(lambda: all(endpoints(node)[host] in site for host in HIDDEN), lambda: f"not found: {endpoints(node)}")


def check_all_reach_all(environment: PopulatedEnvironment, of: Collection[str] = ()) -> None:
    """Each member reaches all others; with ``of``, the members on those hosts do."""
    for one, other in environment.pairs():
        if of and one.node.name not in of:
            continue
        found = one.server.tcp(other.name)
        assert isinstance(found, ConnectionTimes), f"{one.name} to {other.name}: {found.text}"


def test_hosts_that_are_new_to_each_other_connect_at_once(mesh: Mesh, programs: dict[str, Build]) -> None:
    """Whoever has the smaller key: the host behind NAT begins, as soon as the other one can answer."""
    for number, (place, at) in enumerate((("n1", "p2"), ("p2", "n1"), ("n2", "p1"), ("p1", "n2"))):
        id_ = f"new-{number}"
        for node in (mesh.nodes[place], mesh.nodes[at]):
            until(lambda node=node: not node.ask("mesh")["peers"], "there are peers still")  # type: ignore[misc]
        with populated(mesh, id_, {"client": {"c": at}, SERVICE: {}}, programs) as environment:
            (client,) = environment.members
            with deployed(mesh.nodes[place], id_, SERVICE, "i", client.server, programs["glibc"]) as deploy:
                assert deploy.is_reached, f"{place} from {at}: {deploy}"


def test_all_reach_all(mesh: Mesh, environment: PopulatedEnvironment) -> None:
    check_all_reach_all(environment)
    mesh.until_healthy()
    nodes, (hiding, _) = mesh.nodes, mesh.underlay.sites
    assert nodes["p1"].ask("mesh")["endpoint"] == f"[{nodes['p1'].host.v6}]:{WIREGUARD}"
    # Hosts of one site have each other's own address; the router's is all that the others see of them.
    own = nodes["n2"].host
    assert endpoints(nodes["n1"])["n2"] in (f"{own.v4}:{WIREGUARD}", f"[{own.v6}]:{WIREGUARD}")
    for outside in ("p1", "p2", "f1", "f2"):
        until_hidden_are_found(nodes[outside], hiding)
    for name, node in nodes.items():
        kept = node.host.run(["wg", "show", "interlock0", "persistent-keepalive"]).stdout.split()[1::2]
        assert set(kept) == {"25" if name in HIDDEN else "off"}, name


@pytest.mark.parametrize("host", ["p1", "n1", "f1"])
def test_a_deploy_is_reached_at_once(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build], host: str
) -> None:
    for client in environment.members:
        with deployed(mesh.nodes[host], environment.id, SERVICE, client.id, client.server, programs["glibc"]) as deploy:
            assert deploy.is_reached, str(deploy)


@pytest.mark.parametrize("host", ["p2", "n1"])
def test_a_key_is_changed_under_traffic(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build], host: str
) -> None:
    with Traffic(environment, environment.members, environment.members, programs["musl"]) as traffic:
        traffic.until_deployed(2)
        mesh.nodes[host].ask("rotate")
        traffic.until_deployed(2)
    traffic.check()
    check_all_reach_all(environment)


def test_a_device_that_was_lost_finds_the_hosts_behind_nat_again(mesh: Mesh, environment: PopulatedEnvironment) -> None:
    node = mesh.nodes["p2"]
    hiding, _ = mesh.underlay.sites
    until_hidden_are_found(node, hiding)
    before = {hidden: endpoints(node)[hidden] for hidden in HIDDEN}
    node.host.run(["ip", "link", "delete", "interlock0"])
    deleted = time.monotonic()  # what is said of the device at first may be of the one that was deleted

    def found_again() -> bool:
        peers = {peer["host"]: peer for peer in node.ask("mesh")["peers"] if peer["handshake_age"] is not None}
        young = {host for host, peer in peers.items() if peer["handshake_age"] < time.monotonic() - deleted}
        return young >= before.keys() and all(str(peers[host]["endpoint"]) == before[host] for host in before)

    until(found_again, lambda: f"not as before ({before}): {node.ask('mesh')['peers']}")
    check_all_reach_all(environment)


def test_a_site_gets_another_address_under_traffic(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    router, public = mesh.underlay.sites[0], mesh.nodes["p1"]  # which n1 has a connection with
    members = [member for member in environment.members if member.node.name not in FORWARDED]
    with Traffic(environment, members, members, programs["musl"]) as traffic:
        traffic.until_deployed(2)
        router.renumber(240)
        until(lambda: endpoints(public)["n1"] in router, lambda: f"not followed: {endpoints(public)}")
        for _ in range(READ_BACKS):
            received = received_from(public, "n1")
            until(lambda received=received: received_from(public, "n1") > received, "nothing is read back")  # type: ignore[misc]
        assert endpoints(public)["n1"] in router
        traffic.until_deployed(2)
    traffic.check()
    # Who has heard nothing of a hidden host since then does so within 25 s, by a keepalive; or by any other packet.
    check_all_reach_all(environment, HIDDEN)
    check_all_reach_all(environment)
    mesh.until_healthy()


def test_a_host_gets_another_address_under_traffic(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    node, before, after = mesh.nodes["p1"], mesh.nodes["p1"].host.v6, f"{topology.V6}99"
    with Traffic(environment, environment.members, environment.members, programs["musl"]) as traffic:
        traffic.until_deployed(2)
        node.host.namespace.ip([f"address add {after}/64 dev eth0 nodad", f"address delete {before}/64 dev eth0"])
        others = [other for other in mesh.nodes.values() if other is not node]
        until(
            lambda: all(endpoints(other).get("p1") == f"[{after}]:{WIREGUARD}" for other in others),
            lambda: f"not followed: {[endpoints(other) for other in others]}",
        )
        traffic.until_deployed(2)
    traffic.check()
    assert node.ask("mesh")["endpoint"] == f"[{after}]:{WIREGUARD}"
    check_all_reach_all(environment)
    mesh.until_healthy()
