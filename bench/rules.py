"""What the rules of the agents cost a path: the same path with them and without, in turns too short to tell apart.

Two paths are never alike: their processes lie elsewhere in memory and run beside others, which is more than rules cost.
So one path is measured, many times, and each time with nothing, with the firewall's chains but no rule in them, with
the firewall, and with the filters of the links as well. No rules can cost less than chains without any. The agents are
stopped for as long, who would put back what is missing. What else the machine does can only make a turn worse: what is
compared are the turns at the best tenth of each kind.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from subprocess import Popen

from agent.plan.link_filter import tunnel_filter, workload_filter
from agent.system.link_filters import guard_link
from agent.system.netlink import Links
from agent.system.veth import LINK_PREFIX
from bench.processes import processor_seconds
from bench.report import Table, own_command, progress
from tests.mesh.mesh import Node
from tests.mesh.topology import Workload
from zones.addresses import Address, Platform

ROUND_TRIPS, BULK = 150, 0.2  # of a datagram, and seconds of bulk, in each turn
BEST = 0.1  # the share of turns that are better than the one that counts
DEVICE = "interlock0"
NO_RULES = "no rules"

_SERVER = """
import socket, threading
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
datagrams.bind(("::", 7777))
listening = socket.create_server(("::", 7778), family=socket.AF_INET6)
def drain():
    connection, room = listening.accept()[0], bytearray(1 << 20)
    while connection.recv_into(room):
        pass
threading.Thread(target=drain, daemon=True).start()
print("ready", flush=True)
while True:
    datagrams.sendto(*datagrams.recvfrom(2000))
