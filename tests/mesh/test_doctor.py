"""`interlock doctor` on hosts of a mesh: each fault is made for real, and its cause is named within two seconds."""

from __future__ import annotations

import os
import signal
import time

from tests.mesh.doctor import deployed, examine, examine_plane, serving, until_named, until_well
from tests.mesh.mesh import WIREGUARD, Mesh
from tests.mesh.topology import Workload

HEALTHY = float(os.environ.get("TEST_DOCTOR_SECONDS") or 3)
"""Seconds for which a healthy, idle mesh is examined. By hand it is ten minutes: docs/doctor.md."""
PORTS = [{"name": "http", "number": 8080, "protocol": "tcp"}]


def test_all_is_well_on_a_healthy_idle_mesh(mesh: Mesh) -> None:
    nodes = list(mesh.nodes.values())
    with deployed(mesh, "idle", *mesh.nodes):
        until_well(*nodes)
        began, looks = time.monotonic(), 0
        while time.monotonic() - began < HEALTHY or looks < len(nodes):
            for node in nodes:
                found = examine(node)
                assert (found.status, found.cause) == (0, ""), found.report
                looks += 1
        found = examine(nodes[0], "api", "-e", "idle")
        assert found.status == 0, found.report
        assert found.says("connection", "ok", "connects to on-"), found.report
        assert examine_plane(mesh, "api", "-e", "idle").status == 0
        print(f"{looks} looks in {time.monotonic() - began:.0f} s found all well")


def test_a_program_that_listens_where_nobody_reaches_it_is_named(mesh: Mesh) -> None:
    here, elsewhere = mesh.nodes["h1"], mesh.nodes["h2"]
    with deployed(mesh, "bound", "h2"):
        mesh.client.put("environments", "bound", "services", "web", body={"ports": PORTS})
        workload = here.attach("bound", "web", "w1")
        try:
            _check_sockets(mesh, workload)
            with serving(workload, "::"):
                assert examine(here, "web", "-e", "bound").status == 0
                assert examine(elsewhere, "web", "-e", "bound").status == 0
        finally:
            here.detach("bound", "web", "w1")
            workload.remove()


def _check_sockets(mesh: Mesh, workload: Workload) -> None:
    here, elsewhere = mesh.nodes["h1"], mesh.nodes["h2"]
    with serving(workload, "0.0.0.0"):
        named = until_named(here, "w1.web of bound listens on IPv4 only", "web", "-e", "bound")
        assert (named.status, "0.0.0.0:8080 by python" in named.cause) == (2, True), named.report
        assert "bind it to [::]:8080" in named.fix
        # Without being asked for the name, and from the client's host, which sees that the path is good.
        until_named(here, "listens on IPv4 only")
        # Where no agent is, the control plane asks those of the hosts; an explanation says it as well.
        seen = until_named(mesh, "w1.web of bound listens on IPv4 only", "web", "-e", "bound")
        assert "0.0.0.0:8080 by python" in seen.cause
        until_named(mesh, "w1.web of bound listens on IPv4 only", "--host", "h1", "-e", "bound")
        explained = mesh.interlock("explain", "web", "-e", "bound", "--agent-dir", "").stdout
        assert "✗ sockets" in explained, explained
        refused = until_named(elsewhere, "is refused by w1.web", "web", "-e", "bound")
        assert "on h1: interlock doctor w1.web -e bound" in refused.fix
    with serving(workload, "127.0.0.1"):
        assert "bind it to [::]:8080" in until_named(here, "listens on the loopback only", "w1.web", "-e", "bound").fix
    until_named(here, "no program in it listens at port 8080/tcp", "web", "-e", "bound")
    pair = ("--from", "on-h2.api", "--to", "w1.web", "--port", "81", "-e", "bound")
    assert "at that port" in until_named(elsewhere, "on-h2.api is refused by w1.web", *pair).cause


