"""The pass, on a host that is simulated: in which order it changes the system, and when it changes nothing.

What the real system makes of it is tested in tests/mesh; here a reading can be held up at the point that matters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Network
from pathlib import Path
from typing import cast

import pytest

from agent.announce.acknowledger import Acknowledger
from agent.announce.barrier import Barrier
from agent.announce.handshakes import Handshakes
from agent.announce.notifier import Notifier
from agent.control_plane.connection import ControlPlane
from agent.control_plane.credential import CredentialFiles
from agent.errors import Failed, LinkGone
from agent.identity import Identity
from agent.keys import PrivateKey
from agent.mesh.idle import IDLE, SECOND
from agent.mesh.mesh import Mesh
from agent.plan.firewall import LINK, Element, Ruleset, SetChange
from agent.plan.link_filter import tunnel_filter
from agent.plan.peers import PeerStep, StartHandshake, Tunnel, after
from agent.plan.plan import LocalWorkload
from agent.plan.routes import Routes
from agent.system.host import HostSystem
from agent.system.netlink import Links
from agent.system.nftables import Firewall
from tests.agent.control_plane.plane import Ear
from tests.agent.worlds import PLATFORM, address, environment, host
from watcher.feed.server import FeedServer
from zones.addresses import Address
from zones.hosts import Host, Hosts
from zones.keys import PublicKey
from zones.model import Environment
from zones.zone import compile_zone

PRIVATE = PrivateKey.generate()
ME = Host("h1", "192.0.2.1:51820", PRIVATE.public)
WORKLOAD = LocalWorkload("rail1", "02:00:00:00:00:01", environment(1, [1]).id, address(1, 1), "e1.api.a1")


@dataclass
class Simulated:
    """A host as the adapters see it. ``changes`` has what was done to it, in order."""

    changes: list[str] = field(default_factory=list)
    ruleset: Ruleset | None = None
    tunnel: Tunnel | None = None
    addresses: set[Address] = field(default_factory=set)
    routed: dict[str, Address] = field(default_factory=dict)
    has_prefix: bool = False
    ungrouped: set[str] = field(default_factory=set)
    handshakes: list[PublicKey] = field(default_factory=list)
    fails: bool = False
    loses_link: bool = False
    takes_filters: bool = True
    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    is_reading: asyncio.Event = field(default_factory=asyncio.Event)


class SimulatedFirewall:
    def __init__(self, world: Simulated) -> None:
        self.world = world

    async def read(self) -> Ruleset | None:
        return self.world.ruleset

    def is_as_left(self) -> bool:
        return True

    def is_intact(self, ruleset: Ruleset | None) -> bool:
        return ruleset is not None

    async def ensure(self) -> None:
        self.world.changes.append("create firewall")
        self.world.ruleset = Ruleset({}, "rules", {})

    async def apply(self, changes: Iterable[SetChange]) -> None:
        assert self.world.ruleset is not None
        sets: dict[str, frozenset[Element]] = dict(self.world.ruleset.elements)
        for change in changes:
            self.world.changes.append("change firewall")
            sets[change.name] = sets.get(change.name, frozenset()) - set(change.remove) | set(change.add)
        self.world.ruleset = Ruleset(sets, "rules", {})

    async def remove(self) -> None:
        self.world.changes.append("remove firewall")
        self.world.ruleset = None


class SimulatedDevice:
    def __init__(self, world: Simulated) -> None:
        self.world = world

    async def ensure(self, key: PrivateKey, port: int, mtu: int) -> None:
        self.world.changes.append("create device")
        self.world.tunnel = Tunnel(key.public, port, self.world.tunnel.peers if self.world.tunnel else {})

    async def read(self) -> Tunnel | None:
        found = self.world.tunnel
        self.world.is_reading.set()
        await self.world.may_read.wait()
        return found

    async def apply(self, steps: Sequence[PeerStep]) -> None:
        if self.world.fails:
            raise Failed("wireguard-go is gone")
        assert self.world.tunnel is not None
        if steps:
            self.world.changes.append("change peers")
        self.world.handshakes += [step.key for step in steps if isinstance(step, StartHandshake)]
        self.world.tunnel = after(self.world.tunnel, steps)

    async def set_key(self, key: PrivateKey) -> None:
        raise NotImplementedError

    async def remove(self) -> None:
        self.world.changes.append("remove device")
        self.world.tunnel = None


MTU = 1420  # octets, of the device from its start


class SimulatedLinks:
    def __init__(self, world: Simulated) -> None:
        self.world = world

    def read(self, _device: str, _prefix: IPv6Network, _workloads: str) -> Routes:
        world = self.world
        is_up = world.tunnel is not None
        return Routes(
            is_up,
            frozenset(world.addresses),
            world.has_prefix,
            frozenset({"rail1"}),
            dict(world.routed),
            MTU,
            ungrouped=frozenset(world.ungrouped),
        )

    def set_group(self, name: str) -> None:
        self.world.ungrouped.remove(name)
        self.world.changes.append(f"group {name}")
        if name == "rail2":
            raise LinkGone(f"there is no link {name}: somebody has removed it")

    def tunnel_mtu(self, _underlay: str, _otherwise: int) -> int:
        return MTU

    def is_up(self, name: str) -> bool:
        return name == "rail1"

    def filters(self, _name: str) -> tuple[str, str]:
        if not self.world.takes_filters:
            raise Failed("the kernel does not take a BPF program: Operation not permitted")
        label = tunnel_filter(PLATFORM).label
        return label, label

    def filter_drops(self, _names: Collection[str], _prefix: str) -> int:
        assert self.world.takes_filters
        return 7

    def named(self, _prefix: str) -> list[str]:
        return []

    def add_address(self, _name: str, added: Address) -> None:
        self.world.changes.append("change routes")
        self.world.addresses.add(added)

    def set_neighbour(self, target: str, mac: str, name: str) -> None:
        assert (target, mac, name) == (str(WORKLOAD.address), WORKLOAD.mac, WORKLOAD.link)
        if self.world.loses_link:
            raise LinkGone(f"there is no link {name}: somebody has removed it")

    def set_route(self, target: str, name: str) -> None:
        self.world.changes.append("change routes")
        if target == str(PLATFORM.prefix):
            self.world.has_prefix = True
        else:
            self.world.routed[name] = Address.parse(target.removesuffix("/128"))

    def remove_route(self, _target: str, name: str) -> None:
        self.world.changes.append("change routes")
        del self.world.routed[name]


@pytest.fixture
def world() -> Simulated:
    made = Simulated()
    made.may_read.set()
    return made


@pytest.fixture
def mesh(world: Simulated, tmp_path: Path, files: CredentialFiles) -> Mesh:
    away = ControlPlane([], files, "i1", "a test", Ear())  # which is never started
    system = HostSystem(
        "interlock0",
        MTU,
        PLATFORM,
        SimulatedDevice(world),
        cast("Links", SimulatedLinks(world)),
        cast("Firewall", SimulatedFirewall(world)),
    )
    notifier = Notifier(FeedServer(tmp_path / "names.sock"), Acknowledger(away))
    return Mesh(
        Identity(ME, PRIVATE, is_admitted=True),
        PLATFORM,
        system,
        notifier,
        Handshakes(Barrier(away)),
        lambda: [WORKLOAD],
    )


def publish(mesh: Mesh, *environments: Environment) -> None:
    for one in environments:
        mesh.publish(compile_zone(PLATFORM, one, 0))


def load(mesh: Mesh) -> None:
    """Publishes an environment with an instance here and one on another host, and the other host."""
    mesh.take_hosts(Hosts(1, {"h2": host(2)}, {}))
    publish(mesh, environment(1, [1, 2]))
    mesh.loaded()


async def run_pass(mesh: Mesh) -> None:
    await mesh._reconciler.run_pass(is_requested=False)


async def test_the_firewall_is_created_first_and_changed_before_routes_and_peers(mesh: Mesh, world: Simulated) -> None:
    load(mesh)
    await run_pass(mesh)
    in_order = list(dict.fromkeys(world.changes))
    assert in_order == ["create firewall", "create device", "change firewall", "change routes", "change peers"]
    assert world.tunnel is not None
    assert world.tunnel.peers.keys() == {host(2).public_key}
    assert world.routed == {"rail1": address(1, 1)}


async def test_links_of_an_earlier_release_are_grouped_before_the_firewall_asks_for_it(
    mesh: Mesh, world: Simulated
) -> None:
    load(mesh)
    world.ungrouped |= {"rail1", "rail2"}  # one of which is removed meanwhile
    await run_pass(mesh)
    assert world.changes.index("create firewall") == 2
    assert {*world.changes[:2]} == {"group rail1", "group rail2"}
    assert mesh.status.counts.repairs == 0


async def test_a_link_that_has_lost_its_group_is_put_back_and_that_is_a_repair(mesh: Mesh, world: Simulated) -> None:
    load(mesh)
    await run_pass(mesh)
    world.changes.clear()
    world.ungrouped.add("rail1")
    mesh._reconciler.read_back.at = 0.0
    await run_pass(mesh)
    assert world.changes == ["group rail1"]
    assert mesh.status.counts.repairs == 1


async def test_a_link_that_its_workload_removes_meanwhile_fails_no_pass(mesh: Mesh, world: Simulated) -> None:
    """A pass that fails fails the attach of each workload that waits for it, of whichever environment."""
    load(mesh)
    world.loses_link = True
    await run_pass(mesh)
    assert mesh.status.actual is not None
    assert (world.routed, dict(mesh.status.actual.routes.workloads)) == ({}, {})
    assert world.tunnel is not None
    assert world.tunnel.peers.keys() == {host(2).public_key}
    world.loses_link = False
    await run_pass(mesh)
    assert world.routed == mesh.status.actual.routes.workloads == {"rail1": address(1, 1)}


async def test_the_same_again_changes_nothing(mesh: Mesh, world: Simulated) -> None:
    load(mesh)
    await run_pass(mesh)
    world.changes.clear()
    mesh.status.actual = None  # so that the system is read
    publish(mesh, environment(1, [1, 2], revision=2))
    await run_pass(mesh)
    assert world.changes == []
    assert (mesh.status.counts.passes, mesh.status.counts.read_backs) == (2, 2)


async def test_until_all_is_loaded_only_the_firewall_and_the_device_are_created(mesh: Mesh, world: Simulated) -> None:
    publish(mesh, environment(1, [1, 2]))
    await run_pass(mesh)
    assert world.changes == ["create firewall", "create device"]


async def test_what_a_read_back_finds_to_differ_is_corrected_and_counted(mesh: Mesh, world: Simulated) -> None:
    load(mesh)
    await run_pass(mesh)
    world.routed.clear()
    mesh._reconciler.read_back.at = 0.0
    await run_pass(mesh)
    assert world.routed == {"rail1": address(1, 1)}
    assert mesh.status.counts.repairs == 1


async def test_a_host_that_says_nothing_for_long_is_asked_and_nothing_counts_as_changed(
    mesh: Mesh, world: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(mesh)
    await run_pass(mesh)
    steps, clock = mesh.status.counts.steps, time.monotonic
    monkeypatch.setattr("agent.mesh.reconcile.time.monotonic", lambda: clock() + IDLE + SECOND)
    await run_pass(mesh)
    assert world.handshakes == [host(2).public_key]
    await run_pass(mesh)
    assert world.handshakes == [host(2).public_key]  # once
    assert (mesh.status.counts.steps, mesh.status.counts.repairs) == (steps, 0)


async def test_without_filters_of_links_the_host_works_and_says_so(mesh: Mesh, world: Simulated) -> None:
    load(mesh)
    world.takes_filters = False
    await run_pass(mesh)
    assert world.routed == {"rail1": address(1, 1)}
    assert "nftables alone keeps environments apart" in mesh.system.filter_problem
    assert mesh.system.filter_of(address(1, 1)) is None
    assert mesh.status.actual is not None
    assert mesh.status.actual.firewall.drops[LINK] == 0
    world.takes_filters = True
    mesh._reconciler.read_back.at = 0.0
    await run_pass(mesh)
    assert mesh.system.filter_problem == ""
    assert mesh.system.filter_of(address(1, 1)) is not None
    assert mesh.status.actual.firewall.drops[LINK] == 7


async def test_a_fresh_workload_is_routed_before_its_document_is_published(mesh: Mesh, world: Simulated) -> None:
    mesh.loaded()
    await run_pass(mesh)
    assert world.routed == {}
    mesh.committed(WORKLOAD.link, WORKLOAD.environment, 1)
    applied = asyncio.create_task(mesh.add_workload(WORKLOAD.link))
    await asyncio.sleep(0)
    await run_pass(mesh)
    assert world.routed == {"rail1": address(1, 1)}
    publish(mesh, environment(1, []))  # the document decides: the instance is gone again
    await run_pass(mesh)
    assert world.routed == {}
    applied.cancel()


async def test_what_a_failed_pass_did_not_apply_is_applied_by_the_next(mesh: Mesh, world: Simulated) -> None:
    load(mesh)
    world.fails = True
    with pytest.raises(Failed):
        await run_pass(mesh)
    world.fails, mesh.status.actual = False, None
    await run_pass(mesh)
    assert world.tunnel is not None
    assert world.tunnel.peers.keys() == {host(2).public_key}
    assert mesh.notifier.acknowledger._pending == {"@hosts": 1}


async def test_after_a_repair_of_the_device_a_handshake_is_begun_with_each_peer(mesh: Mesh, world: Simulated) -> None:
    """Also where the pass that repaired it failed, and the next one finds nothing to repair."""
    load(mesh)
    await run_pass(mesh)
    assert world.tunnel is not None
    world.handshakes.clear()
    world.tunnel, world.fails = replace(world.tunnel, port=51999), True
    mesh._reconciler.read_back.at = 0.0
    with pytest.raises(Failed):
        await run_pass(mesh)
    world.fails, mesh.status.actual = False, None
    await run_pass(mesh)
    assert world.handshakes == [host(2).public_key]
    await run_pass(mesh)
    assert world.handshakes == [host(2).public_key]


async def test_removing_waits_for_the_pass_under_way_which_would_create_the_device_again(
    mesh: Mesh, world: Simulated
) -> None:
    load(mesh)
    await run_pass(mesh)
    world.changes.clear()
    mesh._reconciler.read_back.at = 0.0
    world.tunnel = None  # somebody has removed it, and the pass is about to find out
    world.may_read.clear()
    world.is_reading.clear()
    reading = asyncio.create_task(run_pass(mesh))
    await world.is_reading.wait()
    removing = asyncio.create_task(mesh.remove())
    await asyncio.sleep(0)
    world.may_read.set()
    await asyncio.gather(reading, removing)
    await run_pass(mesh)
    assert world.changes[-2:] == ["remove device", "remove firewall"]
    assert (world.tunnel, world.ruleset) == (None, None)
