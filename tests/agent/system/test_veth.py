"""A workload's veth, created between two real network namespaces, and its faults where somebody has changed it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import pytest

from agent.errors import BadRequest, Failed, LinkGone, NotThere, Refused
from agent.plan.link_filter import workload_filter
from agent.plan.routes import Routes
from agent.system import netlink
from agent.system.interior import interior
from agent.system.namespaces import is_own, opened
from agent.system.netlink import Links
from agent.system.netlink_socket import NetlinkRefused, NetlinkSocket
from agent.system.veth import (
    Veth,
    create_veth,
    find_faults,
    find_workload_end,
    link_names,
    mac_addresses,
)
from tests import namespaces
from tests.agent.inside import PREFIX, run
from tests.agent.worlds import PLATFORM, address
from tests.namespaces import Namespace

MTU = 1420
KEY = "e1.api.a1"
OTHER_MAC = "06:00:00:00:00:01"
ICMPV6, NEIGHBOUR_SOLICITATION = 58, 135


@pytest.fixture
def workload(space: Namespace) -> Iterator[Namespace]:
    """A second namespace, for a workload of the host ``space``."""
    made = namespaces.make(PREFIX, "work")
    yield made
    made.remove()


def veth(workload: Namespace, at: int = 1) -> Veth:
    mac, interface_mac = mac_addresses(KEY)
    return Veth(next(link_names(KEY)), mac, "railnet0", interface_mac, address(1, at), str(workload.path), KEY)


async def made(wanted: Veth) -> None:
    links = Links()
    try:
        with opened(wanted.netns) as namespace:
            filter_ = workload_filter(wanted.address, PLATFORM)
            async with interior(namespace) as inside:
                await create_veth(links, wanted, inside, PLATFORM.prefix, MTU, filter_)
    finally:
        links.close()


async def faults(wanted: Veth) -> list[str]:
    links = Links()
    try:
        with opened(wanted.netns) as namespace:
            filter_ = workload_filter(wanted.address, PLATFORM)
            return await find_faults(links, wanted, namespace, PLATFORM.prefix, MTU, filter_)
    finally:
        links.close()


def test_a_link_is_made_as_it_is_described(space: Namespace, workload: Namespace) -> None:
    wanted = veth(workload)
    assert run(space, faults(wanted)) == [f"there is no link railnet0 in {workload.path}"]
    run(space, made(wanted))
    assert run(space, faults(wanted)) == []


def test_the_first_packet_leaves_at_once_without_neighbour_discovery(space: Namespace, workload: Namespace) -> None:
    """Both ends have a neighbour entry for each other, and the address is usable as soon as it is added."""
    wanted = veth(workload)
    run(space, made(wanted))
    capture = namespaces.capture(space, wanted.link)

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"first", (str(address(1, 9)), 4000))

    workload.call(send)

    async def frames() -> AsyncIterator[bytes]:
        async with asyncio.timeout(5):
            while True:
                yield await asyncio.get_running_loop().sock_recv(capture, 2048)

    async def until_first() -> list[bytes]:
        captured = []
        async for frame in frames():
            captured.append(frame)
            if frame.endswith(b"first"):
                break
        return captured

    *before, frame = asyncio.run(until_first())
    capture.close()
    assert frame[22:38] == bytes(address(1, 1))  # the packet's source is the workload's own address
    assert not [one for one in before if one[20] == ICMPV6 and one[54] == NEIGHBOUR_SOLICITATION]


def test_making_it_again_changes_nothing(space: Namespace, workload: Namespace) -> None:
    wanted = veth(workload)

    def index() -> int:
        return workload.call(lambda: socket.if_nametoindex("railnet0"))

    run(space, made(wanted))
    before = index()
    run(space, made(wanted))
    assert (index(), run(space, faults(wanted))) == (before, [])


def test_few_messages_make_a_link(space: Namespace, workload: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pair, its owner, its filter, and two to bring it up; all that is inside the workload goes as one."""
    sent: list[int] = []

    class CountedSocket(NetlinkSocket):
        def ask(self, kind: int, flags: int, body: bytes, deadline: float) -> Iterator[bytes]:
            sent.append(1)
            return super().ask(kind, flags, body, deadline)

        def ask_together(
            self, requests: Sequence[tuple[int, int, bytes]], deadline: float
        ) -> list[NetlinkRefused | None]:
            sent.append(len(requests))
            return super().ask_together(requests, deadline)

    monkeypatch.setattr(netlink, "NetlinkSocket", CountedSocket)
    run(space, made(veth(workload)))
    assert sent == [1, 1, 3, 1, 1, 8]


