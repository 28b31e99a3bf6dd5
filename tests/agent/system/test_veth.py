"""A workload's link, made between two real network namespaces, and found out where it is not as it was made."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from agent.attachment import Attachment, Phase
from agent.errors import BadRequest, NotThere, Refused
from agent.plan.routes import Routes
from agent.system.namespaces import is_own, opened
from agent.system.netlink import Links
from agent.system.veth import create_veth, find_faults, remove_veth
from tests import namespaces
from tests.agent.inside import PREFIX, run
from tests.agent.worlds import PLATFORM, address
from tests.namespaces import Namespace
from zones.names import EnvironmentId

MTU = 1420
ICMPV6, NEIGHBOUR_SOLICITATION = 58, 135


@pytest.fixture
def workload(space: Namespace) -> Iterator[Namespace]:
    """A second namespace, for a workload of the host ``space``."""
    made = namespaces.make(PREFIX, "work")
    yield made
    made.remove()


def attachment(workload: Namespace, instance: str = "a1", at: int = 1) -> Attachment:
    return Attachment(
        EnvironmentId("e1"), "api", instance, str(workload.path), "railnet0", Phase.ATTACHING, address(1, at)
    )


async def made(wanted: Attachment) -> None:
    links = Links()
    try:
        with opened(wanted.netns) as namespace:
            await create_veth(links, wanted, namespace, PLATFORM.prefix, MTU)
    finally:
        links.close()


async def faults(wanted: Attachment) -> list[str]:
    links = Links()
    try:
        with opened(wanted.netns) as namespace:
            return await find_faults(links, wanted, namespace, PLATFORM.prefix, MTU)
    finally:
        links.close()


def test_a_link_is_made_as_it_is_described(space: Namespace, workload: Namespace) -> None:
    wanted = attachment(workload)
    assert run(space, faults(wanted)) == [f"there is no link railnet0 in {workload.path}"]
    run(space, made(wanted))
    assert run(space, faults(wanted)) == []


def test_the_first_packet_goes_at_once_for_nobody_has_to_ask_for_a_neighbour(
    space: Namespace, workload: Namespace
) -> None:
    """Both ends know each other beforehand, and the address is usable in the moment that it is there."""
    wanted = attachment(workload)
    run(space, made(wanted))
    heard = space.capture(wanted.link)

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"first", (str(address(1, 9)), 4000))

    workload.call(send)

    async def frames() -> AsyncIterator[bytes]:
        async with asyncio.timeout(5):
            while True:
                yield await asyncio.get_running_loop().sock_recv(heard, 2048)

    async def until_first() -> list[bytes]:
        seen = []
        async for frame in frames():
            seen.append(frame)
            if frame.endswith(b"first"):
                break
        return seen

    *before, frame = asyncio.run(until_first())
    heard.close()
    assert frame[22:38] == bytes(address(1, 1))  # its own address is what it speaks from
    assert not [one for one in before if one[20] == ICMPV6 and one[54] == NEIGHBOUR_SOLICITATION]


def test_making_it_again_changes_nothing(space: Namespace, workload: Namespace) -> None:
    wanted = attachment(workload)

    def index() -> int:
        return workload.call(lambda: socket.if_nametoindex("railnet0"))

    run(space, made(wanted))
    before = index()
    run(space, made(wanted))
    assert (index(), run(space, faults(wanted))) == (before, [])


def test_a_new_address_takes_the_place_of_the_old(space: Namespace, workload: Namespace) -> None:
    run(space, made(attachment(workload, at=1)))
    run(space, made(attachment(workload, at=2)))
    assert run(space, faults(attachment(workload, at=2))) == []


@pytest.mark.parametrize(
    ("hand", "fault"),
    [
        ("link set railnet0 down", "up is False"),
        ("link set railnet0 mtu 1300", "mtu is 1300"),
        ("address flush dev railnet0", "addresses is []"),
        ("route delete fd12::/16 dev railnet0", "routes is []"),
        ("link delete railnet0", "there is no link railnet0"),
    ],
)
def test_what_a_hand_has_changed_is_found_and_mended(
    space: Namespace, workload: Namespace, hand: str, fault: str
) -> None:
    wanted = attachment(workload)
    run(space, made(wanted))
    workload.ip([hand])
    assert fault in "; ".join(run(space, faults(wanted)))
    run(space, made(wanted))
    assert run(space, faults(wanted)) == []


def test_a_link_of_another_is_left_alone(space: Namespace, workload: Namespace) -> None:
    workload.ip(["link add railnet0 type veth peer name other"])
    with pytest.raises(Refused, match="choose another name"):
        run(space, made(attachment(workload)))


def test_it_goes_at_both_ends(space: Namespace, workload: Namespace) -> None:
    async def main() -> tuple[bool, bool]:
        links = Links()
        try:
            return await remove_veth(links, wanted), await remove_veth(links, wanted)
        finally:
            links.close()

    wanted = attachment(workload)
    run(space, made(wanted))
    assert run(space, main()) == (True, False)
    assert run(space, faults(wanted)) == [f"there is no link railnet0 in {workload.path}"]


def test_the_ways_of_a_host_are_read_back_as_they_were_made(space: Namespace, workload: Namespace) -> None:
    async def main() -> Routes:
        links = Links()
        try:
            await links.set_up("dev0", 1420)
            await links.add_address("dev0", PLATFORM.resolver)
            await links.route(str(PLATFORM.prefix), "dev0")
            await links.know(str(address(1, 1)), wanted.macs[1], wanted.link)
            await links.route(f"{address(1, 1)}/128", wanted.link)
            return await links.read("dev0", PLATFORM.prefix, "rail")
        finally:
            links.close()

    wanted = attachment(workload)
    run(space, made(wanted))
    space.ip(["link add dev0 type veth peer name other"])
    found = run(space, main())
    assert found == Routes(
        True, frozenset({PLATFORM.resolver}), True, frozenset({wanted.link}), {wanted.link: address(1, 1)}
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
