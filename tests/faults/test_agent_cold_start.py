"""An agent that starts, detaches or leaves while the control plane, or its store, is away: all stays as it was."""

from __future__ import annotations

import os
import signal
import socket
from urllib.error import URLError

import dns.exception
import dns.message
import dns.query
import pytest

from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.topology import Workload

ENVIRONMENT = "cold-start"


def answered(workload: Workload, name: str) -> set[str]:
    """The addresses of ``name``, as the resolver of the workload's host answers."""

    def ask() -> set[str]:
        query = dns.message.make_query(f"{name}.railway.internal.", "AAAA")
        try:
            reply = dns.query.udp(query, "fd12::10", timeout=2.0)
        except (OSError, dns.exception.Timeout):
            return set()
        return {rdata.address for rrset in reply.answer for rdata in rrset}

    return workload.call(ask)


def is_reached(workload: Workload, address: str) -> bool:
    """Whether ``address`` answers on a port on which nobody listens: it refuses, so packets go to it and back."""

    def connect() -> bool:
        with socket.socket(socket.AF_INET6) as sock:
            sock.settimeout(2.0)
            try:
                sock.connect((address, 9))
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
        return True

    return workload.call(connect)


def programmed(node: Node) -> tuple[str, str]:
    """The firewall's sets and the routes of the host, in the words of nft(8) and ip(8).

    Without its counters, and without what packets put into a set: that empties by itself.
    """
    table = node.host.run(["nft", "list", "table", "inet", "interlock"], check=False).stdout
    blocks = [block for block in table.split("\n\n") if "dynamic" not in block]
    routes = node.host.run(["ip", "-6", "route", "show"]).stdout
    return "\n".join(line for block in blocks for line in block.splitlines() if "counter" not in line), routes


def from_snapshot(node: Node) -> float:
    """Whether the agent says that it works from its snapshot; -1 while it does not say anything yet."""
    try:
        return node.metrics()["interlock_snapshot_served"]
    except URLError:
        return -1


def shows_what_it_knows(node: Node, other: Node) -> None:
    """Fails unless ``interlock mesh`` shows the state of ``node``, and says what it cannot know."""
    view = node.ask("mesh")
    (peer,) = [peer for peer in view["peers"] if peer["host"] == other.id]
    assert peer["addresses"]
    assert peer["live"] is peer["hosts_revision"] is None
    (environment,) = [one for one in view["environments"] if one["id"] == ENVIRONMENT]
    assert environment["lagging"] is None
    assert [one["instance"] for one in view["attachments"]] == [f"near.api of {ENVIRONMENT}"]
    assert view["problems"][0].startswith("which hosts are live, and which revisions they have, is not known: ")
    assert not [problem for problem in view["problems"] if "is not live" in problem]
    shown = node.interlock("mesh")
    assert shown.returncode == 0
    assert "unknown" in shown.stdout


@pytest.mark.parametrize("outage", ["store", "control plane"])
def test_an_agent_and_its_resolver_restart_in_an_outage(hosts: Mesh, outage: str) -> None:
    hosts.environment(ENVIRONMENT, "api")
    node, other = hosts.nodes["h1"], hosts.nodes["h2"]
    near, far = node.attach(ENVIRONMENT, "api", "near"), other.attach(ENVIRONMENT, "api", "far")
    both = {near.address, far.address}
    try:
        until(lambda: answered(near, "api") == both, "the names are not answered")
        until(lambda: is_reached(near, far.address), "it was not reached before either")
        path = node.state / "agent.snapshot"
        until(lambda: path.exists() and f'"{far.address}"' in path.read_text(), "there is no snapshot")
        before = programmed(node)
        hosts.kill_store() if outage == "store" else hosts.plane.program.kill()
        shows_what_it_knows(node, other)
        node.agent.kill()
        node.resolver.kill()
        node.agent.start()
        node.resolver.start()
        until(lambda: answered(near, "api") == both, lambda: f"not answered:\n{node.agent.log[-3000:]}")
        assert is_reached(near, far.address)
        assert programmed(node) == before
        until(lambda: from_snapshot(node) == 1, "it does not say that it is a snapshot")
        assert node.agent.events("restored_from_snapshot")
        shows_what_it_knows(node, other)
        # The firewall is lost while the store is still away: what the snapshot plans is made again.
        node.host.run(["nft", "delete", "table", "inet", "interlock"])
        until(lambda: is_reached(near, far.address) and programmed(node) == before, "the firewall is not made again")
    finally:
        if not hosts.store.is_running:
            hosts.start_store()
        if not hosts.plane.program.is_running:
            hosts.plane.start()
        until(lambda: from_snapshot(node) == 0, "the control plane is not followed again")
        hosts.until_healthy()
        node.detach(ENVIRONMENT, "api", "near")
        other.detach(ENVIRONMENT, "api", "far")
        hosts.client.delete("environments", ENVIRONMENT)


@pytest.mark.parametrize("outage", ["store", "control plane", "control plane hangs"])
def test_nothing_is_cut_off_before_the_control_plane_has_agreed(hosts: Mesh, outage: str) -> None:
    hosts.environment(ENVIRONMENT, "api")
    node, other = hosts.nodes["h1"], hosts.nodes["h2"]
    near, far = node.attach(ENVIRONMENT, "api", "near"), other.attach(ENVIRONMENT, "api", "far")
    detach = ("detach", "--environment", ENVIRONMENT, "--service", "api", "--instance", "near")
    plane = hosts.plane.program
    try:
        before = programmed(node)
        match outage:
            case "store":
                hosts.kill_store()
            case "control plane":
                plane.kill()
            case _:
                os.kill(plane.pid, signal.SIGSTOP)
        for command in (("host", "leave"), detach):
            refused = node.interlock(*command, check=False)
            assert (refused.returncode, refused.stdout) == (1, ""), refused
            assert "try again" in refused.stderr
        assert is_reached(far, near.address)
        assert programmed(node) == before
        assert [one["phase"] for one in node.ask("mesh")["attachments"]] == ["attached"]
        if outage == "control plane":
            cut_off = node.interlock(*detach, "--offline")
            assert cut_off.stdout.startswith("cut off; "), cut_off
            assert not is_reached(far, near.address)
    finally:
        if outage == "control plane hangs":
            os.kill(plane.pid, signal.SIGCONT)
        if not hosts.store.is_running:
            hosts.start_store()
        if not plane.is_running:
            hosts.plane.start()
        hosts.until_healthy()
        if outage == "control plane":
            until(lambda: answered(far, "near.api") == set(), "what was cut off is answered still")
            until(lambda: not node.ask("mesh")["attachments"], "its record is not removed")
        node.detach(ENVIRONMENT, "api", "near")
        other.detach(ENVIRONMENT, "api", "far")
        hosts.client.delete("environments", ENVIRONMENT)
        near.remove()
        far.remove()