def test_of_changes_together_one_that_fails_keeps_none_from_being_made(space: Namespace) -> None:
    space.ip(["link add rail1 type veth peer name other"])

    def change_together(links: Links, *names: str) -> None:
        with links.together():
            for name in names:
                links.add_address(name, PLATFORM.resolver)
                links.add_address(name, PLATFORM.resolver)  # it is there, which is no failure
                links.set_route("fd12::/16", name)  # which the kernel refuses while the link is down
                links.set_up(name, MTU)

    async def main() -> list[bool]:
        links = Links()
        try:
            with pytest.raises(Failed, match="route to fd12::/16: the kernel says: Network is down"):
                change_together(links, "rail1")
            with pytest.raises(LinkGone, match="nobody"):
                change_together(links, "other", "nobody")
            return [links.is_up("rail1"), links.has_address("rail1", str(PLATFORM.resolver)), links.is_up("other")]
        finally:
            links.close()

    assert run(space, main()) == [True, True, False]


def test_a_new_address_takes_the_place_of_the_old(space: Namespace, workload: Namespace) -> None:
    run(space, made(veth(workload, at=1)))
    run(space, made(veth(workload, at=2)))
    assert run(space, faults(veth(workload, at=2))) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("link set railnet0 down", "up is False"),
        ("link set railnet0 mtu 1300", "mtu is 1300"),
        ("link set railnet0 mtu 1000", "mtu is 1000"),  # no IPv6 then
        ("address flush dev railnet0", "addresses is []"),
        ("address add fd99::1/64 dev railnet0 nodad", "addresses is ["),
        ("address add fe80::5/64 dev railnet0 nodad", "addresses is ["),
        ("route delete fd12::/16 dev railnet0", "routes is []"),
        ("link delete railnet0", "there is no link railnet0"),
        ("neighbour delete fe80::1 dev railnet0", "the neighbour fe80::1 is missing"),
        (f"neighbour replace fe80::1 lladdr {OTHER_MAC} nud permanent dev railnet0", f"fe80::1 is {OTHER_MAC}"),
    ],
)
def test_a_manual_change_is_found_and_corrected(space: Namespace, workload: Namespace, change: str, fault: str) -> None:
    wanted = veth(workload)
    run(space, made(wanted))
    workload.ip([change])
    assert fault in "; ".join(run(space, faults(wanted)))
    run(space, made(wanted))
    assert run(space, faults(wanted)) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (["link set {0} address {1}"], f"mac is {OTHER_MAC}"),
        (["link set {0} mtu 1300"], "mtu is 1300"),
        (["link set {0} mtu 1000"], "mtu is 1000"),  # no IPv6 then
        (["link set {0} arp on"], "ARP is switched on"),
        (["link set {0} alias other"], "it says that it belongs to nobody"),
        (["link set {0} down", "link set {0} name other"], "there is no link rail"),
    ],
)
def test_a_change_of_the_hosts_end_is_found_and_corrected(
    space: Namespace, workload: Namespace, changes: list[str], fault: str
) -> None:
    wanted = veth(workload)
    run(space, made(wanted))
    space.ip([change.format(wanted.link, OTHER_MAC) for change in changes])
    assert fault in "; ".join(run(space, faults(wanted)))
    run(space, made(wanted))
    assert run(space, faults(wanted)) == []


class VanishingLinks(Links):
    """Links of which the workload's goes right after the look ``after``, as the kernel removes one at any moment."""

    def __init__(self, name: str, after: int) -> None:
        super().__init__()
        self.vanishing, self.after = name, after

    def _ask(self, request: int, name: str) -> int | None:
        answer = super()._ask(request, name)
        self.after -= name == self.vanishing
        if self.after == 0:
            subprocess.run(["ip", "link", "delete", name], check=True)
            self.after = -1
        return answer


async def looked_for(links: Links, wanted: Veth, _namespace: int) -> None:
    assert find_workload_end(links, wanted.link) in (None, (wanted.netns, wanted.interface))


async def inspected(links: Links, wanted: Veth, namespace: int) -> None:
    with contextlib.suppress(LinkGone):
        await find_faults(links, wanted, namespace, PLATFORM.prefix, MTU, workload_filter(wanted.address, PLATFORM))


async def corrected(links: Links, wanted: Veth, namespace: int) -> None:
    with contextlib.suppress(LinkGone):
        async with interior(namespace) as inside:
            await create_veth(links, wanted, inside, PLATFORM.prefix, MTU, workload_filter(wanted.address, PLATFORM))


@pytest.mark.parametrize("work", [looked_for, inspected, corrected])
def test_a_link_that_goes_meanwhile_is_gone_and_no_other_fault(
    space: Namespace, workload: Namespace, work: Callable[[Links, Veth, int], Awaitable[None]]
) -> None:
    """At whichever step: it goes some time after its namespace has ended, while the next workload is attached."""
    wanted = veth(workload)

    async def at(step: int) -> bool:
        links = VanishingLinks(wanted.link, step)
        try:
            with opened(wanted.netns) as namespace:
                await work(links, wanted, namespace)
        finally:
            links.close()
        return links.after < 0

    steps = 0
    while True:
        run(space, made(wanted))
        if not run(space, at(steps + 1)):
            break
        steps += 1
    assert steps


def test_a_link_of_another_is_left_alone(space: Namespace, workload: Namespace) -> None:
    workload.ip(["link add railnet0 type veth peer name other"])
    with pytest.raises(Refused, match="choose another name"):
        run(space, made(veth(workload)))


def test_it_goes_at_both_ends(space: Namespace, workload: Namespace) -> None:
    async def main() -> tuple[bool, bool]:
        links = Links()
        try:
            return links.remove(wanted.link), links.remove(wanted.link)
        finally:
            links.close()

    wanted = veth(workload)
    run(space, made(wanted))
    assert run(space, main()) == (True, False)
    assert run(space, faults(wanted)) == [f"there is no link railnet0 in {workload.path}"]


def test_the_routes_of_a_host_are_read_back_as_they_were_made(space: Namespace, workload: Namespace) -> None:
    async def main() -> Routes:
        links = Links()
        try:
            links.set_up("dev0", 1420)
            links.add_address("dev0", PLATFORM.resolver)
            links.set_route(str(PLATFORM.prefix), "dev0")
            links.set_neighbour(str(address(1, 1)), wanted.interface_mac, wanted.link)
            links.set_route(f"{address(1, 1)}/128", wanted.link)
            assert links.read("dev0", PLATFORM.prefix, "rail").ungrouped == {"dev0"}
            links.set_group("dev0")
            return links.read("dev0", PLATFORM.prefix, "rail")
        finally:
            links.close()

    wanted = veth(workload)
    run(space, made(wanted))
    space.ip(["link add dev0 type veth peer name other"])
    found = run(space, main())
    assert found == Routes(
        True,
        frozenset({PLATFORM.resolver}),
        True,
        frozenset({wanted.link}),
        {wanted.link: address(1, 1)},
        1420,
        {wanted.link: KEY},
    )


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("/run/netns/nobody-made-this", NotThere, "No such file"),
        ("/etc/hostname", BadRequest, "is not a network namespace"),
        ("/proc/self/ns/mnt", BadRequest, "is not a network namespace"),
    ],
)
def test_what_is_no_network_namespace_is_refused(path: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason), opened(path):
        pass


def test_a_hosts_own_namespace_is_told_from_a_workloads(space: Namespace, workload: Namespace) -> None:
    def own(path: str) -> bool:
        with opened(path) as namespace:
            return is_own(namespace)

    assert space.call(lambda: own(str(space.path)))
    assert not space.call(lambda: own(str(workload.path)))
