"""What the firewall lets through, with no other barrier: packets of every kind, by every link, judged by the words of
docs/security.md and not by the rules. What is dropped is counted once, under the chain that says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address

import pytest

from agent.plan.firewall import diff, elements
from agent.plan.wanted import Wanted
from agent.system.nftables import Firewall
from agent.system.route_messages import OUR_GROUP
from tests import namespaces
from tests.agent.inside import PREFIX, why_not
from tests.agent.worlds import PLATFORM, address
from tests.namespaces import Namespace, capture
from tests.security.packets import KINDS, MARK, WHOLE_KINDS, Kind, ethernet, ipv4, send_frames
from tests.security.places import IPV6_FREEBIND
from zones.addresses import resolver_address

pytestmark = pytest.mark.skipif(bool(why_not("nft")), reason=why_not("nft"))

RED, BLUE = PLATFORM.environment_network(1), PLATFORM.environment_network(2)
RESOLVER, OF_RED, OF_BLUE = (str(one) for one in (PLATFORM.resolver, resolver_address(RED), resolver_address(BLUE)))
WORKLOADS = {"rail1": str(address(1, 1)), "rail2": str(address(2, 1)), "rail3": str(address(1, 2))}
TUNNEL, UNDERLAY = "interlock0", "eth0"
OURS = (*WORKLOADS, TUNNEL)
HOST, NEIGHBOUR, OUTSIDE = "2001:db8::1", "2001:db8::2", "2001:db8:ffff::1"
HOST_IPV4, MEMBERS_IPV4 = "192.0.2.1", tuple(f"198.51.100.{number}" for number in range(1, 5))
RED_ELSEWHERE, BLUE_ELSEWHERE, UNKNOWN = str(address(1, 99)), str(address(2, 99)), "fd12:dead:beef::1"

WANTED = Wanted(
    networks=frozenset({RED, BLUE}),
    resolvers=frozenset({(RED, PLATFORM.resolver), (RED, resolver_address(RED)), (BLUE, PLATFORM.resolver)}),
    workloads={link: address(*at) for link, at in (("rail1", (1, 1)), ("rail2", (2, 1)), ("rail3", (1, 2)))},
)
SOURCES = (*WORKLOADS.values(), RED_ELSEWHERE, BLUE_ELSEWHERE, OF_RED, RESOLVER, UNKNOWN, NEIGHBOUR, OUTSIDE)
DESTINATIONS = (*WORKLOADS.values(), RED_ELSEWHERE, BLUE_ELSEWHERE, OF_RED, OF_BLUE, RESOLVER, UNKNOWN, HOST, OUTSIDE)
LOCAL = (RESOLVER, OF_RED, HOST)
PLAIN = ("udp", "dns", "ssh", "tcp", "echo")  # the kernel itself drops none of these
THE_HOST = "the host"
DNS, OTHER_PORT, DISCARD = 53, 7000, 9

# Behind all other rules: what reaches programs of the host, by link, source and destination.
_PROBE = """table inet probe {
    set arrived { type ifname . ipv6_addr . ipv6_addr; size 65535; flags dynamic; }
    chain c { type filter hook input priority 2147483646; add @arrived { iifname . ip6 saddr . ip6 daddr }; }
}"""

Way = tuple[str, str, str]
"""A link that a packet comes in by, its source and its destination."""


def environment(address: str) -> object:
    """The environment that ``address`` is in; None for none that the host knows."""
    return next((one for one in (RED, BLUE) if IPv6Address(address) in one), None)


def is_platform(address: str) -> bool:
    return IPv6Address(address) in PLATFORM.prefix


def link_to(destination: str) -> str:
    """The link that the host has a route to ``destination`` by."""
    for link, workload in WORKLOADS.items():
        if workload == destination:
            return link
    return TUNNEL if is_platform(destination) else UNDERLAY


def may_ask(member: str, resolver: str) -> bool:
    return any(IPv6Address(member) in network and str(one) == resolver for network, one in WANTED.resolvers)


def outcome(way: Way, kind: str) -> str:
    """Where a packet has to arrive, a link or `THE_HOST`; else the chain that counts it as dropped."""
    link, source, destination = way
    if link == UNDERLAY:
        if is_platform(source) or is_platform(destination):
            return "arriving"
        return THE_HOST if destination in LOCAL else UNDERLAY
    if link in WORKLOADS and source != WORKLOADS[link]:
        return "from_workload"
    if link == TUNNEL and IPv6Address(source) in PLATFORM.infrastructure:
        return "from_tunnel"
    if destination in LOCAL:
        if "fragment" in kind:
            return "fragment"
        return THE_HOST if kind == "dns" and may_ask(source, destination) else "to_host"
    same = environment(source) is not None and environment(source) is environment(destination)
    return link_to(destination) if same else "between"


def outcome_of_own(source: str, destination: str, port: int) -> str:
    """As `outcome`, for what a program of the host sends from ``port``."""
    if destination in LOCAL:
        is_forged = is_platform(source) and IPv6Address(source) not in PLATFORM.infrastructure
        return "arriving" if is_forged else THE_HOST
    if is_platform(destination):
        return link_to(destination) if port == DNS and may_ask(destination, source) else "from_host"
    return "from_host" if is_platform(source) else UNDERLAY


@pytest.fixture
def others(space: Namespace) -> Iterator[Namespace]:
    """Where all links of ``space``, a host with the firewall, lead to; the link there has the same name."""
    made = namespaces.make(PREFIX, "others")
    links = (*OURS, UNDERLAY)
    space.ip(
        [
            "link set lo up",
            *(f"link add {link} type veth peer name {link} netns {made.name}" for link in links),
            *(f"link set {link} addrgenmode none arp off multicast off up" for link in links),
            *(f"link set {link} group {OUR_GROUP}" for link in OURS),
            f"address add {HOST}/64 dev {UNDERLAY} nodad",
            f"address add {HOST_IPV4}/24 dev {UNDERLAY}",
            *(f"route add {number}/32 dev {link}" for number, link in zip(MEMBERS_IPV4, OURS, strict=True)),
            *(f"address add {one}/128 dev lo nodad" for one in (RESOLVER, OF_RED)),
            *(f"route add {workload} dev {link}" for link, workload in WORKLOADS.items()),
            f"route add {PLATFORM.prefix} dev {TUNNEL}",
            f"route add ::/0 dev {UNDERLAY}",
        ]
    )
    made.ip([f"link set {link} addrgenmode none multicast off up" for link in links])
    space.call(lambda: asyncio.run(_protect()))
    subprocess.run([*space.enter(), "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"], check=True)
    subprocess.run([*space.enter(), "nft", "-f", "-"], input=_PROBE, text=True, check=True)
    yield made
    made.remove()


async def _protect() -> None:
    table = Firewall(TUNNEL, "rail", PLATFORM.prefix, PLATFORM.infrastructure)
    await table.ensure()
    await table.apply(diff(elements(WANTED), {}))


def drops(space: Namespace) -> Counter[str]:
    """How many packets each chain has dropped so far."""

    async def read() -> Counter[str]:
        found = await Firewall(TUNNEL, "rail", PLATFORM.prefix, PLATFORM.infrastructure).read()
        assert found
        return Counter(found.drops)

    return space.call(lambda: asyncio.run(read()))


def arrived_at_host(space: Namespace) -> set[Way]:
    """What has come to the programs of the host since this was called last."""
    done = subprocess.run(
        [*space.enter(), "nft", "--json", "list", "set", "inet", "probe", "arrived"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    subprocess.run([*space.enter(), "nft", "flush", "set", "inet", "probe", "arrived"], check=True)
    (listed,) = [entry["set"] for entry in json.loads(done.stdout)["nftables"] if "set" in entry]
    return {tuple((one.get("elem", {}).get("val") or one)["concat"]) for one in listed.get("elem", ())}


def mac_addresses(space: Namespace) -> dict[str, str]:
    """Those of the links of ``space``, by name."""
    done = subprocess.run([*space.enter(), "ip", "-json", "link"], capture_output=True, text=True, check=True)
    return {one["ifname"]: one["address"] for one in json.loads(done.stdout)}


def send(space: Namespace, others: Namespace, kind: Kind) -> tuple[dict[Way, set[str]], Counter[str]]:
    """Sends ``kind`` by each link, from all sources to all destinations; where each arrived, and what was counted."""
    mac = mac_addresses(space)
    ways = [
        (link, source, destination)
        for link in (*OURS, UNDERLAY)
        for source in SOURCES
        for destination in DESTINATIONS
        if source != destination
    ]
    sent = {way: kind(*(IPv6Address(end).packed for end in way[1:])) for way in ways}
    arrived: dict[Way, set[str]] = {way: set() for way in ways}
    before = drops(space)
    for link in (*OURS, UNDERLAY):
        known = {_anyhow(packet): way for way, packet in sent.items() if way[0] == link}
        with capture(others) as captured:
            frames = [ethernet(mac[link], packet) for way, packet in sent.items() if way[0] == link]
            assert others.call(lambda frames=frames, link=link: send_frames(link, frames)) == len(frames)  # type: ignore[misc]
            while octets := _next(captured):
                if way := known.get(_anyhow(octets[0])):
                    arrived[way].add(octets[1])
    for way in arrived_at_host(space) & arrived.keys():
        arrived[way].add(THE_HOST)
    return arrived, drops(space) - before


def send_own(space: Namespace, others: Namespace, ends: Iterable[tuple[str, str]], port: int) -> dict[Way, set[str]]:
    """Sends a datagram between each of ``ends`` as a program of the host, from ``port``; where each arrived."""

    def send(source: str, destination: str) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            sock.bind((source, port))
            with contextlib.suppress(PermissionError):
                sock.sendto(MARK, (destination, DISCARD))

    def send_all() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listening:
            listening.bind(("::", DISCARD))  # else the host sends errors as well
            for _, source, destination in arrived:
                send(source, destination)

    arrived: dict[Way, set[str]] = {("lo", source, destination): set() for source, destination in ends}
    with capture(others) as captured:
        space.call(send_all)
        while octets := _next(captured):
            packet, link = octets
            source, destination = (str(IPv6Address(packet[at : at + 16])) for at in (8, 24))
            arrived["lo", source, destination].add(link)
    for way in arrived_at_host(space) & arrived.keys():
        arrived[way].add(THE_HOST)
    return arrived


def _next(captured: socket.socket) -> tuple[bytes, str] | None:
    """The next packet that came out of the host, and by which link."""
    while True:
        try:
            frame, (link, _, how, *_) = captured.recvfrom(2000)
        except BlockingIOError:
            return None
        if how != socket.PACKET_OUTGOING:
            return frame[14:], link


def _anyhow(packet: bytes) -> bytes:
    """``packet`` without its hop limit."""
    return packet[:7] + packet[8:]


@pytest.mark.parametrize("kind", PLAIN)
def test_what_passes_and_what_is_counted_as_dropped(space: Namespace, others: Namespace, kind: str) -> None:
    arrived, counted = send(space, others, KINDS[kind])
    wanted = {way: outcome(way, kind) for way in arrived}
    places = {*OURS, UNDERLAY, THE_HOST}
    assert {way: {place} & places for way, place in wanted.items()} == arrived
    assert counted == Counter(place for place in wanted.values() if place not in places)
    assert {*OURS, UNDERLAY, "arriving", "from_workload", "from_tunnel", "to_host", "between"} <= {*wanted.values()}


@pytest.mark.parametrize("link", OURS)
def test_a_link_that_has_lost_its_group_is_cut_off_from_other_members(
    space: Namespace, others: Namespace, link: str
) -> None:
    """As one that an earlier release made, or that somebody else has put in another group: it gets nowhere else."""
    space.ip([f"link set {link} group default"])
    arrived, counted = send(space, others, KINDS["udp"])
    wanted = {way: outcome(way, "udp") for way in arrived}
    cut_off = {way for way, place in wanted.items() if place in OURS and link in (place, way[0])}
    assert {way[0] for way in cut_off} > {link}
    wanted |= dict.fromkeys(cut_off, "between")
    places = {*OURS, UNDERLAY, THE_HOST}
    assert {way: {place} & places for way, place in wanted.items()} == arrived
    assert counted == Counter(place for place in wanted.values() if place not in places)


def test_another_link_of_the_host_gets_nowhere_by_the_group_either(space: Namespace, others: Namespace) -> None:
    space.ip([f"link set {UNDERLAY} group {OUR_GROUP}"])
    arrived, _ = send(space, others, KINDS["udp"])
    places = {*OURS, UNDERLAY, THE_HOST}
    assert {way: {outcome(way, "udp")} & places for way in arrived} == arrived


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {*PLAIN}))
def test_nothing_arrives_anywhere_else_whatever_it_is(space: Namespace, others: Namespace, kind: str) -> None:
    """The kernel drops some of these itself, so that not all that may pass arrives."""
    arrived, counted = send(space, others, KINDS[kind])
    for way, places in arrived.items():
        assert places <= {outcome(way, kind)}, (way, places)
    if kind not in WHOLE_KINDS:
        assert counted["fragment"] == sum(outcome(way, kind) == "fragment" for way in arrived)


@pytest.mark.parametrize("port", [DNS, OTHER_PORT])
def test_what_programs_of_the_host_may_send(space: Namespace, others: Namespace, port: int) -> None:
    before, places = drops(space), {*OURS, UNDERLAY, THE_HOST}
    arrived = send_own(space, others, itertools.product((*SOURCES, HOST), DESTINATIONS), port)
    wanted = {way: outcome_of_own(*way[1:], port) for way in arrived}
    assert {way: {place} & places for way, place in wanted.items()} == arrived
    assert drops(space) - before == Counter(place for place in wanted.values() if place not in places)
    assert {"arriving", "from_host", UNDERLAY, THE_HOST} <= {*wanted.values()}


@pytest.mark.parametrize(("link", "chain"), [*((one, "from_workload") for one in WORKLOADS), (TUNNEL, "to_host")])
def test_ipv4_does_not_reach_the_host(space: Namespace, others: Namespace, link: str, chain: str) -> None:
    before, frame = drops(space), ethernet(mac_addresses(space)[link], ipv4("198.51.100.9", HOST_IPV4), 0x0800)
    others.call(lambda: send_frames(link, [frame]))
    assert drops(space) - before == Counter({chain: 1})


@pytest.mark.parametrize("destination", MEMBERS_IPV4)
def test_ipv4_is_not_sent_to_members(space: Namespace, others: Namespace, destination: str) -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(PermissionError):
            sock.sendto(MARK, (destination, DISCARD))

    before = drops(space)
    space.call(send)
    assert drops(space) - before == Counter({"from_host": 1})
    frame = ethernet(mac_addresses(space)[UNDERLAY], ipv4("192.0.2.2", destination), 0x0800)
    subprocess.run([*space.enter(), "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/forwarding"], check=True)
    others.call(lambda: send_frames(UNDERLAY, [frame]))
    assert drops(space) - before == Counter({"from_host": 1, "between": 1})
