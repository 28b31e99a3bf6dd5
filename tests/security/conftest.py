"""Fixtures of the tests of who gets in where: a mesh of two hosts with two environments, for those that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.admin.conftest import api, production
from tests.agent.inside import space
from tests.mesh import mesh as meshes
from tests.mesh import topology
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.topology import Host
from tests.security.places import Members, ask, flush, members, without_filters

__all__ = ["api", "production", "space"]  # fixtures of the tests of the API and of the agent


@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two hosts that are ready."""
    if reason := topology.why_not():
        pytest.skip(f"no mesh of hosts: {reason}")
    with meshes.running(tmp_path_factory.mktemp("security")) as mesh:
        mesh.add("h1", "h2")
        yield mesh


@pytest.fixture(scope="package")
def red(mesh: Mesh) -> Iterator[Members]:
    """The environment that packets are sent from."""
    with members(mesh, "red", ["h1", "h2"]) as found:
        yield found


@pytest.fixture(scope="package")
def blue(mesh: Mesh) -> Iterator[Members]:
    """The environment that they must not arrive in."""
    with members(mesh, "blue", ["h1", "h2"]) as found:
        yield found


@pytest.fixture
def without_agents(mesh: Mesh) -> Iterator[list[Node]]:
    """The hosts, whose agents are killed and whose nftables is flushed for the length of a test."""
    nodes = list(mesh.nodes.values())
    for node in nodes:
        node.agent.kill()
    for node in nodes:
        flush(node)
    yield nodes
    for node in nodes:
        node.agent.start()
    mesh.until_healthy()
    until(lambda: not without_filters(mesh), lambda: f"links without filters: {without_filters(mesh)}")


@pytest.fixture(scope="package")
def laptop(mesh: Mesh, red: Members) -> Iterator[Host]:
    """A machine on the underlay that is an external peer of ``red``, with the tunnel ``office`` to its gateway h1."""
    machine = mesh.underlay.host("laptop")
    try:
        added = mesh.interlock("peer", "add", "laptop", "--environment", red.id, "--gateway", "h1")
        # Its resolver is of no interest here, and this machine may have no resolvconf.
        config = "".join(f"{line}\n" for line in added.stdout.splitlines() if not line.startswith(("Post", "#", "DNS")))
        script = "umask 077; mkdir -p /etc/wireguard; cat >/etc/wireguard/office.conf; wg-quick up office"
        machine.run(["sh", "-c", script], text=config)
        until(lambda: machine.call(lambda: ask(red.resolver)) == 0, "the laptop is not answered")
        yield machine
        mesh.interlock("peer", "remove", "laptop", "--environment", red.id, check=False)
    finally:
        machine.kill()
