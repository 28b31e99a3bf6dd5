"""What the hosts report of their peers: nothing while all is well, and a blocked port by name."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.mesh.idle import GIVES_UP, IDLE, SECOND
from tests.clients.builds import Build
from tests.mesh.members import Member, populated
from tests.mesh.mesh import WIREGUARD, Mesh, Node, until
from tests.mesh.traffic import Traffic
from tests.waiting import scaled

NAMED = 30.0  # seconds after which a blocked port is named
# Longer than a peer may be silent (20 s). Ten minutes were run by hand, with both devices: see docs/figures.md.
ONE_WAY_SECONDS = float(os.environ.get("TEST_ONE_WAY_SECONDS") or 30)

_SEND = """
import socket, sys, time
out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
while True:
    out.sendto(b"one way", (sys.argv[1], 9))
    time.sleep(0.1)
"""
_RECEIVE = """
import socket
into = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
into.bind(("::", 9))
print("ready", flush=True)
while True:
    into.recv(100)
"""


def test_a_blocked_port_is_named_within_half_a_minute(mesh: Mesh, programs: dict[str, Build]) -> None:
    """No packet of WireGuard comes in at one host, as with the firewall of a provider; what it sends does arrive."""
    blocked, other = mesh.nodes["h2"], mesh.nodes["h3"]
    layout = {"web": {"w2": blocked.name, "w3": other.name}}
    with populated(mesh, "blocked", layout, programs) as environment:
        mesh.until_healthy()
        with Traffic(environment, environment.members):
            began = time.monotonic()
            blocked.host.run(["nft", "add table inet blocked"])
            blocked.host.run(["nft", "add chain inet blocked in { type filter hook input priority 0; }"])
            blocked.host.run(["nft", f"add rule inet blocked in udp dport {WIREGUARD} drop"])
            try:
                named = f"host {other.name} at {other.endpoint} has not answered for"
                until(
                    lambda: any(named in problem for problem in blocked.ask("mesh")["problems"]),
                    lambda: f"not named by {blocked.name}: {mesh.problems()}",
                    scaled(NAMED + 10),
                )
                assert time.monotonic() - began < scaled(NAMED)
            finally:
                blocked.host.run(["nft", "delete table inet blocked"])
        mesh.until_healthy()


@pytest.mark.skipif(
    not os.environ.get("TEST_IDLE"), reason="waits four minutes for WireGuard to end a session: set TEST_IDLE=1"
)
def test_a_blocked_port_is_named_where_nobody_sends(mesh: Mesh, programs: dict[str, Build]) -> None:
    """Each host asks the others by itself, and only two of them find no way to each other."""
    blocked, other = mesh.nodes["h2"], mesh.nodes["h3"]
    with populated(mesh, "idle", {"web": {"w2": blocked.name, "w3": other.name}}, programs):
        mesh.until_healthy()
        rule = ["nft", f"add rule inet blocked in udp dport {WIREGUARD} drop"]
        blocked.host.run(["nft", "add table inet blocked"])
        blocked.host.run(["nft", "add chain inet blocked in { type filter hook input priority 0; }"])
        blocked.host.run(rule)
        try:
            named = f"host {other.name} at {other.endpoint} has not answered for"
            until(
                lambda: any(named in problem for problem in blocked.ask("mesh")["problems"]),
                lambda: f"not named by {blocked.name}: {mesh.problems()}",
                IDLE + SECOND + scaled(NAMED + 10),
            )
        finally:
            blocked.host.run(["nft", "delete table inet blocked"])
        until(lambda: mesh.problems() == [], lambda: f"it stays: {mesh.problems()}", GIVES_UP + scaled(NAMED))


def test_one_way_traffic_is_no_alarm_and_moves_no_peer(mesh: Mesh, programs: dict[str, Build]) -> None:
    """Nothing answers it but WireGuard's keepalives. The peer has roamed: were it silent, it would be moved back."""
    sender, receiver = mesh.nodes["h1"], mesh.nodes["h2"]
    with populated(mesh, "one-way", {"web": {"w1": "h1", "w2": "h2"}}, programs) as environment:
        one, two = environment.members
        mesh.until_healthy()
        roamed = receiver.host.v4 if ":" in receiver.endpoint.rpartition(":")[0] else f"[{receiver.host.v6}]"
        peer = ["peer", receiver.ask("mesh")["public_key"], "endpoint", f"{roamed}:{WIREGUARD}"]
        sender.host.run(["wg", "set", "interlock0", *peer])
        assert one.server.icmp(two.name).ok
        until(lambda: endpoint_of(sender, "h2") == peer[-1], lambda: f"not there: {endpoint_of(sender, 'h2')}")
        steps = sum(node.metrics()["interlock_mesh_steps_total"] for node in (sender, receiver))
        with sending(one, two):
            end = time.monotonic() + ONE_WAY_SECONDS
            while time.monotonic() < end:
                assert [problem for problem in mesh.problems() if "not answered" in problem] == []
                assert endpoint_of(sender, "h2") in (peer[-1], "")
                time.sleep(0.5)
        until(lambda: endpoint_of(sender, "h2"), "the device is not read")
        assert endpoint_of(sender, "h2") == peer[-1]
        assert sum(node.metrics()["interlock_mesh_steps_total"] for node in (sender, receiver)) == steps


def endpoint_of(node: Node, host: str) -> str:
    """Where the device of ``node`` sent to ``host`` when it was last read; empty where that reading failed."""
    return next((str(peer["endpoint"]) for peer in node.ask("mesh")["peers"] if peer["host"] == host), "")


@contextmanager
def sending(one: Member, other: Member) -> Iterator[None]:
    """Datagrams from ``one`` to ``other`` that nobody answers, for the length of a with-statement."""
    with tempfile.TemporaryFile() as log, other.workload.popen([sys.executable, "-c", _RECEIVE], log) as receiver:
        try:
            assert receiver.stdout
            assert receiver.stdout.readline() == b"ready\n"
            with one.workload.popen([sys.executable, "-c", _SEND, other.address], log) as sender:
                try:
                    yield
                    assert sender.poll() is None
                finally:
                    sender.kill()
        finally:
            receiver.kill()