def test_wrong_names_strangers_and_instances_that_nobody_attaches_are_named(mesh: Mesh) -> None:
    node = mesh.nodes["h1"]
    with deployed(mesh, "names", "h1"):
        for place in (node, mesh):
            wrong = until_named(place, "nothing in this environment is called apu", "apu", "-e", "names")
            assert (wrong.status, wrong.fix) == (2, "ask for api")
        assert until_named(mesh, "there is no environment nmaes; there is names", "-e", "nmaes").fix == "-e names"
        until_named(node, "fd99::1 belongs to no environment", "--from", "fd99::1", "-e", "names")
        until_named(mesh, "fd99::1 belongs to no environment", "--from", "fd99::1")
        stranger = node.workload()
        until_named(
            node, f"no workload is attached from the network namespace {stranger.path}", "--netns", stranger.path
        )

        mesh.client.put("environments", "names", "services", "web", body={})
        late = ("environments", "names", "services", "web", "instances", "w1")
        mesh.client.put(*late, body={"state": "starting"})
        stuck = until_named(node, "w1 has no host, so it stays so", "web", "-e", "names")
        assert stuck.fix == "interlock instance put web w1 --state ready -e names"
        mesh.client.put(*late, body={"state": "starting", "host": "h2"})
        for place in (node, mesh):
            stuck = until_named(
                place, "w1 becomes ready when its workload is attached on host h2", "web", "-e", "names"
            )
            assert stuck.fix.startswith("on h2: interlock attach -e names --service web --instance w1")


def test_a_dead_resolver_and_one_that_hangs_are_named(mesh: Mesh) -> None:
    node = mesh.nodes["h2"]
    with deployed(mesh, "resolvers", "h2"):
        until_well(node)
        os.kill(node.resolver.pid, signal.SIGSTOP)
        try:
            hung = until_named(node, "the resolver of this machine does not answer at [fd12::10]:53")
        finally:
            os.kill(node.resolver.pid, signal.SIGCONT)
        assert hung.fix.startswith("systemctl restart interlock-resolver")
        node.resolver.kill()
        try:
            dead = until_named(node, "no resolver runs on host h2")
        finally:
            node.resolver.start()
        assert (dead.status, dead.fix) == (2, "systemctl restart interlock-resolver")
        node.until_ready()


def test_blocked_udp_and_a_small_mtu_are_named_on_both_sides(mesh: Mesh) -> None:
    blocked, other = mesh.nodes["h2"], mesh.nodes["h3"]
    with deployed(mesh, "blocked", "h2", "h3", "h4"):
        until_well(blocked, other)
        rules = "table inet blocked { chain in { type filter hook input priority 0; %s; }; }"
        blocked.host.run(["nft", "-f", "-"], text=rules % f"udp dport {WIREGUARD} drop")
        try:
            named = until_named(other, f"UDP is blocked between this host ({other.endpoint}) and host h2")
            assert f"open UDP port {WIREGUARD} of h2" in named.fix
            assert named.says("tunnel", "ok", "host h4 answers"), named.report
            until_named(blocked, "no other host answers through the tunnel (h3, h4), so it is this host")
        finally:
            blocked.host.run(["nft", "delete", "table", "inet", "blocked"])
        until_well(blocked, other)
        blocked.host.run(["nft", "-f", "-"], text=rules % f"udp dport {WIREGUARD} meta length > 1200 drop")
        try:
            until_named(other, "host h2 answers small packets and none of")
        finally:
            blocked.host.run(["nft", "delete", "table", "inet", "blocked"])


def test_a_resolv_conf_that_was_changed_is_named(mesh: Mesh) -> None:
    node = mesh.nodes["h1"]
    with deployed(mesh, "changed", "h1") as workloads:
        written = workloads["h1"].resolv_conf.read_text()
        workloads["h1"].resolv_conf.write_text("nameserver 192.0.2.53\n")
        try:
            named = until_named(
                node, "names the nameserver 192.0.2.53, and not fd12::10", "--netns", workloads["h1"].path
            )
        finally:
            workloads["h1"].resolv_conf.write_text(written)
        assert "write 'nameserver fd12::10' alone into it" in named.fix
