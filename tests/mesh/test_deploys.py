"""The first connection after a deploy succeeds: two hundred of two hundred, and because of the barrier."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, cycle, islice
from pathlib import Path
from statistics import quantiles

import pytest

from interlock.sandbox.node import Program
from tests.clients.builds import Build
from tests.mesh.deploying import CONNECT_TIMEOUT, Deploy, deployed
from tests.mesh.first_connections import FirstConnections, presenting
from tests.mesh.members import Layout, PopulatedEnvironment, at_once, instance_name, populated
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.talking import ConnectionTimes, talking
from tests.waiting import scaled

DEPLOYS = 200
SERVICES = 20
SLOW_DEPLOYS = 20
AT_ONCE = 20
STORMS = 4
RIVALS = 8  # deploys of one service at once, two on each host
DELAY = scaled(0.2)  # seconds that the client's host is behind; much longer than a connection takes

# A client on each host: so every host has a member of the environment, and a deploy must wait for all of them.
CLIENTS: Layout = {"client": {"c1": "h1", "c2": "h2", "c3": "h3", "c4": "h4"}}


@pytest.fixture(scope="module")
def clients(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    with populated(mesh, "deploys", CLIENTS, programs) as environment:
        for number in range(SERVICES):
            mesh.client.put("environments", environment.id, "services", f"s{number}", body={})
        yield environment


def deploy_all(
    mesh: Mesh,
    clients: PopulatedEnvironment,
    programs: dict[str, Build],
    count: int,
    *,
    barrier: bool,
    delay: float = 0.0,
) -> list[Deploy]:
    """``count`` deploys, on all hosts in turn, to services that had no instance just before.

    The client is on another host each time, and its C library changes. Its host is ``delay`` seconds behind.
    """
    builds = sorted(programs.items())
    made = []
    for number, member in enumerate(islice(cycle(clients.members), count)):
        node = mesh.nodes[f"h{(number + number // 4) % 3 + 1}"]
        if node is member.node:
            node = mesh.nodes["h4"] if member.node.name != "h4" else mesh.nodes["h1"]
        library, build = builds[number // len(clients.members) % len(builds)]
        service = f"s{number % SERVICES}"
        with (
            behind(member.node.agent, delay),
            deployed(
                node, clients.id, service, f"i{number}", member.talkers[library], build, service, barrier=barrier
            ) as deploy,
        ):
            made.append(deploy)
    return made


@contextmanager
def behind(program: Program, seconds: float) -> Iterator[None]:
    """Stops ``program`` for ``seconds``."""
    if not seconds:
        yield
        return
    os.kill(program.pid, signal.SIGSTOP)
    timer = threading.Timer(seconds, os.kill, (program.pid, signal.SIGCONT))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_the_first_connection_after_a_deploy_succeeds(
    mesh: Mesh,
    clients: PopulatedEnvironment,
    programs: dict[str, Build],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    overdue = sum(node.metrics()["interlock_barriers_overdue_total"] for node in mesh.nodes.values())
    deploys = deploy_all(mesh, clients, programs, DEPLOYS, barrier=True)
    assert [str(deploy) for deploy in deploys if not deploy.is_reached] == []
    assert len(deploys) == DEPLOYS
    assert sum(node.metrics()["interlock_barriers_overdue_total"] for node in mesh.nodes.values()) == overdue
    results = tmp_path / "deploys.txt"
    results.write_text(report(deploys))
    with capsys.disabled():
        print(f"\n{results.read_text()}\nkept in {results}")


def test_a_deploy_is_one_commit(mesh: Mesh, clients: PopulatedEnvironment) -> None:
    """The host has a member of the environment, so it knows the address, and connects the workload first."""
    revision = mesh.client.get("environments", clients.id)["revision"]
    node = mesh.nodes["h1"]
    workload = node.attach(clients.id, "s0", "once")
    try:
        assert mesh.client.get("environments", clients.id)["revision"] == revision + 1
        assert list(workload.attach_answer["steps"]) == ["connect", "record", "answer", "lookup", "total"]
    finally:
        node.detach(clients.id, "s0", "once")
        workload.remove()


def test_hosts_that_expect_the_same_address_connect_their_workloads_at_different_ones(
    mesh: Mesh, clients: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    """All of them attach instances of one service at the same moment; whoever is late connects its workload anew."""
    nodes = [mesh.nodes[f"h{number % 4 + 1}"] for number in range(RIVALS)]
    workloads = [node.workload() for node in nodes]
    with ExitStack() as stack:
        for workload in workloads:
            stack.callback(workload.remove)
            stack.enter_context(talking(workload, programs["glibc"])).serve()
        at_once(lambda number: nodes[number].attach(clients.id, "s0", f"r{number}", workloads[number]), range(RIVALS))
        for number, node in enumerate(nodes):
            stack.callback(node.detach, clients.id, "s0", f"r{number}")
        assert len({workload.address for workload in workloads}) == RIVALS
        for number, workload in enumerate(workloads):
            for member in clients.members:
                found = member.talkers["glibc"].tcp(instance_name("s0", f"r{number}"), timeout=CONNECT_TIMEOUT)
                assert isinstance(found, ConnectionTimes), found
                assert found.address == workload.address
        instances = mesh.client.get("environments", clients.id, "services", "s0")["instances"]
        assert [one["state"] for one in instances] == ["ready"] * RIVALS


@pytest.mark.parametrize("hosts", [("h1",), ("h1", "h2", "h3", "h4")], ids=["one host", "four hosts"])
def test_a_name_that_is_answered_leads_to_its_workload_at_any_moment_of_a_storm(
    mesh: Mesh, clients: PopulatedEnvironment, hosts: Sequence[str]
) -> None:
    """Instances of one service are attached at once, and expect addresses that others get. Clients do not wait for the
    attach: they connect as soon as a name is answered."""
    for number in range(STORMS):
        storm([mesh.nodes[hosts[one % len(hosts)]] for one in range(AT_ONCE)], clients, f"n{number}")


def storm(nodes: Sequence[Node], clients: PopulatedEnvironment, prefix: str) -> None:
    """Attaches an instance on each of ``nodes``, all at once. Fails unless every client's first connections succeed."""
    ids = [f"{prefix}-{number}" for number in range(len(nodes))]
    names = [f"{id_}.s1" for id_ in ids]
    with ExitStack() as stack:
        workloads = [node.workload() for node in nodes]
        for workload, name in zip(workloads, names, strict=True):
            stack.callback(workload.remove)
            stack.enter_context(presenting(workload, name))
        watched = [stack.enter_context(FirstConnections(member.workload, names)) for member in clients.members]
        at_once(lambda one: nodes[one].attach(clients.id, "s1", ids[one], workloads[one]), range(len(nodes)))
        for node, id_ in zip(nodes, ids, strict=True):
            stack.callback(node.detach, clients.id, "s1", id_)
        until(lambda: all(len(one.made) == len(nodes) for one in watched), "some names were never answered")
        assert [one.failed for one in watched] == [{}] * len(watched)


def test_deploys_at_once_are_made_together(mesh: Mesh, clients: PopulatedEnvironment) -> None:
    """What has come while a host made a pass is for the next one: so many at once take it fewer than one by one."""
    alone = passes_of(mesh, clients, 1)
    together = passes_of(mesh, clients, AT_ONCE)
    print(f"passes of all hosts: {alone} for one deploy, {together} for {AT_ONCE} at once")
    assert together < AT_ONCE * alone / 2


def passes_of(mesh: Mesh, clients: PopulatedEnvironment, count: int) -> int:
    """How many passes all hosts make for ``count`` deploys to one environment that begin at the same moment."""
    nodes = [mesh.nodes[f"h{number % 4 + 1}"] for number in range(count)]
    workloads = [node.workload() for node in nodes]
    try:
        before = sum(node.metrics()["interlock_mesh_passes_total"] for node in mesh.nodes.values())
        at_once(
            lambda number: nodes[number].attach(clients.id, f"s{number % SERVICES}", f"o{number}", workloads[number]),
            range(count),
        )
        return int(sum(node.metrics()["interlock_mesh_passes_total"] for node in mesh.nodes.values()) - before)
    finally:
        for number, node in enumerate(nodes):
            node.detach(clients.id, f"s{number % SERVICES}", f"o{number}")
        for workload in workloads:
            workload.remove()


def test_an_attach_waits_for_a_host_that_is_behind(
    mesh: Mesh, clients: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    deploys = deploy_all(mesh, clients, programs, SLOW_DEPLOYS, barrier=True, delay=DELAY)
    assert [str(deploy) for deploy in deploys if not deploy.is_reached] == []


def test_without_the_barrier_some_first_connections_fail(
    mesh: Mesh, clients: PopulatedEnvironment, programs: dict[str, Build]
) -> None:
    """The negative control: the same deploys, but the agent does not wait for other hosts."""
    deploys = deploy_all(mesh, clients, programs, SLOW_DEPLOYS, barrier=False, delay=DELAY)
    assert [deploy for deploy in deploys if not deploy.is_reached] != []


def test_without_the_barrier_an_attach_waits_for_its_own_host(mesh: Mesh, clients: PopulatedEnvironment) -> None:
    """Its look-up, from inside, would find nothing yet."""
    node = mesh.nodes["h1"]
    for number in range(5):
        with behind(node.resolver, DELAY):
            workload = node.attach(clients.id, "s0", f"own{number}", barrier=False)
        node.detach(clients.id, "s0", f"own{number}")
        workload.remove()


def report(deploys: list[Deploy]) -> str:
    """The times of ``deploys`` as text. Nothing is asserted of them, for they depend on the machine."""
    lines = [f"{len(deploys)} deploys, each from the request to attach (programs run already), in milliseconds"]
    parts = {"attached": [deploy.attached for deploy in deploys], "first octet": [deploy.reached for deploy in deploys]}
    for name in dict.fromkeys(chain.from_iterable(deploy.steps for deploy in deploys)):
        parts[f"  {name}"] = [deploy.steps[name] for deploy in deploys if name in deploy.steps]
    for name, times in parts.items():
        cuts = quantiles(times, n=100, method="inclusive")
        lines.append(
            f"{name:<14} p50 {cuts[49]:7.1f}   p95 {cuts[94]:7.1f}   p99 {cuts[98]:7.1f}   most {max(times):7.1f}"
        )
    return "\n".join(lines)
