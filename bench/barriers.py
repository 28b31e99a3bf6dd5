"""What does a barrier between environments cost a packet that one workload of a host sends to another?

A packet is sent by a raw socket into a veth. The kernel then takes it all its way to the other workload before the
system call returns, so the processor time of the call is that of the way. Each barrier is measured beside the plain
way, in turns, and the least of several turns counts: other programs can only make one longer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv6Network

from agent.plan.firewall import diff, elements
from agent.plan.link_filter import workload_filter
from agent.plan.wanted import Wanted
from agent.system.interior import interior
from agent.system.link_filters import guard_link
from agent.system.namespaces import opened
from agent.system.netlink import Links
from agent.system.nftables import Firewall
from agent.system.sysctls import enable_forwarding
from agent.system.veth import Veth, create_veth, link_names, mac_addresses
from bench.options import Options
from bench.processes import BenchError
from bench.report import Table, own_command, progress
from tests import namespaces
from tests.namespaces import Namespace
from tests.security.packets import ethernet, ipv6, udp
from zones.addresses import Address, Platform, instance_address, service_subnet

ENVIRONMENTS = 1_000
PACKETS, TURNS = 20_000, 9
MTU = 1420
PLATFORM = Platform()
PREFIX = "interlock-bench"


def run(options: Options) -> Iterator[Table]:
    """The table of all barriers. Raises `BenchError` where this user may not make network namespaces."""
    if os.getuid():
        raise BenchError("barriers needs root, who alone makes network namespaces: leave it out, or run it as root")
    namespaces.sweep(PREFIX)
    host, *workloads = (namespaces.make(PREFIX, kind) for kind in ("host", "one", "two"))
    rows = []
    try:
        host.call(lambda: asyncio.run(_connect(workloads)))
        for name, set_up, take_down in _barriers(host):
            progress(f"barriers: {name}")
            plain, guarded = _compare(workloads, set_up, take_down)
            rows.append((name, f"{plain:,.0f}", f"{guarded:,.0f}", f"{guarded - plain:+,.0f}"))
    finally:
        for one in (host, *workloads):
            one.remove()
    yield Table(
        "What a barrier between environments costs a packet",
        own_command(),
        ("barrier", "ns a packet without", "ns with", "difference"),
        rows,
        (
            f"The least of {TURNS} turns of {PACKETS:,} packets of 1,000 octets, between two workloads of one host.",
            "Policy rules stand for one rule a link, in the order of the links; the sender's is the last.",
        ),
    )


def _barriers(host: Namespace) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    def call(function: Callable[[], object]) -> Callable[[], object]:
        return lambda: host.call(function)

    rules = call(lambda: _ip("-6", "-batch", "-", text=_rules("add")))
    no_rules = call(lambda: _ip("-6", "-batch", "-", text=_rules("delete")))
    nft, no_nft = call(lambda: asyncio.run(_firewall())), call(lambda: subprocess.run(["nft", "flush", "ruleset"]))
    filters, no_filters = call(lambda: asyncio.run(_filters())), call(_no_filters)
    return [
        ("filters of the links", filters, no_filters),
        (f"nftables, {ENVIRONMENTS:,} environments", nft, no_nft),
        (f"policy rules, {ENVIRONMENTS:,} environments", rules, no_rules),
    ]


def _compare(
    workloads: list[Namespace], set_up: Callable[[], object], take_down: Callable[[], object]
) -> tuple[float, float]:
    """The least nanoseconds a packet without the barrier and with it."""
    plain, guarded = [], []
    for _ in range(TURNS):
        plain.append(_send(workloads))
        set_up()
        guarded.append(_send(workloads))
        take_down()
    return min(plain), min(guarded)


def _send(workloads: list[Namespace]) -> float:
    ends = bytes(_address(1)), bytes(_address(2))
    frame = ethernet(mac_addresses(_key(1))[0], ipv6(*ends, 17, udp(*ends, payload=b"x" * 1000)))

    def send() -> float:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("railnet0", 0))
            before, started = _received(workloads[1]), time.thread_time_ns()
            for _ in range(PACKETS):
                sock.send(frame)
            taken = time.thread_time_ns() - started
        assert _received(workloads[1]) - before >= PACKETS * 0.99, "the packets do not arrive"
        return taken / PACKETS

    return workloads[0].call(send)


def _received(workload: Namespace) -> int:
    text = subprocess.run(
        [*workload.enter(), "cat", "/proc/net/dev"], capture_output=True, text=True, check=True
    ).stdout
    (line,) = [line for line in text.splitlines() if "railnet0" in line]
    return int(line.split()[2])


# The barriers


async def _firewall() -> None:
    table = Firewall("interlock0", "rail", PLATFORM.prefix, PLATFORM.infrastructure)
    await table.ensure()
    wanted = Wanted(
        networks=frozenset(PLATFORM.environment_network(number) for number in range(1, ENVIRONMENTS + 1)),
        workloads={next(link_names(_key(number))): _address(number) for number in (1, 2)},
    )
    await table.apply(diff(elements(wanted), {}))


async def _filters() -> None:
    links = Links()
    for number in (1, 2):
        guard_link(links, next(link_names(_key(number))), workload_filter(_address(number), PLATFORM))
    links.close()


def _no_filters() -> None:
    for number in (1, 2):
        subprocess.run(["tc", "qdisc", "delete", "dev", next(link_names(_key(number))), "clsact"], check=True)


def _rules(verb: str) -> str:
    """A rule a link of other environments, and those of the two workloads behind them: a list has no better place."""
    lines = [f"rule {verb} priority 100 iif rail{number:x} lookup {1000 + number}" for number in range(ENVIRONMENTS)]
    own = [f"rule {verb} priority 200 iif {next(link_names(_key(number)))} lookup main" for number in (1, 2)]
    return "".join(f"{line}\n" for line in (*lines, *own))


# The two workloads


async def _connect(workloads: list[Namespace]) -> None:
    links = Links()
    _ip("link", "set", "lo", "up")
    enable_forwarding()
    for number, workload in enumerate(workloads, start=1):
        key, address = _key(number), _address(number)
        mac, interface_mac = mac_addresses(key)
        veth = Veth(next(link_names(key)), mac, "railnet0", interface_mac, address, str(workload.path), key)
        with opened(str(workload.path)) as namespace:
            async with interior(namespace) as inside:
                await create_veth(links, veth, inside, IPv6Network(PLATFORM.prefix), MTU, None)
        links.set_neighbour(str(address), interface_mac, veth.link)
        links.set_route(f"{address}/128", veth.link)
    links.close()


def _key(number: int) -> str:
    return f"bench.api.a{number}"


def _address(number: int) -> Address:
    return instance_address(service_subnet(PLATFORM.environment_network(1), 1), number)


def _ip(*arguments: str, text: str = "") -> None:
    subprocess.run(["ip", *arguments], input=text, text=True, check=True)
