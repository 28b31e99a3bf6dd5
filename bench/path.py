"""path: what a packet between two workloads on two hosts costs, bulk and request by request.

    veth             workload ─ host ─ bridge ─ host ─ workload: routes alone
    WireGuard        the same, with a WireGuard device on each host that an administrator would set up
    mesh             the same, with the agents of Interlock: its firewall, its filters of links, its routes
    mesh, of 1,000   the same, on hosts that are in 1,000 environments

All of them stand at the same time, and are measured in turn, so that what else the machine does meets each of them. The
hosts are those of `tests/mesh`: namespaces on a bridge. The link of a workload has the MTU of the tunnel in all.

With wireguard-go there is the processor time of both its processes as well, for each megabyte of the bulk. On the host
that receives, the firewall and the filters run in it too, for it is what hands the packets to the kernel. It depends
least on what else the machine does. `bench.rules` then measures the mesh with and without the rules of the agents.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench import guest, rules
from bench.options import Options
from bench.processes import BenchError, processor_seconds
from bench.report import Table, median, own_command, progress
from tests import wireguard
from tests.mesh import mesh as meshes
from tests.mesh import topology
from tests.mesh.members import at_once
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.topology import Underlay, Workload

MANY = 1_000
TURNS = 5  # with and without rules, for each round
MTU = 1420  # octets, of WireGuard on an Ethernet
MEASURES = ("tcp_bw", "udp_lat")  # qperf's: octets a second, and half of a round trip in seconds
UNITS = {"bytes/sec": 1.0, "ns": 1e-9}
BASE = "WireGuard"
START_DEADLINE = 120.0  # seconds until qperf listens, and until all environments are on a host


@dataclass(frozen=True, slots=True)
class Joined:
    """Two workloads that reach each other."""

    name: str
    """How the table names it."""
    client: Workload
    """Where qperf measures."""
    server: Workload
    """Where qperf answers."""
    found: dict[str, list[float]] = field(default_factory=lambda: {measure: [] for measure in MEASURES})
    """What was measured so far, a value for each round."""
    used: list[float] = field(default_factory=list)
    """The processor time of wireguard-go on both hosts for a megabyte, in milliseconds, a value for each round."""

    @property
    def processes(self) -> list[int]:
        """Those of wireguard-go on both hosts."""
        hosts = {host.namespace.path.stat().st_ino for host in (self.client.host, self.server.host)}
        return [pid for pid, network in running_programs("wireguard-go") if network in hosts]


def run(options: Options) -> Iterator[Table | str]:
    """Three tables for each WireGuard: those of the kernel in a guest, where this machine has none."""
    if not shutil.which("qperf"):
        raise BenchError("path needs qperf: install the package qperf")
    if not options.seconds.is_integer():
        raise BenchError(f"path: qperf measures whole seconds, and not {options.seconds:g}: give --seconds 1 or more")
    if reason := topology.why_not():
        raise BenchError(f"path needs hosts: {reason}")
    for device in options.devices:
        if not (reason := wireguard.why_not(device)):
            yield from _measure(device, options)
        elif device == "kernel" and not guest.why_not():
            yield guest.measured("path", "--rounds", str(options.rounds), "--seconds", f"{options.seconds:g}")
        else:
            progress(f"path: WireGuard of the {device} skipped: {reason}")


def _measure(device: str, options: Options) -> Iterator[Table]:
    with ExitStack() as stack:
        progress(f"path: the hosts, with WireGuard of the {device}")
        meshes_of = {"mesh": _mesh(stack, device, 1), f"mesh, of {MANY:,}": _mesh(stack, device, MANY)}
        paths = [
            Joined("veth", *_bare(stack.enter_context(topology.underlay()), _route)),
            Joined(BASE, *_bare(stack.enter_context(topology.underlay()), _TUNNELS[device])),
            *(Joined(name, *mesh[:2]) for name, mesh in meshes_of.items()),
        ]
        for path in paths:
            stack.enter_context(_serving(path.server))
        for number in range(options.rounds):
            progress(f"path: round {number + 1} of {options.rounds}")
            for path in paths[number % len(paths) :] + paths[: number % len(paths)]:
                for measure in MEASURES:
                    processes = path.processes if measure == "tcp_bw" else []
                    before = sum(map(processor_seconds, processes))
                    value = _qperf(path, measure, options.seconds)
                    path.found[measure].append(value)
                    if processes:
                        used = sum(map(processor_seconds, processes)) - before
                        path.used.append(used * 1000 / (value * options.seconds / 1e6))
        yield _table(device, paths, options)
        for path in paths[2:]:
            left, right, nodes = meshes_of[path.name]
            yield rules.measure(path.name, (left, right), nodes, path.processes, options.rounds * TURNS)


def _table(device: str, paths: Sequence[Joined], options: Options) -> Table:
    return Table(
        f"A path between two hosts, with WireGuard of {'the kernel' if device == 'kernel' else 'wireguard-go'}",
        own_command(),
        ("path", "TCP, Mbit/s", f"of {BASE}", "UDP round trip, µs", f"of {BASE}", "processor, ms/MB", f"of {BASE}"),
        [_row(path, next(one for one in paths if one.name == BASE)) for path in paths],
        (
            f"Medians of {options.rounds} rounds of {options.seconds:g} s each, least and greatest. A share"
            " compares the best rounds: what else runs on the machine can only make one worse.",
            f"Load average at the end {os.getloadavg()[0]:.1f}.",
        ),
    )


def _row(path: Joined, base: Joined) -> Sequence[str]:
    rate, trip = (path.found[measure] for measure in MEASURES)
    base_rate, base_trip = (base.found[measure] for measure in MEASURES)
    return (
        path.name,
        median([octets * 8 / 1e6 for octets in rate]),
        f"{max(rate) / max(base_rate):.1%}",
        median([seconds * 2e6 for seconds in trip], ",.1f"),
        f"{min(trip) / min(base_trip):.1%}",
        median(path.used, ".1f") if path.used else "",
        f"{min(path.used) / min(base.used):.1%}" if path.used and base.used else "",
    )


# qperf


@contextmanager
def _serving(workload: Workload) -> Iterator[None]:
    with tempfile.TemporaryFile() as log, workload.popen(["qperf"], log) as process:
        try:
            until(lambda: ":19765" in workload.run(["ss", "-Hltn"]).stdout, "qperf does not listen", START_DEADLINE)
            yield
        finally:
            process.kill()


def _qperf(path: Joined, measure: str, seconds: float) -> float:
    command = ["qperf", "-uu", "--precision", "6", "-t", f"{seconds:g}", path.server.address, measure]
    done = path.client.run(command, check=False)
    # tcp_bw:
    #     bw  =  123456 bytes/sec
    words = [line.split() for line in done.stdout.splitlines() if "=" in line]
    if done.returncode or len(words) != 1:
        raise BenchError(f"path: qperf failed between the workloads of {path.name}: {done.stdout}{done.stderr}")
    ((_, _, number, unit),) = words
    return float(number.replace(",", "")) * UNITS[unit]


def running_programs(program: str) -> Iterator[tuple[int, int]]:
    """The processes of this machine that run ``program``, each with the inode of its network namespace."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if (entry / "comm").read_text().strip() == program:
                yield int(entry.name), (entry / "ns/net").stat().st_ino


