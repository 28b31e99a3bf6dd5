"""The wall, in a real kernel: made before anything passes, changed by its elements alone, and mended."""

from __future__ import annotations

import contextlib
import socket
import subprocess

import pytest

from agent.plan.wanted import Wanted
from agent.system.nftables import Firewall, Ruleset, diff, elements
from tests.agent.inside import run, why_not
from tests.agent.worlds import PLATFORM, address
from tests.namespaces import Namespace

WANTED = Wanted(
    networks=frozenset({PLATFORM.environment_network(1), PLATFORM.environment_network(2)}),
    resolvers=frozenset({(PLATFORM.environment_network(1), PLATFORM.resolver)}),
    workloads={"rail1": address(1, 1), "rail2": address(2, 1)},
)
FEWER = Wanted(networks=frozenset({PLATFORM.environment_network(1)}), workloads={"rail1": address(1, 7)})

pytestmark = pytest.mark.skipif(bool(why_not("nft")), reason=why_not("nft"))


def firewall() -> Firewall:
    return Firewall("interlock0", "rail", PLATFORM.infrastructure)


async def bring(wall: Firewall, wanted: Wanted) -> Ruleset:
    """``wall`` with the elements of ``wanted``, as it is then."""
    seen = await read(wall)
    await wall.apply(diff(elements(wanted), seen.elements))
    return await read(wall)


async def read(wall: Firewall) -> Ruleset:
    seen = await wall.read()
    assert seen is not None
    return seen


def nft(*arguments: str) -> str:
    """What nft(8) says to somebody who is not us."""
    return subprocess.run(["nft", *arguments], capture_output=True, text=True, check=True).stdout


def test_the_wall_has_the_elements_that_are_wanted_and_no_others(space: Namespace) -> None:
    async def main() -> None:
        wall = firewall()
        assert await wall.read() is None
        await wall.ensure()
        for wanted in (WANTED, FEWER, WANTED, Wanted()):
            assert (await bring(wall, wanted)).elements == elements(wanted)
        assert diff(elements(Wanted()), (await read(wall)).elements) == []

    run(space, main())


def test_making_it_again_keeps_its_elements(space: Namespace) -> None:
    async def main() -> None:
        wall = firewall()
        await wall.ensure()
        await bring(wall, WANTED)
        again = firewall()
        await again.ensure()
        assert (await read(again)).elements == elements(WANTED)
        assert again.is_intact(await read(again))

    run(space, main())


@pytest.mark.parametrize(
    "hand",
    [
        "flush ruleset",
        "flush table inet interlock",
        "flush chain inet interlock between",
        "insert rule inet interlock between accept",
        "delete table inet interlock",
    ],
)
def test_a_hand_at_the_wall_is_noticed_and_undone(space: Namespace, hand: str) -> None:
    async def main() -> None:
        wall = firewall()
        await wall.ensure()
        await bring(wall, WANTED)
        nft(*hand.split())
        assert not wall.is_intact(await wall.read())
        await wall.ensure()
        assert wall.is_intact(await read(wall))
        assert (await bring(wall, WANTED)).elements == elements(WANTED)

    run(space, main())


def test_a_chain_that_was_made_into_something_else_is_made_anew(space: Namespace) -> None:
    async def main() -> None:
        nft("add table inet interlock; add chain inet interlock between { type filter hook input priority 0; }")
        wall = firewall()
        await wall.ensure()
        assert wall.is_intact(await read(wall))

    run(space, main())


def test_what_is_counted_is_told_and_is_no_change(space: Namespace) -> None:
    async def main() -> None:
        wall = firewall()
        await wall.ensure()
        space.ip(
            [
                "link add rail1 type veth peer name other",
                "link set rail1 up",
                "link set other up",
                "address add fe80::5/64 dev rail1 nodad",
            ]
        )
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock, contextlib.suppress(PermissionError):
            sock.sendto(b"hello", ("ff02::1", 9, 0, socket.if_nametoindex("rail1")))
        seen = await read(wall)
        assert seen.drops["from_host"] > 0
        assert wall.is_intact(seen)

    run(space, main())


def test_other_tables_are_left_alone(space: Namespace) -> None:
    async def main() -> None:
        nft("add table inet theirs")
        wall = firewall()
        await wall.ensure()
        await wall.remove()
        assert await wall.read() is None
        listed = nft("list", "tables")
        assert listed.split() == ["table", "inet", "theirs"]

    run(space, main())
