"""What `interlock mesh` says is true: nothing while all is well, and what is wrong whatever else fails."""

from __future__ import annotations

import signal
import socket
import time

from agent.plan.drops import WINDOW
from agent.plan.health import SILENCE
from tests.clients.builds import Build
from tests.interlock.processes import stopped
from tests.mesh.members import populated
from tests.mesh.mesh import Mesh, Node, until
from tests.waiting import scaled
from zones.addresses import Platform

KEEPALIVE = 25.0  # seconds between two of a host behind NAT, which WireGuard never answers
QUIET = KEEPALIVE + SILENCE + 5.0  # seconds after which a keepalive that counted as unanswered would have been named
PACE = 1.0  # seconds between two packets of traffic that nobody answers
AT_ONCE = scaled(15.0)  # seconds for `interlock mesh`, whatever is wrong: 1 s of waiting, and the start of Python
RESOLVER = str(Platform().resolver)


def printed(node: Node) -> str:
    """What `interlock mesh` prints on ``node``, in a moment. It never says that all is well beside a problem."""
    began = time.monotonic()
    done = node.interlock("mesh", "--agent-dir", "/run/interlock")
    assert time.monotonic() - began < AT_ONCE
    assert ("no problems" in done.stdout) == ("\n! " not in done.stdout)
    return done.stdout


def until_said(node: Node, what: str) -> str:
    """What is printed, once that has ``what`` in it."""
    until(lambda: any(what in one for one in node.ask("mesh")["problems"]), lambda: f"{what}: {node.ask('mesh')}")
    text = printed(node)
    assert what in text
    return text


def test_idle_peers_and_traffic_that_nobody_answers_are_no_problem(mesh: Mesh, programs: dict[str, Build]) -> None:
    (behind_nat,) = mesh.add("h5", options=("--behind-nat",))
    try:
        layout = {"web": {"w1": "h1", "w2": "h2", "w3": "h3", "w5": "h5"}}
        with populated(mesh, "quiet", layout, programs) as environment:
            sender, receiver, *_ = environment.members
            mesh.until_healthy()
            silent = receiver.workload.call(_udp)
            silent.bind(("::", 9999))
            silent.settimeout(scaled(5.0))
            said = sender.workload.call(_udp)
            with silent, said:
                end = time.monotonic() + QUIET
                while time.monotonic() < end:
                    said.sendto(b"one way", (receiver.address, 9999))
                    assert silent.recv(100) == b"one way"
                    assert mesh.problems() == []
                    time.sleep(PACE)
            for node in (member.node for member in environment.members):
                shown = {name: value for name, value in node.metrics().items() if "interlock_peer_silent" in name}
                assert shown
                assert not any(shown.values()), node.name
            assert "no problems" in printed(mesh.nodes["h1"])
    finally:
        mesh.remove(behind_nat)


def test_a_dead_resolver_is_named(mesh: Mesh) -> None:
    node = mesh.nodes["h1"]
    node.resolver.kill()
    try:
        text = until_said(node, f"nothing answers DNS at {RESOLVER}")
        assert "! no resolver is connected: start 'interlock resolver" in text
    finally:
        node.resolver.start()
    mesh.until_healthy()


def test_a_resolver_that_hangs_is_named(mesh: Mesh) -> None:
    node = mesh.nodes["h2"]
    with stopped(node.resolver.pid):
        text = until_said(node, f"nothing answers DNS at {RESOLVER}")
        assert "no reply in 1 s" in text
    mesh.until_healthy()


def test_an_instance_of_a_deleted_service_is_named_while_it_is_attached(mesh: Mesh) -> None:
    node = mesh.nodes["h3"]
    mesh.environment("goes", "api")
    workload = node.attach("goes", "api", "a1")
    try:
        mesh.client.delete("environments", "goes", "services", "api")
        seen: list[str] = []

        def is_detached() -> bool:
            view = node.ask("mesh")
            seen.extend(view["problems"])
            return not any(one["instance"].startswith("a1.api") for one in view["attachments"])

        until(is_detached, "it stays attached")
        assert any("a1.api of goes is attached here, but the control plane does not have it" in one for one in seen)
    finally:
        mesh.client.delete("environments", "goes")
        workload.remove()
    mesh.until_healthy()


def test_packets_that_are_dropped_are_explained(mesh: Mesh, programs: dict[str, Build]) -> None:
    with populated(mesh, "drops", {"web": {"w1": "h1", "w2": "h2"}}, programs) as environment:
        mesh.until_healthy()
        liar, other = environment.members
        sent = 0
        while sent < 30:
            sent += int(liar.server.spoof("fd12:dead:beef::1", other.address).words[0])
        text = until_said(liar.node, "packets were dropped in the last")
        assert "(link): a workload here, or a host of the mesh, sends from an address that is not its own" in text
        mesh.until_healthy()


def test_many_deploys_are_no_problem(mesh: Mesh) -> None:
    """When a link comes up, the kernels at both ends send a few packets into it: they go nowhere, and are no drops."""
    node = mesh.nodes["h2"]
    mesh.environment("many", "api")
    before = node.ask("mesh")["drops"]
    workloads = [node.attach("many", "api", f"a{number}") for number in range(12)]
    try:
        end = time.monotonic() + WINDOW
        while time.monotonic() < end:
            view = node.ask("mesh")
            assert view["problems"] == []
            time.sleep(PACE)
        assert {name: count - before[name] for name, count in view["drops"].items() if count > before[name]} == {}
    finally:
        for number, workload in enumerate(workloads):
            node.detach("many", "api", f"a{number}")
            workload.remove()
        mesh.client.delete("environments", "many")
    mesh.until_healthy()


def test_the_mesh_is_shown_while_the_store_hangs(mesh: Mesh) -> None:
    node = mesh.nodes["h1"]
    mesh.store.signal(signal.SIGSTOP)
    try:
        text = until_said(node, "which hosts are live, and which revisions they have, is not known")
        assert "store" in text
        assert f"host {node.id} at " in text
    finally:
        mesh.store.signal(signal.SIGCONT)
    mesh.until_healthy()


def test_the_mesh_is_shown_while_the_control_plane_is_away(mesh: Mesh) -> None:
    node = mesh.nodes["h4"]
    mesh.plane.program.kill()
    try:
        text = until_said(node, "which hosts are live, and which revisions they have, is not known")
        assert f"host {node.id} at " in text
    finally:
        mesh.plane.start()
    mesh.until_healthy()


def _udp() -> socket.socket:
    return socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