# Paths


def _bare(underlay: Underlay, join: Callable[[list[Workload]], None]) -> tuple[Workload, Workload]:
    left, right = (underlay.host(name).workload() for name in ("left", "right"))
    for number, workload in enumerate((left, right), 1):
        host = workload.host
        workload.attach_answer = {"address": f"fd12:1:1::{number}"}
        host.namespace.ip(
            [
                f"link add rail0 mtu {MTU} type veth peer name railnet0 mtu {MTU} netns {workload.namespace.name}",
                "address add fe80::1/64 dev rail0 nodad",
                "link set rail0 up",
                f"route add {workload.address} dev rail0",
            ]
        )
        workload.namespace.ip(
            [
                "link set railnet0 up",
                f"address add {workload.address} dev railnet0 nodad",
                "route add fd12::/16 via fe80::1 dev railnet0",
            ]
        )
        host.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"])
    join([left, right])
    return left, right


def _route(ends: list[Workload]) -> None:
    for workload, other in (ends, ends[::-1]):
        workload.host.namespace.ip([f"route add {other.address} via {other.host.v6}"])


def _tunnel(ends: list[Workload], make: Sequence[str]) -> None:
    keys = [end.host.run(["wg", "genkey"]).stdout.strip() for end in ends]
    publics = [end.host.run(["wg", "pubkey"], text=key).stdout.strip() for end, key in zip(ends, keys, strict=True)]
    for number, (workload, other) in enumerate((ends, ends[::-1])):
        host = workload.host
        host.run(make)
        peer = ["endpoint", f"[{other.host.v6}]:51820", "allowed-ips", f"{other.address}/128"]
        host.run(
            [
                "wg",
                "set",
                "wg0",
                "listen-port",
                "51820",
                "private-key",
                "/dev/stdin",
                "peer",
                publics[1 - number],
                *peer,
            ],
            text=keys[number],
        )
        host.namespace.ip([f"link set wg0 mtu {MTU} up", f"route add {other.address} dev wg0"])


_TUNNELS: dict[str, Callable[[list[Workload]], None]] = {
    "kernel": lambda ends: _tunnel(ends, ["ip", "link", "add", "wg0", "type", "wireguard"]),
    # In a session of its own, as the agent starts it: sessions share the processors between them.
    "userspace": lambda ends: _tunnel(ends, ["setsid", "--wait", "wireguard-go", "wg0"]),
}


def _mesh(stack: ExitStack, device: str, environments: int) -> tuple[Workload, Workload, list[Node]]:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-bench-path-")))
    mesh = stack.enter_context(meshes.running(directory, device))
    left, right = mesh.add("left", "right")
    at_once(lambda numbers: _fill(mesh, numbers), [range(first, environments, 8) for first in range(1, 9)])
    for node in (left, right):
        until(
            lambda node=node: _applied(node) == environments - 1,  # type: ignore[misc]
            f"not all of {environments} environments are on the host {node.name}",
            START_DEADLINE,
        )
    mesh.environment("measured", "web")
    return left.attach("measured", "web", "left"), right.attach("measured", "web", "right"), [left, right]


def _applied(node: Node) -> int:
    """How many environments the host has, and has told its resolver of."""
    return sum(not one["lagging"] for one in node.ask("mesh")["environments"])


def _fill(mesh: Mesh, numbers: range) -> None:
    edits = [
        {"op": "put-service", "name": "web"},
        *({"op": "put-instance", "service": "web", "id": host, "host": host} for host in ("left", "right")),
    ]
    for number in numbers:
        mesh.environment(f"e{number}")
        mesh.client.post("environments", f"e{number}", "batch", body={"edits": edits})
