"""deploys: from the request to attach until a client on another host has the first octet, and what it costs.

Four hosts on one machine, each with an agent and a resolver, one control plane and one store: so each commit is applied
four times on the same cores. The hosts are those of `tests/mesh`. Each of the four has a client, so each deploy waits
for all of them. The programs at both ends run before the request.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from agent.control.client import CONTROL_SOCKET
from bench.options import Options
from bench.path import running_programs
from bench.processes import BenchError
from bench.report import Table, own_command, percentile, progress
from tests import wireguard
from tests.clients.builds import Unavailable
from tests.mesh import mesh as meshes
from tests.mesh import talking, topology
from tests.mesh.deploying import Deploy, deployed
from tests.mesh.members import Layout, populated
from tests.mesh.mesh import AGENT_DIRECTORY, Mesh

HOSTS = ("h1", "h2", "h3", "h4")
CLIENTS: Layout = {"client": {f"c{number}": name for number, name in enumerate(HOSTS, 1)}}
TOGETHER = 20  # deploys to one environment at the same moment
TURNS = 5  # of them
LONGEST_ANSWER = 1 << 16  # octets that are read at once; an answer has some hundred
_TICKS = os.sysconf("SC_CLK_TCK")


def run(options: Options) -> Iterator[Table | str]:
    """One table of times, one of processor time."""
    if reason := topology.why_not():
        raise BenchError(f"deploys needs hosts: {reason}")
    device = next((one for one in options.devices if not wireguard.why_not(one)), "auto")
    try:
        programs = talking.programs()
    except Unavailable as error:
        raise BenchError(f"the test program cannot be built: {error}") from None
    with meshes.running(options.directory, device) as mesh:
        progress("deploys: the hosts")
        mesh.add(*HOSTS)
        with populated(mesh, "deploys", CLIENTS, programs) as clients:
            for number in range(TOGETHER):
                mesh.client.put("environments", clients.id, "services", f"s{number}", body={})

            def deploy(number: int) -> Deploy:
                member = clients.members[number % len(HOSTS)]
                node = mesh.nodes[HOSTS[(number + 1 + number // len(HOSTS) % 3) % len(HOSTS)]]
                service, build = f"s{number % TOGETHER}", programs["glibc"]
                with deployed(node, clients.id, service, f"i{number}", member.talkers["glibc"], build, service) as made:
                    return made

            before = _processor_seconds(mesh)
            progress(f"deploys: {options.deploys}, one after the other")
            one_by_one = [deploy(number) for number in range(options.deploys)]
            used = {name: seconds - before[name] for name, seconds in _processor_seconds(mesh).items()}
            if failed := [str(one) for one in one_by_one if not one.is_reached]:
                raise BenchError(f"{len(failed)} first connections failed: {failed[0]}")
            progress(f"deploys: {TOGETHER} at once, and one alone, {TURNS} times")
            together, alone = list[Sequence[float]](), list[Sequence[float]]()
            used_together = dict.fromkeys(used, 0.0)
            for turn in range(TURNS):
                alone += [_at_once(mesh, clients.id, f"a{turn}-{number}", 1) for number in range(len(HOSTS))]
                before = _processor_seconds(mesh)
                together.append(_at_once(mesh, clients.id, f"t{turn}", TOGETHER))
                for name, seconds in _processor_seconds(mesh).items():
                    used_together[name] += seconds - before[name]
    yield _times(device, one_by_one, alone, together)
    yield _processor(
        {"one after the other": (used, options.deploys), f"{TOGETHER} at once": (used_together, TURNS * TOGETHER)}
    )


def _at_once(mesh: Mesh, environment: str, instance: str, count: int) -> list[float]:
    """The milliseconds that each of ``count`` attaches took, all of them begun at the same moment.

    Their workloads are there already, and so are the connections to the agents' sockets. What asks and waits is one
    thread, for it has no core of its own: it takes 0.1 ms for each attach, and a thread for each would take 0.5 ms.
    """
    nodes = [mesh.nodes[HOSTS[number % len(HOSTS)]] for number in range(count)]
    with ExitStack() as stack:
        made = [(number, node, node.workload()) for number, node in enumerate(nodes)]
        for _, _, workload in made:
            stack.callback(workload.remove)
        requests = dict[socket.socket, bytes]()
        for number, node, workload in made:
            request = {
                "op": "attach",
                "environment": environment,
                "service": f"s{number}",
                "instance": instance,
                "netns": workload.path,
                "resolv_conf": str(workload.resolv_conf),
            }
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(f"{node.host.root}{AGENT_DIRECTORY}/{CONTROL_SOCKET}")
            requests[connection] = json.dumps(request).encode() + b"\n"
        taken = _ask_all(requests)
        for number, node, _ in made:
            node.detach(environment, f"s{number}", instance)
        return taken


def _ask_all(requests: Mapping[socket.socket, bytes]) -> list[float]:
    """The milliseconds until each of ``requests`` was answered, by the connection that it is sent on."""
    taken, answers = [], dict.fromkeys(requests, b"")
    with selectors.DefaultSelector() as waiting:
        for connection in requests:
            waiting.register(connection, selectors.EVENT_READ)
        began = time.monotonic()
        for connection, request in requests.items():
            connection.sendall(request)
        while waiting.get_map():
            for key, _ in waiting.select():
                connection = cast("socket.socket", key.fileobj)
                answers[connection] += (some := connection.recv(LONGEST_ANSWER))
                if not some or some.endswith(b"\n"):
                    taken.append((time.monotonic() - began) * 1000)
                    waiting.unregister(connection)
    if failed := [answer for answer in answers.values() if not answer or not json.loads(answer)["ok"]]:
        raise BenchError(f"{len(failed)} attaches failed: {failed[0].decode()}")
    return taken


def _times(
    device: str, one_by_one: Sequence[Deploy], alone: Sequence[Sequence[float]], together: Sequence[Sequence[float]]
) -> Table:
    steps = dict.fromkeys(step for one in one_by_one for step in one.steps)
    parts = {
        "first octet": [one.reached for one in one_by_one],
        "attached": [one.attached for one in one_by_one],
        **{f"- {step}": [one.steps[step] for one in one_by_one if step in one.steps] for step in steps},
        "one alone, between those at once": [max(taken) for taken in alone],
        f"{TOGETHER} at once: all attached": [max(taken) for taken in together],
    }
    ratio = statistics.median(map(max, together)) / statistics.median(map(max, alone))
    return Table(
        f"{len(one_by_one)} deploys on four hosts, in milliseconds, with WireGuard of {device}",
        own_command(),
        ("from the request to attach until", "p50", "p95", "p99", "most"),
        [
            (name, *(f"{percentile(times, share):.1f}" for share in (50, 95, 99)), f"{max(times):.1f}")
            for name, times in parts.items()
        ],
        (
            "The steps are the agent's own times; a deploy whose workload cannot be connected first has other ones.",
            f"{TOGETHER} at once take {ratio:.1f} times as long as one alone, by the medians.",
            f"Load average at the end {os.getloadavg()[0]:.1f}.",
        ),
    )


def _processor(used: Mapping[str, tuple[Mapping[str, float], int]]) -> Table:
    """``used`` has the seconds of each part, and the number of deploys, of each way to deploy."""
    parts = next(iter(used.values()))[0]
    return Table(
        "Processor time of a deploy, with the detach that ends it, in milliseconds",
        own_command(),
        ("deploys", *parts, "all"),
        [
            [way, *(f"{1000 * one / deploys:.1f}" for one in (*seconds.values(), sum(seconds.values())))]
            for way, (seconds, deploys) in used.items()
        ],
        ("Of all four hosts together, and of the processes that they have started meanwhile.",),
    )


def _processor_seconds(mesh: Mesh) -> dict[str, float]:
    hosts = {node.host.namespace.path.stat().st_ino for node in mesh.nodes.values()}
    devices = [pid for pid, network in running_programs("wireguard-go") if network in hosts]
    return {
        "control plane": _seconds(mesh.plane.program.pid),
        "store": _seconds(mesh.store.pid),
        "agents": sum(_seconds(node.agent.pid) for node in mesh.nodes.values()),
        "resolvers": sum(_seconds(node.resolver.pid) for node in mesh.nodes.values()),
        "wireguard-go": sum(_seconds(pid) for pid in devices),
    }


def _seconds(pid: int) -> float:
    """The processor time of ``pid``, and of its children that have ended, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS
