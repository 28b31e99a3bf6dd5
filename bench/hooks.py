"""hooks: what the firewall costs a packet at each hook, and what each kind of rule costs that it is made of.

A host with the agent's firewall forwards between a workload and the tunnel, and sends and receives on the underlay, as
WireGuard does with each packet of a member. A packet is sent by a socket into a veth, and the kernel takes it all its
way before the system call returns, so the processor time of the call is that of the way. Without any rules, with chains
that have none, and with the rules, turns are short and follow each other; the best tenth of turns counts, for other
programs can only make one longer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from agent.plan.firewall import diff, elements
from agent.plan.wanted import Wanted
from agent.system.nftables import Firewall
from agent.system.route_messages import OUR_GROUP
from bench.options import Options
from bench.processes import BenchError
from bench.report import Table, own_command, progress
from bench.rules import BEST, without_rules
from tests import namespaces
from tests.namespaces import Namespace
from tests.security.packets import ethernet, ipv6, udp
from zones.addresses import Platform, instance_address, service_subnet

PACKETS, TURNS = 200, 200
TIMES = 10  # each kind of rule in one chain, so that it is more than what is uncertain
PREFIX = "interlock-bench"
PLATFORM = Platform()
ENVIRONMENT = PLATFORM.environment_network(1)
HERE, THERE = (str(instance_address(service_subnet(ENVIRONMENT, 1), number)) for number in (1, 2))
HOST, NEIGHBOUR, PORT = "2001:db8::1", "2001:db8::2", 7777
TUNNEL, WORKLOAD, UNDERLAY = "interlock0", "rail1", "eth0"
NUMBERS = {WORKLOAD: 1, TUNNEL: 2, UNDERLAY: 3}

# The links that rules compare with are none of the host's: a rule that matches nothing costs all that it looks at.
KINDS = {
    "a link, by its name": 'oifname "nothing0"',
    "a link, by its group": "oifgroup 99",
    "a link, in a set of a name and a prefix": 'oifname { "nothing0", "noth*" }',
    "two octets of an address": "ip6 saddr fd99::/16",
    "the next header": "ip6 nexthdr 99",
    "whether there is a fragment": "exthdr frag exists",
    "a counter": "counter",
    "a pin: link and address in a hash table": "oifname . ip6 saddr @pins",
    "two networks in a hash table": "ip6 saddr & ffff:ffff:ffff:: . ip6 daddr & ffff:ffff:ffff:: @networks",
}
_SETS = f"""
    set pins {{ type ifname . ipv6_addr; elements = {{ {WORKLOAD} . {HERE} }}; }}
    set networks {{ type ipv6_addr . ipv6_addr; elements = {{ fd12:1:: . fd12:1:: }}; }}
"""
_CHAIN = "chain c{0} {{ type filter hook output priority {0}; policy accept; {1}\n}}\n"

Send = Callable[[], float]
"""Sends packets on a path; nanoseconds of processor time for one."""


def run(options: Options) -> Iterator[Table]:
    """A table of the hooks and one of kinds of rules. Raises `BenchError` where no network namespaces can be made."""
    if os.getuid():
        raise BenchError("hooks needs root, who alone makes network namespaces: leave it out, or run it as root")
    namespaces.sweep(PREFIX)
    host, workload, tunnel, neighbour = (namespaces.make(PREFIX, kind) for kind in ("host", "one", "tun", "next"))
    try:
        _connect(host, {WORKLOAD: workload, TUNNEL: tunnel, UNDERLAY: neighbour})
        outwards, inwards = _datagrams(host, neighbour)
        yield _hooks(
            host,
            {
                "from a workload to the tunnel: prerouting, forward": _frames(workload, WORKLOAD, HERE, THERE),
                "from the tunnel to a workload: prerouting, forward": _frames(tunnel, TUNNEL, THERE, HERE),
                "WireGuard's own out: output, twice": outwards,
                "WireGuard's own in: prerouting, input": inwards,
            },
        )
        yield _kinds(host, outwards)
    finally:
        for one in (host, workload, tunnel, neighbour):
            one.remove()


def _hooks(host: Namespace, paths: Mapping[str, Send]) -> Table:
    host.call(lambda: asyncio.run(_protect()))
    whole = subprocess.run([*host.enter(), "nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    found = _measure(host, {"nothing": "", "chains": without_rules(whole), "rules": whole}, paths)
    rows = [
        (path, f"{least['nothing']:,.0f}", *(f"{least[one] - least['nothing']:+,.0f}" for one in ("chains", "rules")))
        for path, least in found.items()
    ]
    both = [sum(2 * (least[one] - least["nothing"]) for least in found.values()) for one in ("chains", "rules")]
    rows.append(("a round trip: each of these twice", "", *(f"{one:+,.0f}" for one in both)))
    return Table(
        "What the firewall costs a packet",
        own_command(),
        ("path", "ns without", "with chains that have no rules", "with the rules"),
        rows,
        (_note(),),
    )


def _kinds(host: Namespace, outwards: Send) -> Table:
    rulesets = {"one chain": f"table inet x {{{_SETS}{_CHAIN.format(0, '')}}}"}
    for name, rule in KINDS.items():
        rulesets[name] = f"table inet x {{{_SETS}{_CHAIN.format(0, (chr(10) + rule) * TIMES)}}}"
    chains = "".join(_CHAIN.format(number, "") for number in range(TIMES + 1))
    rulesets["a chain of a hook, without rules"] = f"table inet x {{{_SETS}{chains}}}"
    (least,) = _measure(host, rulesets, {"out": outwards}).values()
    return Table(
        "What a rule costs a packet, by what it looks at",
        own_command(),
        ("rule", "ns"),
        [(name, f"{(value - least['one chain']) / TIMES:,.0f}") for name, value in least.items() if name in rulesets][
            1:
        ],
        (_note(), f"Each {TIMES} times in one chain, and matching nothing."),
    )


def _note() -> str:
    return (
        f"The best tenth of {TURNS} turns of {PACKETS} packets each, in turn. Load average at the end"
        f" {os.getloadavg()[0]:.1f}."
    )


def _measure(host: Namespace, rulesets: Mapping[str, str], paths: Mapping[str, Send]) -> dict[str, dict[str, float]]:
    """For each path, the nanoseconds of a packet with each of ``rulesets``."""
    found: dict[str, dict[str, list[float]]] = {path: {name: [] for name in rulesets} for path in paths}
    for number in range(TURNS):
        if number % 50 == 0:
            progress(f"hooks: turn {number + 1} of {TURNS}")
        names = list(rulesets)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            script = f"flush ruleset\n{rulesets[name]}"
            subprocess.run([*host.enter(), "nft", "--file", "-"], input=script, text=True, check=True)
            for path, send in paths.items():
                found[path][name].append(send())
    return {
        path: {name: sorted(values)[int(len(values) * BEST)] for name, values in by_name.items()}
        for path, by_name in found.items()
    }


async def _protect() -> None:
    table = Firewall(TUNNEL, "rail", PLATFORM.prefix, PLATFORM.infrastructure)
    await table.ensure()
    here = instance_address(service_subnet(ENVIRONMENT, 1), 1)
    wanted = Wanted(networks=frozenset({ENVIRONMENT}), workloads={WORKLOAD: here})
    await table.apply(diff(elements(wanted), {}))


# The host, and what is sent


def _connect(host: Namespace, others: Mapping[str, Namespace]) -> None:
    for link, other in others.items():
        number = NUMBERS[link]
        host.ip(
            [
                f"link add {link} address {_mac(number)} type veth peer name out0 address {_mac(number + 16)}"
                f" netns {other.name}",
                f"link set {link} addrgenmode none up",
            ]
        )
        other.ip(["link set out0 addrgenmode none up"])
    host.ip(
        [
            *(f"link set {link} group {OUR_GROUP}" for link in (WORKLOAD, TUNNEL)),
            f"address add {HOST}/64 dev {UNDERLAY} nodad",
            *(
                line
                for address, link in ((HERE, WORKLOAD), (THERE, TUNNEL))
                for line in (
                    f"route add {address} dev {link}",
                    f"neigh add {address} lladdr {_mac(NUMBERS[link] + 16)} dev {link}",
                )
            ),
            f"neigh add {NEIGHBOUR} lladdr {_mac(NUMBERS[UNDERLAY] + 16)} dev {UNDERLAY}",
        ]
    )
    others[UNDERLAY].ip(
        [f"address add {NEIGHBOUR}/64 dev out0 nodad", f"neigh add {HOST} lladdr {_mac(NUMBERS[UNDERLAY])} dev out0"]
    )
    subprocess.run([*host.enter(), "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"], check=True)


def _mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _frames(space: Namespace, link: str, source: str, destination: str) -> Send:
    """Sends from ``space``, which the host's ``link`` leads to."""

    def open_socket() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind(("out0", 0))
        return sock

    ends = socket.inet_pton(socket.AF_INET6, source), socket.inet_pton(socket.AF_INET6, destination)
    frame = ethernet(_mac(NUMBERS[link]), ipv6(*ends, 17, udp(*ends, payload=bytes(64))))
    sock = space.call(open_socket)
    return lambda: _time(lambda: sock.send(frame))


def _datagrams(host: Namespace, neighbour: Namespace) -> tuple[Send, Send]:
    """From ``host`` to ``neighbour`` and back."""

    def open_socket(own: str, other: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind((own, PORT))
        sock.connect((other, PORT))
        return sock

    here = host.call(lambda: open_socket(HOST, NEIGHBOUR))
    there = neighbour.call(lambda: open_socket(NEIGHBOUR, HOST))

    def send(one: socket.socket, other: socket.socket) -> float:
        taken = _time(lambda: one.send(bytes(64)))
        received = 0
        with suppress(BlockingIOError):
            while other.recv(100):
                received += 1
        assert received == PACKETS, "the datagrams do not arrive"
        return taken

    return lambda: send(here, there), lambda: send(there, here)


def _time(send: Callable[[], object]) -> float:
    started = time.thread_time_ns()
    for _ in range(PACKETS):
        send()
    return (time.thread_time_ns() - started) / PACKETS
