"""Whatever is killed, or changed by hand: connections live on, no answer is wrong, and all is mended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.control.client import NoAgent
from tests.clients.builds import Build
from tests.mesh.deploying import deployed
from tests.mesh.members import Layout, Member, Settled, instance_name, settled
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.talking import Times
from tests.mesh.topology import Workload
from tests.mesh.traffic import SERVICE, Traffic

LAYOUT: Layout = {"web": {"w1": "h1", "w2": "h2", "w3": "h3", "w4": "h4"}, SERVICE: {}}


@pytest.fixture
def environment(mesh: Mesh, programs: dict[str, Build]) -> Iterator[Settled]:
    with settled(mesh, "faults", LAYOUT, programs) as environment:
        yield environment


def all_but(environment: Settled, *hosts: str) -> list[Member]:
    return [member for member in environment.members if member.node.name not in hosts]


def check_whole(mesh: Mesh, environment: Settled, programs: dict[str, Build]) -> None:
    """Everybody reaches everybody, what was there before and what comes now."""
    mesh.until_whole()
    for one, other in environment.pairs():
        found = one.server.tcp(other.name)
        assert isinstance(found, Times), f"{one.name} to {other.name}: {found.text}"
    for place, client in zip(environment.members, reversed(environment.members), strict=True):
        with deployed(place.node, environment.id, SERVICE, place.node.name, client.server, programs["glibc"]) as deploy:
            assert deploy.is_reached, str(deploy)


# Killed


def test_an_agent_is_killed(mesh: Mesh, environment: Settled, programs: dict[str, Build]) -> None:
    with Traffic(environment, environment.members, all_but(environment, "h2"), programs["musl"]) as traffic:
        traffic.until_deployed(3)
        mesh.nodes["h2"].agent.kill()
        traffic.until_deployed(3)
        mesh.nodes["h2"].agent.start()
        mesh.nodes["h2"].until_ready()
        traffic.until_deployed(3)
    traffic.check()
    check_whole(mesh, environment, programs)


def test_an_agent_is_killed_over_an_attachment_and_the_next_one_finishes_it(
    mesh: Mesh, environment: Settled, programs: dict[str, Build]
) -> None:
    node, other, workload = mesh.nodes["h2"], mesh.nodes["h3"], mesh.nodes["h2"].workload()
    try:
        os.kill(other.agent.pid, signal.SIGSTOP)  # so that it has to wait
        waiting = threading.Thread(target=lambda: _attach_in_vain(node, environment, workload))
        waiting.start()
        until(lambda: "attaching" in _phases(node), "it was not begun")
        node.agent.kill()
        waiting.join()
        os.kill(other.agent.pid, signal.SIGCONT)
        node.agent.start()
        node.until_ready()
        until(lambda: _phases(node) == ["attached", "attached"], lambda: f"it was not taken up again: {_phases(node)}")
        begun = instance_name(SERVICE, "begun")
        client = next(member for member in environment.members if member.node is other)
        told = client.server.lookup(begun)
        assert told.ok, told.text
        assert client.server.icmp(begun).ok
    finally:
        node.detach(environment.id, SERVICE, "begun")
        workload.remove()
    check_whole(mesh, environment, programs)


def test_a_resolver_is_killed(mesh: Mesh, environment: Settled, programs: dict[str, Build]) -> None:
    members = [*all_but(environment, "h1", "h2", "h4"), *all_but(environment, "h3")]  # the names are asked for on h3
    with Traffic(environment, members, all_but(environment, "h3"), programs["musl"]) as traffic:
        traffic.until_deployed(3)
        mesh.nodes["h3"].resolver.kill()
        traffic.until_deployed(3)
        mesh.nodes["h3"].resolver.start()
        mesh.nodes["h3"].until_ready()
        traffic.until_deployed(3)
    traffic.check()
    assert traffic.prober.unanswered  # it was the one that was killed
    check_whole(mesh, environment, programs)


def test_the_store_is_killed(mesh: Mesh, environment: Settled, programs: dict[str, Build]) -> None:
    with Traffic(environment, environment.members, environment.members, programs["musl"]) as traffic:
        traffic.until_deployed(3)
        mesh.lose_store()
        traffic.until_refused()
        for one, other in environment.pairs():
            found = one.server.lookup(other.name)
            assert found.words[1:] == (other.address,), found.text
        mesh.restore_store()
        traffic.until_deployed(3)
    traffic.check(refusals=True)
    assert all(reason.startswith("unavailable: ") for reason in traffic.refused)
    check_whole(mesh, environment, programs)


def test_a_host_loses_its_power(mesh: Mesh, programs: dict[str, Build]) -> None:
    with settled(mesh, "power", LAYOUT, programs) as environment:
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
        # Its workloads have gone with it, and so have their names.
        until(lambda: not rest[0].server.lookup(dead.name).ok, f"{dead.name} is still answered")
        environment.members.remove(dead)
        mesh.until_whole()
        for client in rest:
            with deployed(dead.node, environment.id, SERVICE, "again", client.server, programs["glibc"]) as deploy:
                assert deploy.is_reached, str(deploy)


# Changed by hand


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


def _set_down(node: Node, _other: Node) -> None:
    node.host.run(["ip", "link", "set", "interlock0", "down"])


def _kill_tunnel(node: Node, _other: Node) -> None:
    # The one of this host: there are no others in its namespace. After another change it may not be there yet.
    kill = ["sh", "-c", "kill -KILL $(pidof wireguard-go)"]
    until(lambda: node.host.run(kill, check=False).returncode == 0, "there is no wireguard-go to be killed")


BY_HAND: dict[str, Callable[[Node, Node], None]] = {
    "a peer is removed": _drop_peer,
    "a peer is allowed nothing": _allow_nothing,
    "a peer is allowed everything": _allow_everything,
    "another port is listened on": _change_port,
    "all rules are flushed": _flush_rules,
    "one chain is flushed": _flush_chain,
    "the pins are flushed": _drop_members,
    "the platform's route is deleted": _delete_prefix,
    "the workloads' routes are deleted": _delete_routes,
    "the workloads' neighbours are deleted": _delete_neighbours,
    "the resolver's address is deleted": _delete_resolver,
    "the device is set down": _set_down,
    "wireguard-go is killed": _kill_tunnel,
}


def state(node: Node) -> dict[str, list[str]]:
    """What the system of ``node`` says of our device, links and rules; not what changes by itself."""
    commands = {
        "peers": "wg show interlock0 allowed-ips; wg show interlock0 listen-port; wg show interlock0 public-key",
        "rules": "nft --stateless list ruleset",
        "links": "ip -brief link show interlock0 | cut -d ' ' -f 1; ip -oneline link show up interlock0 | wc -l",
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


@pytest.mark.parametrize("change", BY_HAND)
def test_what_is_changed_by_hand_is_mended(mesh: Mesh, environment: Settled, change: str) -> None:
    node, other = mesh.nodes["h1"], mesh.nodes["h2"]
    mesh.until_whole()
    has_device = ["wg", "show", "interlock0"]
    until(lambda: node.host.run(has_device, check=False).returncode == 0, "there is no device to begin with")
    before, repairs = state(node), node.metrics()["interlock_mesh_repairs_total"]
    with Traffic(environment, environment.members) as traffic:
        BY_HAND[change](node, other)
        until(
            lambda: node.metrics()["interlock_mesh_repairs_total"] > repairs and state(node) == before,
            lambda: f"not mended: {difference(before, state(node))}",
        )
    traffic.check()
    for one, two in environment.pairs():
        found = one.server.tcp(two.name)
        assert isinstance(found, Times), f"{one.name} to {two.name}: {found.text}"


def _attach_in_vain(node: Node, environment: Settled, workload: Workload) -> None:
    with pytest.raises(NoAgent):
        node.attach(environment.id, SERVICE, "begun", workload)


def _phases(node: Node) -> list[str]:
    return [attachment["phase"] for attachment in node.ask("mesh")["attachments"]]
