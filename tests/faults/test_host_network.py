"""The network of hosts as it is found: IPv6 switched off, changed inside workloads, other firewalls, another MTU."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.faults.echo import Echo
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.topology import Workload

SLOW = 60.0  # seconds; other firewalls are looked at every 5 s
_numbers = count(1)

_ADDRCONFIG = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int count, char **words) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found;
    int status = getaddrinfo(words[1], "80", &hints, &found);
    if (status) { puts(gai_strerror(status)); return 1; }
    char text[64];
    inet_ntop(AF_INET6, &((struct sockaddr_in6 *)found->ai_addr)->sin6_addr, text, sizeof text);
    puts(text);
}
"""


@pytest.fixture
def environment(hosts: Mesh) -> Iterator[str]:
    """A new environment with the service ``api``."""
    id_ = f"network-{next(_numbers)}"
    hosts.environment(id_, "api")
    yield id_
    hosts.client.delete("environments", id_)


@pytest.fixture
def workload(hosts: Mesh, environment: str) -> Iterator[Workload]:
    """The instance ``a1`` of ``api``, attached on ``h1``."""
    made = hosts.nodes["h1"].attach(environment, "api", "a1")
    yield made
    hosts.nodes["h1"].detach(environment, "api", "a1")
    made.remove()


@pytest.fixture
def other(hosts: Mesh, environment: str) -> Iterator[Workload]:
    """The instance ``a2`` of ``api``, attached on ``h2``."""
    made = hosts.nodes["h2"].attach(environment, "api", "a2")
    yield made
    hosts.nodes["h2"].detach(environment, "api", "a2")
    made.remove()


