"""The firewall, in a real kernel: created before anything passes, changed by its elements alone, and restored."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections import Counter
from dataclasses import replace

import pytest

from agent.errors import Failed
from agent.plan.firewall import Ruleset, SetChange, diff, elements
from agent.plan.wanted import Wanted
from agent.system.nftables import Firewall
from tests import namespaces
from tests.agent.inside import PREFIX, run, why_not
from tests.agent.worlds import PLATFORM, address
from tests.namespaces import Namespace

WANTED = Wanted(
    networks=frozenset({PLATFORM.environment_network(1), PLATFORM.environment_network(2)}),
    resolvers=frozenset({(PLATFORM.environment_network(1), PLATFORM.resolver)}),
    workloads={"rail1": address(1, 1), "rail2": address(2, 1)},
)
FEWER = Wanted(networks=frozenset({PLATFORM.environment_network(1)}), workloads={"rail1": address(1, 7)})

FORMER_NETWORKS = "set networks {\n\t\ttype ipv6_addr . ipv6_addr\n\t\tflags interval\n"
RCVBUFFORCE = 33  # <asm-generic/socket.h>

pytestmark = pytest.mark.skipif(bool(why_not("nft")), reason=why_not("nft"))


def firewall() -> Firewall:
    return Firewall("interlock0", "rail", PLATFORM.prefix, PLATFORM.infrastructure)


async def bring(table: Firewall, wanted: Wanted) -> Ruleset:
    """``table`` with the elements of ``wanted``, as it is then."""
    actual = await read(table)
    await table.apply(diff(elements(wanted), actual.elements))
    return await read(table)


async def read(table: Firewall) -> Ruleset:
    """What ``table`` says, which is what nft lists to one that knows nothing yet."""
    ruleset = await table.read()
    assert ruleset is not None
    listed = await firewall().read()
    assert listed is not None
    assert replace(ruleset, drops={}) == replace(listed, drops={})
    assert ruleset.drops.keys() == listed.drops.keys()
    return ruleset


def nft(*arguments: str, script: str = "") -> str:
    """What nft(8) says to somebody who is not us."""
    return subprocess.run(["nft", *arguments], input=script, capture_output=True, text=True, check=True).stdout


def test_the_table_has_the_elements_that_are_wanted_and_no_others(space: Namespace) -> None:
    async def main() -> None:
        table = firewall()
        assert await table.read() is None
        await table.ensure()
        for wanted in (WANTED, FEWER, WANTED, Wanted()):
            assert (await bring(table, wanted)).elements == elements(wanted)
        assert diff(elements(Wanted()), (await read(table)).elements) == []

    run(space, main())


def test_a_table_of_many_environments_is_changed_and_read_again_without_a_process(
    space: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [PLATFORM.environment_network(number) for number in range(1, 2001)]
    many = Wanted(
        networks=frozenset(networks),
        resolvers=frozenset((network, PLATFORM.resolver) for network in networks),
        workloads={f"rail{number}": address(number, 1) for number in range(1, 2001)},
    )

    async def main() -> None:
        table = firewall()
        await table.ensure()
        await read(table)
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "run", None)
            assert (await bring_alone(table, many)).elements == elements(many)
        assert (await read(table)).elements == elements(many)
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "run", None)
            assert (await bring_alone(table, FEWER)).elements == elements(FEWER)
        assert (await read(table)).elements == elements(FEWER)

    async def bring_alone(table: Firewall, wanted: Wanted) -> Ruleset:
        actual = await table.read()
        assert actual
        await table.apply(diff(elements(wanted), actual.elements))
        assert table.is_as_left()
        found = await table.read()
        assert found
        return found

    run(space, main())


def test_a_change_that_cannot_be_made_changes_nothing_and_the_table_is_listed_again(space: Namespace) -> None:
    async def main() -> None:
        table = firewall()
        await table.ensure()
        await bring(table, WANTED)
        missing = SetChange("pins", remove=(("rail9", str(address(9, 9))),), add=(("rail8", str(address(8, 8))),))
        with pytest.raises(Failed, match="No such file"):
            await table.apply([SetChange("pins", (), (("rail7", str(address(7, 7))),)), missing])
        assert not table.is_as_left()
        assert (await read(table)).elements == elements(WANTED)

    run(space, main())


@pytest.mark.parametrize(
    "change",
    [
        "add element inet interlock pins { rail9 . fd12::9 }",
        "delete element inet interlock pins { rail1 . fd12:0:1:1::1 }",
        "flush set inet interlock networks",
        "add table inet theirs",
        "flush ruleset",
    ],
)
def test_what_somebody_else_changes_is_noticed(space: Namespace, change: str) -> None:
    async def main() -> None:
        table = firewall()
        await table.ensure()
        await bring(table, WANTED)
        assert table.is_as_left()
        nft(change.replace("fd12:0:1:1::1", str(address(1, 1))))
        assert not table.is_as_left()
        found, listed = await table.read(), await firewall().read()
        assert found == listed
        await table.apply([SetChange("pins", (), (("rail7", str(address(7, 7))),))] if found else [])
        assert table.is_as_left() == bool(found)

    run(space, main())


def test_the_table_of_an_earlier_release_keeps_its_elements(space: Namespace) -> None:
    """Its set of networks had prefixes as members; an upgraded agent lets through what was let through before."""

    async def main() -> None:
        table = firewall()
        await table.ensure()
        await bring(table, WANTED)
        rules = nft("list", "table", "inet", "interlock")
        earlier = rules.replace("set networks {\n\t\ttype ipv6_addr . ipv6_addr\n", FORMER_NETWORKS, 1)
        earlier = earlier.replace(" & ffff:ffff:ffff::", "")
        for network in WANTED.networks:
            first = str(network.network_address)
            earlier = earlier.replace(f"{first} . {first}", f"{network} . {network}")
            assert f"{network} . {network}" in earlier
        nft("delete", "table", "inet", "interlock")
        nft("-f", "-", script=earlier)
        upgraded = firewall()
        assert not upgraded.is_intact(await read(upgraded))
        await upgraded.ensure()
        assert (await read(upgraded)).elements == elements(WANTED)
        assert "interval" not in nft("list", "set", "inet", "interlock", "networks")
        assert (await bring(upgraded, FEWER)).elements == elements(FEWER)

    run(space, main())


def test_making_it_again_keeps_its_elements(space: Namespace) -> None:
    async def main() -> None:
        table = firewall()
        await table.ensure()
        await bring(table, WANTED)
        again = firewall()
        await again.ensure()
        assert (await read(again)).elements == elements(WANTED)
        assert again.is_intact(await read(again))

    run(space, main())


@pytest.mark.parametrize(
    "change",
    [
        "flush ruleset",
        "flush table inet interlock",
        "flush chain inet interlock between",
        "insert rule inet interlock between accept",
        "delete table inet interlock",
    ],
)
def test_a_manual_change_is_noticed_and_undone(space: Namespace, change: str) -> None:
    async def main() -> None:
        table = firewall()
        await table.ensure()
        await bring(table, WANTED)
        nft(*change.split())
        assert not table.is_intact(await table.read())
        await table.ensure()
        assert table.is_intact(await read(table))
        assert (await bring(table, WANTED)).elements == elements(WANTED)

    run(space, main())


def test_a_chain_that_was_made_into_something_else_is_made_anew(space: Namespace) -> None:
    async def main() -> None:
        nft("add table inet interlock; add chain inet interlock between { type filter hook input priority 0; }")
        table = firewall()
        await table.ensure()
        assert table.is_intact(await read(table))

    run(space, main())


def test_sources_are_checked_before_conntrack_puts_fragments_together(space: Namespace) -> None:
    async def main() -> None:
        await firewall().ensure()
        listed = json.loads(nft("--json", "list", "chain", "inet", "interlock", "arriving"))["nftables"]
        (chain,) = [entry["chain"] for entry in listed if "chain" in entry]
        assert (chain["hook"], chain["prio"] < -400) == ("prerouting", True)  # NF_IP6_PRI_CONNTRACK_DEFRAG

    run(space, main())


def test_the_table_of_an_earlier_release_is_replaced_and_its_elements_stay(space: Namespace) -> None:
    async def main() -> None:
        table = firewall()
        await table.ensure()
        await bring(table, WANTED)
        nft("add chain inet interlock source { type filter hook prerouting priority raw; }")
        nft("add rule inet interlock source counter drop")
        again = firewall()
        await again.ensure()
        assert "chain source" not in nft("list", "table", "inet", "interlock")
        assert (await read(again)).elements == elements(WANTED)

    run(space, main())


def test_dropped_packets_are_counted_and_are_no_change(space: Namespace) -> None:
    async def main() -> None:
        table = firewall()
        await table.ensure()
        space.ip(
            [
                "link add rail1 type veth peer name other",
                "link set rail1 up",
                "link set other up",
                "address add fe80::5/64 dev rail1 nodad",
            ]
        )

        def send(address: str) -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock, contextlib.suppress(PermissionError):
                sock.sendto(b"hello", (address, 9, 0, socket.if_nametoindex("rail1")))

        send("ff02::1")  # as the kernel does when a link comes up
        assert (await read(table)).drops["from_host"] == 0
        send("fe80::6")
        ruleset = await read(table)
        assert ruleset.drops["from_host"] > 0
        assert table.is_intact(ruleset)
        async with asyncio.timeout(10):  # the kernel sends some by itself, between the two
            while await table.read() != await firewall().read():
                pass

    run(space, main())


def test_one_member_cannot_send_the_resolver_more_than_it_reads_with_ease(space: Namespace) -> None:
    """Another one is heard all the while, and what was dropped is counted."""
    loud, quiet = namespaces.make(PREFIX, "loud"), namespaces.make(PREFIX, "quiet")
    resolver, sources = str(PLATFORM.resolver), {loud: str(address(1, 1)), quiet: str(address(2, 1))}
    both = replace(WANTED, resolvers=frozenset((network, PLATFORM.resolver) for network in WANTED.networks))
    try:
        lines = ["link set lo up", f"address add {resolver} dev lo nodad"]
        for number, (member, source) in enumerate(sources.items(), 1):
            mac = f"02:00:00:00:00:0{number}"
            lines += [
                f"link add rail{number} type veth peer name eth0 address {mac} netns {member.name}",
                f"link set rail{number} address 02:00:00:00:01:0{number} up",
                f"route add {source} dev rail{number}",
                f"neigh add {source} lladdr {mac} dev rail{number}",
            ]
        space.ip(lines)
        for number, (member, source) in enumerate(sources.items(), 1):
            member.ip(
                [
                    "link set eth0 up", f"address add {source}/128 dev eth0 nodad", f"route add {resolver} dev eth0",
                    f"neigh add {resolver} lladdr 02:00:00:00:01:0{number} dev eth0",
                ]
            )  # fmt: skip

        def listen() -> socket.socket:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, 256 << 20)
            sock.bind((resolver, 53))
            return sock

        def ask(times: int) -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.connect((resolver, 53))
                for _ in range(times):
                    sock.send(b"query")

        async def protect() -> Firewall:
            table = firewall()
            await table.ensure()
            await bring(table, both)
            return table

        table = run(space, protect())
        with space.call(listen) as sock:
            began = time.monotonic()
            loud.call(lambda: ask(100_000))
            seconds = time.monotonic() - began
            quiet.call(lambda: ask(1000))
            heard: Counter[str] = Counter()
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard[sock.recvfrom(64)[1][0]] += 1
        assert heard[sources[quiet]] == 1000
        assert 5000 <= heard[sources[loud]] <= 5001 + 20_000 * seconds * 1.1
        ruleset = run(space, read(table))
        assert ruleset.drops["asking"] == 100_000 - heard[sources[loud]]
        assert table.is_intact(ruleset)
    finally:
        loud.remove()
        quiet.remove()


def test_other_tables_are_left_alone(space: Namespace) -> None:
    async def main() -> None:
        nft("add table inet theirs")
        table = firewall()
        await table.ensure()
        await table.remove()
        assert await table.read() is None
        listed = nft("list", "tables")
        assert listed.split() == ["table", "inet", "theirs"]

    run(space, main())
