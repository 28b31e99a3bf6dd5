"""The filters of links in a real kernel: what passes and what does not, case by case, and how they are read back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from functools import partial
from ipaddress import IPv6Address

import pytest

from agent.errors import Failed
from agent.plan.link_filter import ETHERNET, LinkFilter, tunnel_filter, workload_filter
from agent.system.link_filters import guard_link, is_guarded, loaded
from agent.system.netlink import Links, call_with_links
from tests.agent.inside import run
from tests.agent.worlds import PLATFORM, address
from tests.namespaces import Namespace
from tests.security.packets import KINDS, arp, ethernet, ipv4, ipv6, send_frames, udp
from zones.addresses import resolver_address

OWN, SAME, OTHER = address(1, 1), address(1, 2), address(2, 1)
RESOLVER, OWN_RESOLVER, OTHER_RESOLVER = (
    PLATFORM.resolver, resolver_address(PLATFORM.environment_network(1)),
    resolver_address(PLATFORM.environment_network(2)),
)  # fmt: skip
MAC = "06:00:00:00:00:01"
INTERRUPT_EVERY = 0.002  # seconds; the kernel checks a program for a tenth of that, and for longer on a busy machine

# From, to, kind, and whether the link of the workload at `OWN` takes it in.
FROM_WORKLOAD = [
    (OWN, SAME, "udp", True),
    (OWN, SAME, "tcp", True),
    (OWN, SAME, "echo", True),
    (OWN, SAME, "first fragment", True),
    (OWN, SAME, "hop-by-hop", True),
    (OWN, RESOLVER, "dns", True),
    (OWN, OWN_RESOLVER, "dns", True),
    (OWN, RESOLVER, "ssh", False),
    (OWN, RESOLVER, "echo", False),
    (OWN, RESOLVER, "first fragment", False),
    (OWN, OWN_RESOLVER, "udp", False),
    (OWN, OTHER, "udp", False),
    (OWN, OTHER_RESOLVER, "dns", False),
    (SAME, OWN, "udp", False),
    (SAME, RESOLVER, "dns", False),
    (OTHER, OTHER, "udp", False),
    (RESOLVER, OTHER, "udp", False),
    (OWN, "2001:db8::1", "udp", False),
    (OWN, "fe80::1", "udp", False),
    (OWN, "ff05::2", "udp", False),
]

# What the kernel of a workload, and a program that looks for others of its kind, says to whoever is on the link.
TO_THE_LINK = [
    (OWN, "ff02::1", "neighbour advertisement"),
    ("fe80::1", "ff02::2", "router solicitation"),
    ("::", "ff02::1:ff00:1", "neighbour solicitation"),
    ("fe80::1", "ff02::16", "listener report"),
    (OWN, "ff02::fb", "udp"),
]


@pytest.fixture
def link(space: Namespace) -> str:
    """A link of ``space``, whose other end is there too; the kernel sends nothing of its own on it."""
    space.ip(
        [
            f"link add rail1 address {MAC} type veth peer name other",
            *(f"link set {one} addrgenmode none" for one in ("rail1", "other")),
            *(f"link set {one} multicast off" for one in ("rail1", "other")),
            *(f"link set {one} up" for one in ("rail1", "other")),
        ]
    )
    return "rail1"


def dropped(space: Namespace, wanted: LinkFilter, frame: bytes) -> int:
    """How many packets ``wanted`` on the link drops of ``frame``, which comes in there."""

    async def main() -> int:
        links = Links()
        try:
            guard_link(links, "rail1", wanted)
            before = links.filter_drops(("rail1",), "none")
            send_frames("other", [frame])
            return links.filter_drops(("rail1",), "none") - before
        finally:
            links.close()

    return run(space, main())


def nft(space: Namespace, command: str) -> str:
    done = subprocess.run([*space.enter(), "nft", command], capture_output=True, text=True, check=True)
    return done.stdout


def packet(source: object, destination: object, kind: str) -> bytes:
    return KINDS[kind](IPv6Address(str(source)).packed, IPv6Address(str(destination)).packed)


def test_what_a_workload_may_send(space: Namespace, link: str) -> None:
    wanted = workload_filter(OWN, PLATFORM)
    outcome = [
        (source, destination, kind, not dropped(space, wanted, ethernet(MAC, packet(source, destination, kind))))
        for source, destination, kind, _ in FROM_WORKLOAD
    ]
    assert outcome == FROM_WORKLOAD


def test_what_is_said_to_the_link_goes_nowhere_and_is_not_counted(space: Namespace, link: str) -> None:
    wanted = workload_filter(OWN, PLATFORM)
    hook = "type filter hook ingress device rail1 priority 0;"  # behind the filter
    nft(space, f"add table netdev seen; add chain netdev seen in {{ {hook} }}; add rule netdev seen in counter")

    def came() -> int:
        return int(nft(space, "list table netdev seen").partition("packets ")[2].split()[0])

    for source, destination, kind in TO_THE_LINK:
        assert dropped(space, wanted, ethernet(MAC, packet(source, destination, kind))) == 0, kind
    assert came() == 0
    assert dropped(space, wanted, ethernet(MAC, packet(OWN, SAME, "udp"))) == 0
    assert came() == 1  # the control: what passes the filter is seen


def test_frames_that_are_no_plain_ipv6_do_not_come_in(space: Namespace, link: str) -> None:
    wanted, inner = workload_filter(OWN, PLATFORM), packet(OWN, SAME, "udp")
    for frame in (
        ethernet(MAC, ipv4("192.0.2.1", "192.0.2.2"), 0x0800),
        ethernet(MAC, arp(1, "192.0.2.1", "192.0.2.2"), 0x0806),
        ethernet(MAC, b"\0\0\x86\xdd" + inner, 0x8100),
        ethernet(MAC, b"\0\5\x86\xdd" + inner, 0x8100),
        ethernet(MAC, inner, 0x8847),
        ethernet(MAC, inner[:30]),  # cut short
    ):
        assert dropped(space, wanted, frame) == 1, frame.hex()
    assert dropped(space, wanted, ethernet(MAC, inner)) == 0


@pytest.mark.parametrize(
    ("source", "destination", "kind", "passes"),
    [
        (SAME, OWN, "udp", True),
        (SAME, OWN, "later fragment", True),
        (SAME, RESOLVER, "dns", True),
        (SAME, OWN_RESOLVER, "dns", True),
        (SAME, OWN_RESOLVER, "ssh", False),
        (SAME, OTHER, "udp", False),
        (SAME, OTHER_RESOLVER, "dns", False),
        (RESOLVER, OWN, "udp", False),
        ("2001:db8::1", OWN, "udp", False),
        ("2001:db8::1", "2001:db8::2", "udp", False),
        (SAME, "2001:db8::2", "udp", False),
    ],
)
def test_what_the_tunnel_takes_in(
    space: Namespace, link: str, source: object, destination: object, kind: str, passes: bool
) -> None:
    wanted = tunnel_filter(PLATFORM, ETHERNET)  # on a veth, where the tunnel's packets have no such header
    assert (dropped(space, wanted, ethernet(MAC, packet(source, destination, kind))) == 0) is passes


def test_a_filter_is_put_on_once_and_replaced_by_another(space: Namespace, link: str) -> None:
    async def main() -> None:
        links = Links()
        try:
            first, second = workload_filter(OWN, PLATFORM), workload_filter(SAME, PLATFORM)
            assert not is_guarded(links, link, first)
            for wanted in (first, first, second):
                guard_link(links, link, wanted)
                assert is_guarded(links, link, wanted)
            assert not is_guarded(links, link, first)
            assert not is_guarded(links, "nowhere", first)
            with pytest.raises(Failed, match="nowhere"):
                guard_link(links, "nowhere", first)
        finally:
            links.close()

    run(space, main())


def test_many_links_are_guarded_and_read_at_the_same_time(space: Namespace) -> None:
    space.ip([f"link add rail{number} type veth peer name other{number}" for number in range(40)])

    def guard(link: str, own: Links) -> None:
        guard_link(own, link, workload_filter(OWN, PLATFORM))

    async def main() -> None:
        links = Links()
        try:
            guarding = [call_with_links(partial(guard, f"rail{number}")) for number in range(40)]
            reading = [call_with_links(lambda own: own.read("rail1", PLATFORM.prefix, "rail")) for _ in range(3)]
            await asyncio.gather(*guarding, *reading)
            assert all(is_guarded(links, f"rail{number}", workload_filter(OWN, PLATFORM)) for number in range(40))
            assert links.filter_drops((), "rail") == 0
        finally:
            links.close()

    run(space, main())


def test_what_goes_out_must_have_come_in_by_a_filtered_link(space: Namespace, link: str) -> None:
    """A packet that a program of this host sends to the workload, from an address of its environment."""

    async def main() -> int:
        links = Links()
        try:
            guard_link(links, link, workload_filter(OWN, PLATFORM))
            ends = bytes(SAME), bytes(OWN)
            with pytest.raises(OSError, match="No buffer space"):  # what the kernel tells the sender
                send_frames(link, [ethernet(MAC, ipv6(*ends, 17, udp(*ends)))])
            return links.filter_drops((link,), "none")
        finally:
            links.close()

    assert run(space, main()) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="not root, who alone may load a BPF program")
def test_a_signal_while_the_kernel_checks_a_program_is_no_failure() -> None:
    """Such as the end of a child, or a look of a profiler: the kernel gives up then, and an attach failed."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, INTERRUPT_EVERY, INTERRUPT_EVERY)
    try:
        for at in range(1, 300):
            with loaded(workload_filter(address(1, at), PLATFORM).incoming):
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
