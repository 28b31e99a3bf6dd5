"""What the hosts report of their peers: nothing while all is well, and a blocked port by name."""

from __future__ import annotations

import time

from tests.clients.builds import Build
from tests.mesh.members import populated
from tests.mesh.mesh import WIREGUARD, Mesh, until
from tests.mesh.traffic import Traffic
from tests.waiting import scaled

NAMED = 30.0  # seconds after which a blocked port is named


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