"""
_CLIENT = """
import socket, sys, time
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
datagrams.connect((sys.argv[1], 7777))
datagrams.settimeout(1)
stream, block = socket.create_connection((sys.argv[1], 7778)), bytes(1 << 17)
print("ready", flush=True)
for line in sys.stdin:
    kind, number = line.split()
    began = time.perf_counter()
    if kind == "trips":
        taken = []
        for _ in range(int(number)):
            sent = time.perf_counter()
            try:
                datagrams.send(bytes(64))
                datagrams.recv(100)
            except TimeoutError:
                continue
            taken.append(time.perf_counter() - sent)
        print(sorted(taken)[len(taken) // 4], flush=True)
    else:
        octets = 0
        while time.perf_counter() - began < float(number):
            stream.sendall(block)
            octets += len(block)
        print(octets / (time.perf_counter() - began), flush=True)
"""


@dataclass(slots=True)
class _Turns:
    """What was measured with one set of rules, a value for each turn."""

    trips: list[float] = field(default_factory=list)
    """The quicker quarter of round trips, in seconds."""
    rates: list[float] = field(default_factory=list)
    """Octets a second."""
    used: list[float] = field(default_factory=list)
    """Processor time of a round trip, of both ends and of wireguard-go, in seconds."""


def measure(
    name: str, ends: tuple[Workload, Workload], nodes: Sequence[Node], tunnels: Sequence[int], rounds: int
) -> Table:
    """The table of the path between ``ends``, on the hosts ``nodes``; ``tunnels`` are the processes of wireguard-go."""
    client, server = ends
    hosts = [_Rules(end) for end in ends]
    steps: dict[str, Callable[[_Rules], None]] = {
        NO_RULES: lambda rules: rules.set("", filters=False),
        "the firewall's chains, empty": lambda rules: rules.set(rules.empty, filters=False),
        "the firewall": lambda rules: rules.set(rules.whole, filters=False),
        "the firewall and the filters": lambda rules: rules.set(rules.whole, filters=True),
    }
    found = {rules: _Turns() for rules in steps}
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        answering = stack.enter_context(_started(server, ["-c", _SERVER], log))
        asking = stack.enter_context(_started(client, ["-c", _CLIENT, server.address], log))
        processes = [answering.pid, asking.pid, *tunnels]
        for node in nodes:
            os.kill(node.agent.pid, signal.SIGSTOP)
            stack.callback(os.kill, node.agent.pid, signal.SIGCONT)
        for number in range(rounds):
            if number % 20 == 0:
                progress(f"path: the rules of {name}, turn {number + 1} of {rounds}")
            kinds = list(steps)
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                for host in hosts:
                    steps[kind](host)
                _ask(asking, "trips", ROUND_TRIPS // 5)  # the first ones find cold caches
                before = sum(map(processor_seconds, processes))
                found[kind].trips.append(_ask(asking, "trips", ROUND_TRIPS))
                found[kind].used.append((sum(map(processor_seconds, processes)) - before) / ROUND_TRIPS)
                found[kind].rates.append(_ask(asking, "bulk", BULK))
        for host in hosts:
            host.set(host.whole, filters=True)
    base = found[NO_RULES]
    return Table(
        f"What the rules cost: {name}, the same path with and without them",
        own_command(),
        ("with", "UDP round trip, µs", "of no rules", "processor, µs", "of no rules", "TCP, Mbit/s", "of no rules"),
        [
            (
                kind,
                f"{_best(turns.trips) * 1e6:,.1f}",
                f"{_best(turns.trips) / _best(base.trips):.1%}",
                f"{_best(turns.used) * 1e6:,.1f}",
                f"{_best(turns.used) / _best(base.used):.1%}",
                f"{-_best([-rate for rate in turns.rates]) * 8 / 1e6:,.0f}",
                f"{_best([-rate for rate in turns.rates]) / _best([-rate for rate in base.rates]):.1%}",
            )
            for kind, turns in found.items()
        ],
        (
            f"{rounds} turns of each, of {ROUND_TRIPS} round trips and {BULK} s of bulk; the best tenth of turns. The"
            " processor time is that of a round trip, at both ends and of wireguard-go.",
        ),
    )


def _best(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * BEST)]


def _ask(client: Popen[bytes], kind: str, number: float) -> float:
    assert client.stdin
    assert client.stdout
    client.stdin.write(f"{kind} {number}\n".encode())
    client.stdin.flush()
    return float(client.stdout.readline())


@contextmanager
def _started(workload: Workload, arguments: list[str], log: object) -> Iterator[Popen[bytes]]:
    with workload.popen([sys.executable, *arguments], log) as process:  # type: ignore[arg-type]
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


class _Rules:
    """The rules of the host of a workload, which are switched on and off."""

    def __init__(self, workload: Workload) -> None:
        self._host, self._address = workload.host, Address.parse(workload.address)
        self.whole: str = self._host.run(["nft", "list", "ruleset"]).stdout
        self.empty = without_rules(self.whole)
        listed = json.loads(self._host.run(["ip", "-json", "link"]).stdout)
        self._links = [
            one["ifname"] for one in listed if one["ifname"] == DEVICE or one["ifname"].startswith(LINK_PREFIX)
        ]
        self._has = (self.whole, True)

    def set(self, ruleset: str, *, filters: bool) -> None:
        """Has the host have ``ruleset``, a script of nft, and nothing else, and the filters of its links or none."""
        had_ruleset, had_filters = self._has
        if ruleset != had_ruleset:
            self._host.run(["nft", "--file", "-"], text=f"flush ruleset\n{ruleset}")
        if filters and not had_filters:
            self._host.namespace.call(lambda: asyncio.run(self._put_filters()))
        if had_filters and not filters:
            for link in self._links:
                self._host.run(["tc", "qdisc", "delete", "dev", link, "clsact"])
        self._has = (ruleset, filters)

    async def _put_filters(self) -> None:
        platform, links = Platform(), Links()
        try:
            for link in self._links:
                wanted = tunnel_filter(platform) if link == DEVICE else workload_filter(self._address, platform)
                guard_link(links, link, wanted)
        finally:
            links.close()


def without_rules(ruleset: str) -> str:
    """``ruleset``, as nft lists it, with its sets and chains alone."""
    kept, is_in_chain = [], False
    for line in ruleset.splitlines():
        is_in_chain = line.startswith("\tchain ") or (is_in_chain and line != "\t}")
        if not is_in_chain or line.startswith(("\tchain ", "\t\ttype ")):
            kept.append(line)
    return "".join(f"{line}\n" for line in kept)
