"""Names are true: what is not attached, and what is on a host that was cut off, is not answered; and nobody else is."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from dnslib import QTYPE, RCODE, DNSRecord
from redis import Redis

from tests.mesh import mesh as meshes
from tests.mesh import topology
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.topology import Workload
from watcher.session.protocol import LEASE

RESOLVER = ("fd12::10", 53)
GRACE = 2.0  # seconds; the default would make the test longer, and prove no more
LOOKS = 1.0  # seconds in which the store is asked twice whether the lease is gone
BACK = 1.0  # seconds
PORT = 7000
ENVIRONMENT = "cut"
QUERY_DEADLINE = 2.0
BLOCK = """table inet block {
  chain in { type filter hook input priority -300; udp dport 51820 drop; udp sport 51820 drop; }
}
"""


@dataclass(frozen=True)
class World:
    """Two hosts: on `h1` the workload `near`, which asks; on `h2` `far` of the same service, and `only` of its own."""

    mesh: Mesh
    near: Workload
    far: Workload
    only: Workload

    @property
    def hosts(self) -> tuple[Node, Node]:
        return self.mesh.nodes["h1"], self.mesh.nodes["h2"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if reason := topology.why_not():
        pytest.skip(f"no mesh of hosts: {reason}")
    directory = tmp_path_factory.mktemp("cut")
    with meshes.running(directory, plane_options=("--host-grace", str(GRACE))) as mesh:
        h1, h2 = mesh.add("h1", "h2")
        mesh.environment(ENVIRONMENT, "api", "alone", "put")
        near, far = h1.attach(ENVIRONMENT, "api", "near"), h2.attach(ENVIRONMENT, "api", "far")
        only = h2.attach(ENVIRONMENT, "alone", "only")
        listening = [
            one.call(lambda: socket.create_server(("::", PORT), family=socket.AF_INET6)) for one in (near, far)
        ]
        yield World(mesh, near, far, only)
        for server in listening:
            server.close()


def test_an_instance_that_is_put_is_answered_once_it_is_attached(world: World) -> None:
    _, h2 = world.hosts
    client = world.mesh.client
    put = client.put("environments", ENVIRONMENT, "services", "put", "instances", "p1", body={"host": "h2"})
    assert put["placement"] == "not attached"
    _until_revision(world, put["revision"])
    for name in ("put", "p1.put", "all.put"):
        assert _ask(world.near, name) == ("NOERROR", set()), name
    listed = world.mesh.interlock("instance", "list", "put", "--environment", ENVIRONMENT).stdout
    assert "not attached" in listed
    workload = h2.attach(ENVIRONMENT, "put", "p1")
    assert _ask(world.near, "p1.put") == _ask(world.near, "put") == ("NOERROR", {workload.address})
    h2.detach(ENVIRONMENT, "put", "p1")


def test_the_names_of_a_host_that_is_cut_off_go_and_come_back_with_it(world: World) -> None:
    _, h2 = world.hosts
    near, far = world.near, world.far
    assert _ask(near, "api") == ("NOERROR", {near.address, far.address})
    cut, failures = time.monotonic(), list[float]()
    h2.host.unplug()
    try:
        while _ask(near, "api")[1] != {near.address}:
            assert time.monotonic() - cut < 3 * (LEASE + GRACE), "the host's instances are still answered"
            began = time.monotonic()
            failures += [] if _connects(near, "api") else [time.monotonic() - cut]
            time.sleep(max(0.0, began + 1.0 - time.monotonic()))  # a client that connects once a second
        gone = time.monotonic() - cut
        print(f"cut off: answered for {gone:.1f} s more; connections failed until {max(failures, default=0):.1f} s")
        assert gone < LEASE + GRACE + LOOKS + 1.0  # the last for a client that asks once a second
        for _ in range(10):
            assert _connects(near, "api")
        for name in ("alone", "only.alone", "all.alone", "far.api"):
            assert _ask(near, name) == ("NOERROR", set()), name  # the names exist
        assert _ask(far, "api")[1] == {near.address, far.address}  # where nobody can say better
        (shown,) = world.mesh.client.get("environments", ENVIRONMENT, "services", "alone", "instances")["instances"]
        assert shown["placement"] == "host down"
    finally:
        h2.host.plug()
    plugged = time.monotonic()
    until(lambda: _ask(near, "api")[1] == {near.address, far.address}, "its names do not come back")
    back = time.monotonic() - plugged
    print(f"plugged in: answered again after {back:.2f} s")
    assert _ask(near, "alone") == ("NOERROR", {world.only.address})
    assert near.call(lambda: _connect(far.address))
    assert back < BACK


def test_no_name_goes_because_no_control_plane_was_there(world: World) -> None:
    """Then no lease can be renewed, and all of them end; the hosts have the time to come back."""
    mesh, near = world.mesh, world.near
    everything = {near.address, world.far.address}
    mesh.plane.program.kill()
    until(lambda: not _leases(mesh), "leases do not end")
    time.sleep(GRACE)  # that so much time passes is what is tested
    mesh.plane.start()
    down_at_most = time.monotonic() + 2 * GRACE
    while time.monotonic() < down_at_most:
        assert _ask(near, "api") == ("NOERROR", everything)
    until(lambda: len(_leases(mesh)) == len(mesh.nodes), "the hosts do not come back")
    assert _ask(near, "alone") == ("NOERROR", {world.only.address})


def _ask(workload: Workload, name: str) -> tuple[str, set[str]]:
    """The rcode and the addresses that ``workload`` is answered to the name, below the zone."""
    query = DNSRecord.question(f"{name}.railway.internal", "AAAA")

    def ask() -> bytes:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(QUERY_DEADLINE)
            sock.connect(RESOLVER)
            sock.send(query.pack())
            return sock.recv(4096)

    reply = DNSRecord.parse(workload.call(ask))
    return RCODE[reply.header.rcode], {str(one.rdata) for one in reply.rr if one.rtype == QTYPE.AAAA}


def _connects(workload: Workload, name: str) -> bool:
    """Whether ``workload`` reaches the first address of the name, within a second."""
    _, addresses = _ask(workload, name)
    return workload.call(lambda: _connect(next(iter(sorted(addresses, reverse=True)))))


def _connect(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), timeout=0.9).close()
    except OSError:
        return False
    return True


def _until_revision(world: World, revision: int) -> None:
    def acknowledged() -> bool:
        found = world.mesh.client.get("environments", ENVIRONMENT, "revisions", str(revision))
        return set(found["hosts"]) == {"h1", "h2"}

    until(acknowledged, f"not all hosts have revision {revision}")


def _leases(mesh: Mesh) -> list[bytes]:
    with Redis.from_url(mesh.store.url) as redis:
        found: list[bytes] = redis.keys("interlock:lease:*")
    return found


def test_what_one_host_cannot_reach_is_left_out_there_alone(world: World) -> None:
    """The packets of the tunnel are dropped between two hosts; both go on renewing their leases."""
    h1, _h2 = world.hosts
    mesh, near, far = world.mesh, world.near, world.far
    both = {near.address, far.address}
    assert near.call(lambda: _connect(far.address))
    h1.host.run(["nft", "-f", "-"], text=BLOCK)
    try:

        def is_left_out() -> bool:
            near.call(lambda: _connect(far.address))  # WireGuard is owed a packet only where somebody sends
            return _ask(near, "api") == ("NOERROR", {near.address})

        until(is_left_out, "a host that cannot be reached is answered", seconds=120.0)
        assert _ask(near, "alone") == ("NOERROR", {world.only.address})  # where there is nothing else
        assert _ask(near, "only.alone") == ("NOERROR", {world.only.address})
        shown = mesh.client.get("environments", ENVIRONMENT, "services", "api", "instances")["instances"]
        assert {one["placement"] for one in shown} == {"attached"}  # it is not the control plane's word
    finally:
        h1.host.run(["nft", "delete", "table", "inet", "block"])
    until(lambda: near.call(lambda: _connect(far.address)) and _ask(near, "api")[1] == both, "it stays left out", 60.0)
