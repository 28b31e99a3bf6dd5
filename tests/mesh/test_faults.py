"""Programs are killed, and the system is changed manually: connections go on, no answer is wrong, all is repaired."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.control.client import NoAgent
from agent.system.route_messages import OUR_GROUP
from tests.clients.builds import Build
from tests.mesh.deploying import deployed
from tests.mesh.members import Layout, Member, PopulatedEnvironment, instance_name, populated
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.talking import ConnectionTimes
from tests.mesh.topology import Workload
from tests.mesh.traffic import SERVICE, Traffic

LAYOUT: Layout = {"web": {"w1": "h1", "w2": "h2", "w3": "h3", "w4": "h4"}, SERVICE: {}}


@pytest.fixture
def environment(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    with populated(mesh, "faults", LAYOUT, programs) as environment:
        yield environment


def all_but(environment: PopulatedEnvironment, *hosts: str) -> list[Member]:
    return [member for member in environment.members if member.node.name not in hosts]


def check_all_reach_all(mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]) -> None:
    """All members reach each other, and new deploys on every host are reached."""
    mesh.until_healthy()
    for one, other in environment.pairs():
        found = one.server.tcp(other.name)
        assert isinstance(found, ConnectionTimes), f"{one.name} to {other.name}: {found.text}"
    for place, client in zip(environment.members, reversed(environment.members), strict=True):
        with deployed(place.node, environment.id, SERVICE, place.node.name, client.server, programs["glibc"]) as deploy:
            assert deploy.is_reached, str(deploy)


# Killed


def test_traffic_and_deploys_go_on_while_an_agent_is_killed(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    with Traffic(environment, environment.members, all_but(environment, "h2"), programs["musl"]) as traffic:
        traffic.until_deployed(3)
        mesh.nodes["h2"].agent.kill()
        traffic.until_deployed(3)
        mesh.nodes["h2"].agent.start()
        mesh.nodes["h2"].until_ready()
        traffic.until_deployed(3)
    traffic.check()
    check_all_reach_all(mesh, environment, programs)


def test_an_attach_that_a_killed_agent_had_begun_is_finished_by_the_next_agent(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    node, other, workload = mesh.nodes["h2"], mesh.nodes["h3"], mesh.nodes["h2"].workload()
    try:
        os.kill(other.agent.pid, signal.SIGSTOP)  # so that the attach has to wait for it
        waiting = threading.Thread(target=lambda: _attach_without_answer(node, environment, workload))
        waiting.start()
        until(lambda: "attaching" in _phases(node), "the attach was not begun")
        node.agent.kill()
        waiting.join()
        os.kill(other.agent.pid, signal.SIGCONT)
        node.agent.start()
        node.until_ready()
        until(lambda: _phases(node) == ["attached", "attached"], lambda: f"the attach was not resumed: {_phases(node)}")
        begun = instance_name(SERVICE, "begun")
        client = next(member for member in environment.members if member.node is other)
        found = client.server.lookup(begun)
        assert found.ok, found.text
        assert client.server.icmp(begun).ok
    finally:
        node.detach(environment.id, SERVICE, "begun")
        workload.remove()
    check_all_reach_all(mesh, environment, programs)


def test_traffic_and_deploys_go_on_while_a_resolver_is_killed(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    members = [*all_but(environment, "h1", "h2", "h4"), *all_but(environment, "h3")]  # the queries are sent on h3
    with Traffic(environment, members, all_but(environment, "h3"), programs["musl"]) as traffic:
        traffic.until_deployed(3)
        mesh.nodes["h3"].resolver.kill()
        traffic.until_deployed(3)
        mesh.nodes["h3"].resolver.start()
        mesh.nodes["h3"].until_ready()
        traffic.until_deployed(3)
    traffic.check()
    assert traffic.prober.unanswered  # the resolver that was queried was the one that was killed
    check_all_reach_all(mesh, environment, programs)


def test_traffic_goes_on_and_deploys_are_refused_while_the_store_is_killed(
    mesh: Mesh, environment: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    with Traffic(environment, environment.members, environment.members, programs["musl"]) as traffic:
        traffic.until_deployed(3)
        mesh.kill_store()
        traffic.until_refused()
        for one, other in environment.pairs():
            found = one.server.lookup(other.name)
            assert found.words[1:] == (other.address,), found.text
        mesh.start_store()
        traffic.until_deployed(3)
    traffic.check(refusals=True)
    assert all(reason.startswith("unavailable: ") for reason in traffic.refused)
    check_all_reach_all(mesh, environment, programs)


def test_traffic_and_deploys_go_on_when_a_host_loses_its_power(mesh: Mesh, programs: dict[str, Build]) -> None:
    with populated(mesh, "power", LAYOUT, programs) as environment:
        rest = all_but(environment, "h4")
        (dead,) = all_but(environment, "h1", "h2", "h3")
        with Traffic(environment, rest, rest, programs["musl"]) as traffic:
            traffic.until_deployed(3)
            dead.node.host.unplug()
            dead.node.host.kill()
            traffic.until_deployed(3)
            assert dead.node.name in str(rest[0].node.ask("mesh")["problems"])
            dead.node.restart()
            dead.node.until_ready()
            traffic.until_deployed(3)
        traffic.check()
        # Its workloads are gone, and so must be their names.
        until(lambda: not rest[0].server.lookup(dead.name).ok, f"{dead.name} is still answered")
        environment.members.remove(dead)
        mesh.until_healthy()
        for client in rest:
            with deployed(dead.node, environment.id, SERVICE, "again", client.server, programs["glibc"]) as deploy:
                assert deploy.is_reached, str(deploy)


# Manual changes


def _drop_peer(node: Node, other: Node) -> None:
    node.host.run(["wg", "set", "interlock0", "peer", other.ask("mesh")["public_key"], "remove"])


def _allow_nothing(node: Node, other: Node) -> None:
    node.host.run(["wg", "set", "interlock0", "peer", other.ask("mesh")["public_key"], "allowed-ips", ""])


def _allow_everything(node: Node, other: Node) -> None:
    node.host.run(["wg", "set", "interlock0", "peer", other.ask("mesh")["public_key"], "allowed-ips", "fd12::/16"])


def _change_port(node: Node, _other: Node) -> None:
    node.host.run(["wg", "set", "interlock0", "listen-port", "51999"])


def _flush_rules(node: Node, _other: Node) -> None:
    node.host.run(["nft", "flush", "ruleset"])


def _flush_chain(node: Node, _other: Node) -> None:
    node.host.run(["nft", "flush", "chain", "inet", "interlock", "between"])


def _drop_members(node: Node, _other: Node) -> None:
    node.host.run(["nft", "flush", "set", "inet", "interlock", "pins"])


def _delete_prefix(node: Node, _other: Node) -> None:
    node.host.run(["ip", "-6", "route", "delete", "fd12::/16", "dev", "interlock0"])


def _delete_routes(node: Node, _other: Node) -> None:
    for attachment in node.ask("mesh")["attachments"]:
        node.host.run(["ip", "-6", "route", "delete", attachment["address"], "dev", attachment["link"]])


def _delete_neighbours(node: Node, _other: Node) -> None:
    for attachment in node.ask("mesh")["attachments"]:
        node.host.run(["ip", "-6", "neighbour", "delete", attachment["address"], "dev", attachment["link"]])


def _delete_resolver(node: Node, _other: Node) -> None:
    node.host.run(["ip", "-6", "address", "delete", "fd12::10/128", "dev", "interlock0"])


def _change_groups(node: Node, _other: Node) -> None:
    for link in ("interlock0", *(attachment["link"] for attachment in node.ask("mesh")["attachments"])):
        node.host.run(["ip", "link", "set", link, "group", "default"])


def _stop_forwarding(node: Node, _other: Node) -> None:
    node.host.run(["sysctl", "-w", "net.ipv6.conf.all.forwarding=0"])


def _switch_ipv6_off(node: Node, _other: Node) -> None:
    for attachment in node.ask("mesh")["attachments"]:
        node.host.run(["sysctl", "-w", f"net.ipv6.conf.{attachment['link']}.disable_ipv6=1"])


def _set_down(node: Node, _other: Node) -> None:
    node.host.run(["ip", "link", "set", "interlock0", "down"])


def _delete_device(node: Node, _other: Node) -> None:
    node.host.run(["ip", "link", "delete", "interlock0"])


def _kill_tunnel(node: Node, _other: Node) -> None:
    # pidof finds only this host's, by its process namespace. After an earlier change it may not run again yet.
    kill = ["sh", "-c", "kill -KILL $(pidof wireguard-go)"]
    until(lambda: node.host.run(kill, check=False).returncode == 0, "there is no wireguard-go to be killed")


MANUAL_CHANGES: dict[str, Callable[[Node, Node], None]] = {
    "a peer is removed": _drop_peer,
    "a peer is allowed nothing": _allow_nothing,
    "a peer is allowed everything": _allow_everything,
    "the device listens on another port": _change_port,
    "all rules are flushed": _flush_rules,
    "one chain is flushed": _flush_chain,
    "the pins are flushed": _drop_members,
    "the platform's route is deleted": _delete_prefix,
    "the workloads' routes are deleted": _delete_routes,
    "the workloads' neighbours are deleted": _delete_neighbours,
    "the resolver's address is deleted": _delete_resolver,
    "the links lose their group": _change_groups,
    "the host stops to forward": _stop_forwarding,
    "IPv6 is switched off on the workloads' links": _switch_ipv6_off,
    "the device is set down": _set_down,
    "the device is deleted": _delete_device,
    "wireguard-go is killed": _kill_tunnel,
}


def state(node: Node) -> dict[str, list[str]]:
    """The device, links and rules of ``node`` as its system shows them, without what changes by itself."""
    commands = {
        "peers": "wg show interlock0 allowed-ips; wg show interlock0 listen-port; wg show interlock0 public-key",
        # Without the members of sets that packets add and that end by themselves.
        "rules": "nft --stateless list ruleset | grep -v 'limit rate over'",
        "links": "ip -brief link show interlock0 | cut -d ' ' -f 1; ip -oneline link show up interlock0 | wc -l",
        "groups": f"ip -brief link show group {OUR_GROUP} | cut -d ' ' -f 1",
        "addresses": "ip -6 -brief address show | sed 's/@[^ ]*//'",
        "routes": "ip -6 route show table all",
        "neighbours": "ip -6 neighbour show nud permanent",
    }
    # A command that fails, as wg does while there is no device, is a state like any other: its message is compared.
    found = {name: node.host.run(["sh", "-c", f"({text}) 2>&1"], check=False).stdout for name, text in commands.items()}
    return {name: sorted(" ".join(sorted(line.split())) for line in text.splitlines()) for name, text in found.items()}


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    return [
        f"{name}: {line}: {'gone' if line in before[name] else 'new'}"
        for name in before
        for line in set(before[name]) ^ set(after[name])
    ]


@pytest.mark.parametrize("change", MANUAL_CHANGES)
def test_a_manual_change_is_repaired(mesh: Mesh, environment: PopulatedEnvironment, change: str) -> None:
    node, other = mesh.nodes["h1"], mesh.nodes["h2"]
    mesh.until_healthy()
    has_device = ["wg", "show", "interlock0"]
    until(lambda: node.host.run(has_device, check=False).returncode == 0, "there is no device to begin with")
    if MANUAL_CHANGES[change] is _kill_tunnel and node.device == "kernel":
        pytest.skip("the hosts use the WireGuard of the kernel, which has no process to kill")
    before, repairs = state(node), node.metrics()["interlock_mesh_repairs_total"]
    with Traffic(environment, environment.members) as traffic:
        MANUAL_CHANGES[change](node, other)
        until(
            lambda: node.metrics()["interlock_mesh_repairs_total"] > repairs and state(node) == before,
            lambda: f"not repaired: {difference(before, state(node))}",
        )
    traffic.check()
    for one, two in environment.pairs():
        found = one.server.tcp(two.name)
        assert isinstance(found, ConnectionTimes), f"{one.name} to {two.name}: {found.text}"


LINK_CHANGES = {
    # on the host, where {0} is the workload's link
    "its MAC address": "ip link set {0} address 06:00:00:00:00:01",
    "its name": "ip link set {0} down; ip link set {0} name renamed; ip link set renamed up",
    "an MTU that is too small for IPv6": "ip link set {0} mtu 1000",
    "its state": "ip link set {0} down",
    "its filters": "tc qdisc del dev {0} clsact",
}
CHANGES_INSIDE = {
    # in the workload, where {0} is the MAC address of its link
    "its neighbour": "ip neighbour delete fe80::1 dev railnet0",
    "its MAC address, there and back": (
        "ip link set railnet0 address 02:00:00:00:00:01 && ip link set railnet0 address {0}"
    ),
    "another address": "ip address add fd99::1/64 dev railnet0 nodad && ip address flush dev railnet0 to fd12::/16",
    "its route": "ip -6 route replace fd12::/16 dev railnet0",
    "an MTU that is too small for IPv6": "ip link set railnet0 mtu 1000",
    "its name": "ip link set railnet0 down && ip link set railnet0 name renamed && ip link set renamed up",
}


@pytest.mark.parametrize("change", LINK_CHANGES)
def test_a_workloads_link_is_repaired_on_the_host(mesh: Mesh, environment: PopulatedEnvironment, change: str) -> None:
    mesh.until_healthy()
    changed = environment.members[0]
    node = changed.node
    (link,) = (one["link"] for one in node.ask("mesh")["attachments"] if one["address"] == changed.address)
    node.host.run(["sh", "-c", LINK_CHANGES[change].format(link)])
    until_all_reach_it(environment, changed)
    mesh.until_healthy()


@pytest.mark.parametrize("change", CHANGES_INSIDE)
def test_a_workloads_link_is_repaired_inside(mesh: Mesh, environment: PopulatedEnvironment, change: str) -> None:
    mesh.until_healthy()
    changed = environment.members[0]
    changed.workload.run(["sh", "-c", CHANGES_INSIDE[change].format(changed.workload.attach_answer["mac"])])
    until_all_reach_it(environment, changed)
    mesh.until_healthy()


def until_all_reach_it(environment: PopulatedEnvironment, changed: Member) -> None:
    """Returns when ``changed`` and all others reach each other: what nothing notifies of is found by an inspection."""
    for one in environment.members:
        if one is not changed:
            until(lambda one=one: one.server.icmp(changed.address).ok, f"{one.name} does not reach {changed.name}")  # type: ignore[misc]
            until(lambda one=one: changed.server.icmp(one.address).ok, f"{changed.name} does not reach {one.name}")  # type: ignore[misc]


@pytest.mark.parametrize(
    "change", ["the device listens on another port", "the device is set down", "the device is deleted"]
)
def test_after_a_repair_of_the_device_others_need_not_wait_for_a_packet_from_there(
    mesh: Mesh, environment: PopulatedEnvironment, change: str
) -> None:
    """They may have followed the device to its other port, or go on in sessions that it has lost: for 15 s or more."""
    one, two, *_ = environment.members
    mesh.until_healthy()
    assert two.server.icmp(one.name).ok
    until_read_back(one.node)
    repairs = one.node.metrics()["interlock_mesh_repairs_total"]
    MANUAL_CHANGES[change](one.node, two.node)
    if MANUAL_CHANGES[change] is _change_port:
        assert one.server.icmp(two.name, timeout=5000).ok  # which shows the other port to the other host
    until(lambda: one.node.metrics()["interlock_mesh_repairs_total"] > repairs, "not repaired")
    found = two.server.tcp(one.name)
    assert isinstance(found, ConnectionTimes), found.text


def until_read_back(node: Node) -> None:
    """Returns when the system of ``node`` has just been read: what nothing notifies of is then found 5 s later."""
    before = node.metrics()["interlock_mesh_read_backs_total"]
    until(lambda: node.metrics()["interlock_mesh_read_backs_total"] > before, "the system is not read")


def _attach_without_answer(node: Node, environment: PopulatedEnvironment, workload: Workload) -> None:
    with pytest.raises(NoAgent):
        node.attach(environment.id, SERVICE, "begun", workload)


def _phases(node: Node) -> list[str]:
    return [attachment["phase"] for attachment in node.ask("mesh")["attachments"]]