def link(workload: Workload, name: str = "railnet0") -> dict[str, Any]:
    """The link ``name`` of ``workload``, in the words of ip(8)."""
    command = ["ip", "-netns", workload.namespace.name, "-json", "address", "show", "dev", name]
    (found,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return dict(found)


def addresses(workload: Workload, name: str = "railnet0") -> list[str]:
    return [one["local"] for one in link(workload, name)["addr_info"] if one["family"] == "inet6"]


def settings(where: Workload, *lines: str) -> None:
    """Changes settings of the kernel inside ``where``."""
    for line in lines:
        path, _, value = line.partition("=")
        where.call(lambda path=path, value=value: Path("/proc/sys/net/ipv6/conf", path).write_text(value))  # type: ignore[misc]


# IPv6 switched off


def test_a_namespace_without_ipv6_can_be_attached_and_musl_finds_names(
    hosts: Mesh, environment: str, tmp_path: Path
) -> None:
    """Docker before 26 makes such namespaces: no ::1, by which musl decides whether to ask for AAAA (AI_ADDRCONFIG)."""
    source, program = tmp_path / "addrconfig.c", tmp_path / "addrconfig"
    source.write_text(_ADDRCONFIG)
    subprocess.run(["musl-gcc", "-static", "-o", str(program), str(source)], check=True)
    node = hosts.nodes["h1"]
    workload = node.workload()
    settings(workload, "all/disable_ipv6=1", "default/disable_ipv6=1")
    assert addresses(workload, "lo") == []
    try:
        node.attach(environment, "api", "a1", workload)
        assert addresses(workload, "lo") == ["::1"]
        assert workload.run([str(program), "api.railway.internal"]).stdout.strip() == workload.address
    finally:
        node.detach(environment, "api", "a1")
        workload.remove()


def test_a_host_that_switches_ipv6_off_for_new_links(hosts: Mesh, environment: str) -> None:
    node = hosts.boot(f"off{next(_numbers)}")
    for setting in ("default", "all"):
        node.host.run(["sh", "-c", f"echo 1 >/proc/sys/net/ipv6/conf/{setting}/disable_ipv6"])
    node.host.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6"])
    node.host.namespace.ip([f"address add {node.host.v6}/64 dev eth0 nodad"])
    node.start()
    try:
        node.until_ready()
        workload = node.attach(environment, "api", "off")
        other = hosts.nodes["h1"].attach(environment, "api", "a1")
        with Echo(workload, other) as echo:
            echo.until_answered()
        node.detach(environment, "api", "off")
        hosts.nodes["h1"].detach(environment, "api", "a1")
        other.remove()
        node.ask("leave")
    finally:
        hosts.remove(node)


# Changed inside a workload

CHANGES = {
    "the address is flushed": "-6 address flush dev railnet0",
    "the address of the loopback is flushed": "-6 address flush dev lo",
    "another address is added": "address add fd12:dead::1/128 dev railnet0",
    "the MAC address is changed": "link set railnet0 address 02:00:00:00:00:01",
    "the MTU is changed": "link set railnet0 mtu 9000",
    "the link is set down": "link set railnet0 down",
    "the route is deleted": "-6 route delete fd12::/16 dev railnet0",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_inside_a_workload_is_put_right(
    hosts: Mesh, workload: Workload, other: Workload, change: str
) -> None:
    node = hosts.nodes["h1"]
    before, repaired = link(workload), len(node.agent.events("workload_repaired"))
    subprocess.run(["ip", "-netns", workload.namespace.name, *CHANGES[change].split()], check=True)
    until(
        lambda: len(node.agent.events("workload_repaired")) > repaired,
        lambda: f"not put right: {link(workload)}, {hosts.problems()}",
    )
    after = link(workload)
    for field in ("address", "mtu", "operstate"):
        assert after[field] == before[field]
    assert addresses(workload) == [workload.address]
    assert addresses(workload, "lo") == ["::1"]
    with Echo(workload, other) as echo:
        echo.until_answered()


def test_a_link_of_somebody_else_is_left_alone(hosts: Mesh, environment: str) -> None:
    """What is to be told apart from the workload's own link with another MAC address."""
    node = hosts.nodes["h1"]
    workload = node.workload()
    workload.namespace.ip(["link add railnet0 type veth peer name theirs0"])
    try:
        with pytest.raises(Exception, match="there is a link railnet0 already"):
            node.attach(environment, "api", "a1", workload)
        assert link(workload, "theirs0")["ifname"] == "theirs0"
    finally:
        workload.remove()


# Another firewall

FIREWALLS = {
    "ip6 filter FORWARD": "table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop;\n}\n}",
    "inet firewall forward": (
        "table inet firewall { chain forward { type filter hook forward priority 10; policy drop;"
        " ct state established accept;\n}\n}"
    ),
    "inet firewall last": (
        "table inet firewall { chain last { type filter hook forward priority 10; policy accept;\n"
        " ct state established accept\n reject\n}\n}"
    ),
}


@pytest.mark.parametrize("chain", FIREWALLS)
def test_a_firewall_that_drops_what_is_forwarded_is_named_with_its_remedy(
    hosts: Mesh, workload: Workload, other: Workload, chain: str
) -> None:
    node = hosts.nodes["h1"]
    try:
        node.host.run(["nft", "-f", "-"], text=FIREWALLS[chain])
        (problem,) = until(lambda: _named(node, chain), "it is not named", SLOW)
        assert node.agent.events("firewall_drops")
        for remedy in problem.partition("rules: ")[2].split("; "):
            node.host.run(["sh", "-c", remedy])
        with Echo(workload, other) as echo:
            echo.until_answered()
        with Echo(other, workload) as echo:
            echo.until_answered()
        until(lambda: not _named(node, chain), lambda: f"it is still named: {hosts.problems()}", SLOW)
    finally:
        node.host.run(["nft", "delete", "table", *chain.split()[:2]])


# Other routes

ROUTES = {
    # what somebody adds, where {0} is the workload on the other host, and how it is removed again
    "a route that is more specific": ("route add blackhole {0}/128", "route delete blackhole {0}/128"),
    "a route that comes first": ("route add fd12::/16 dev eth0 metric 1", "route delete fd12::/16 dev eth0 metric 1"),
    "a rule": ("rule add to fd12::/16 pref 100 unreachable", "rule delete pref 100"),
}


@pytest.mark.parametrize("change", ROUTES)
def test_what_takes_packets_from_the_agents_routes_is_named(
    hosts: Mesh, workload: Workload, other: Workload, change: str
) -> None:
    node = workload.host
    added, removed = (command.format(other.address) for command in ROUTES[change])
    node.run(["sh", "-c", f"ip -6 {added}"])
    named = f"packets from {workload.address} to {other.address} leave this host by"
    try:
        until(lambda: _named(hosts.nodes[node.name], named), lambda: f"it is not named: {hosts.problems()}", SLOW)
    finally:
        node.run(["sh", "-c", f"ip -6 {removed}"])
    until(lambda: not _named(hosts.nodes[node.name], named), lambda: f"it is still named: {hosts.problems()}", SLOW)


def _named(node: Node, chain: str) -> list[str]:
    return [one for one in node.ask("mesh")["problems"] if chain in one]


# Another MTU of the underlay


def test_the_mtu_follows_that_of_the_underlay(hosts: Mesh, workload: Workload) -> None:
    node = hosts.nodes["h1"]
    before = link(workload)["mtu"]
    try:
        node.host.namespace.ip(["link set eth0 mtu 1400"])
        until(lambda: link(workload)["mtu"] == 1320, lambda: f"the workload has {link(workload)['mtu']}")
        assert node.host.run(["ip", "link", "show", "interlock0"]).stdout.split("mtu ")[1].split()[0] == "1320"
        assert node.ask("mesh")["mtu"] == 1320
        node.agent.kill()
        node.host.namespace.ip(["link set eth0 mtu 1450"])
        node.agent.start()
        node.until_ready()
        until(lambda: link(workload)["mtu"] == 1370, lambda: f"after a restart it has {link(workload)['mtu']}")
        assert node.ask("mesh")["mtu"] == 1370
    finally:
        node.host.namespace.ip(["link set eth0 mtu 1500"])
    until(lambda: link(workload)["mtu"] == before, lambda: f"it did not go back: {link(workload)}")
