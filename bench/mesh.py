"""mesh: the cost of the agent of a host that is in many environments with many hosts.

    plan         from documents to the planned state of the host: a pure function
    messages     what a device of the kernel is told and tells, written and read: the agent's own part of it
    device       of wireguard-go and of the kernel: from no peers to thousands, read back, compared, and changed by one
                 address

Each stage runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from agent.errors import AgentError
from agent.keys import PrivateKey
from agent.plan.peers import ActualPeer, Tunnel, diff
from agent.plan.plan import plan
from agent.plan.shares import Shares
from agent.plan.wanted import Peer, Wanted
from agent.system.netlink import Links
from agent.system.wireguard import messages
from agent.system.wireguard.kernel import Kernel
from agent.system.wireguard.userspace import Userspace
from bench import guest, worlds
from bench.options import Options
from bench.report import Table, own_command, progress
from zones import document
from zones.addresses import Address, instance_address, service_subnet
from zones.hosts import Host
from zones.keys import PublicKey
from zones.model import Environment, Instance, Service, State
from zones.names import EnvironmentId

HOSTS, ENVIRONMENTS = 1_000, 100
PEERS, ADDRESSES = 5_000, 20
DEVICE = "wgbench"
PORT, MTU = 51820, 1420

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the measurement."""

    what: str
    """Names the step."""
    seconds: float
    """How long it took."""
    outcome: str
    """How many peers, addresses or steps it came to."""


def run(options: Options) -> Iterator[Table | str]:
    """A table of the plan, where both devices are measured, and one for each device."""
    if len(options.devices) > 1:
        progress(f"mesh: the plan of {HOSTS:,} hosts with {ENVIRONMENTS} environments")
        title = f"The plan of a host: {HOSTS:,} hosts, {ENVIRONMENTS} environments, an instance of each on every host"
        yield _table(title, _plan, f"{HOSTS * ENVIRONMENTS:,} instances. All of it, documents included, takes")
        progress(f"mesh: the messages of a device with {PEERS:,} peers")
        title = (
            f"The messages of a device of the kernel, with {PEERS:,} peers of {ADDRESSES} addresses: written and read"
        )
        yield _table(title, _messages, "Without a device: the processor time of the agent alone. It takes")
    for name in options.devices:
        backend = Kernel if name == "kernel" else Userspace
        reason = _why_not(backend)
        if reason and backend is Kernel and not guest.why_not():
            yield guest.measured("mesh")
            continue
        if reason:
            progress(f"mesh: {backend.kind} skipped: {reason}")
            continue
        progress(f"mesh: {backend.kind} with {PEERS:,} peers")
        title = f"A device of {_named(backend)}: {PEERS:,} peers with {ADDRESSES} addresses each"
        try:
            table = _table(
                title, partial(_device, backend), "In a network namespace of its own. The agent's side takes"
            )
        except AgentError as error:
            progress(f"mesh: {backend.kind} not measured: {error}")  # as on a machine that is far too slow for it
        else:
            yield table


def _table(title: str, measure: Callable[[], list[Stage]], note: str) -> Table:
    stages, megabytes = _apart(measure)
    rows = [(stage.what, f"{stage.seconds * 1000:,.1f}", stage.outcome) for stage in stages]
    return Table(title, own_command(), ("stage", "ms", "outcome"), rows, (f"{note} {megabytes:,.0f} MB.",))


def _apart(measure: Callable[[], list[Stage]]) -> tuple[list[Stage], float]:
    """The result of ``measure`` in a process of its own, and the megabytes that it took beyond the bare process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        before = pool.submit(_peak).result()
        stages = pool.submit(measure).result()
        return stages, (pool.submit(_peak).result() - before) / 1024


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _timed(what: str, action: Callable[[], T], describe: Callable[[T], str]) -> tuple[T, Stage]:
    started = time.perf_counter()
    result = action()
    return result, Stage(what, time.perf_counter() - started, describe(result))


# The plan


def _plan() -> list[Stage]:
    read = [document.encode(_environment(number)) for number in range(1, ENVIRONMENTS + 1)]
    environments = {one.id: one for one in map(document.decode, read)}
    hosts = {host.id: host for host in (_host(number) for number in range(1, HOSTS + 1))}
    me, shares = hosts["h1"], Shares()

    def planned(loaded: Mapping[EnvironmentId, Environment]) -> Wanted:
        return plan(loaded, hosts, me, worlds.PLATFORM, (), shares).wanted

    wanted, first = _timed("first plan", lambda: planned(environments), _describe_wanted)
    tunnel = Tunnel(me.public_key, PORT, {key: _as_actual(peer) for key, peer in wanted.peers.items()})
    _, nothing = _timed("nothing new: plan", lambda: planned(environments), _describe_wanted)
    _, same = _timed("nothing new: diff", lambda: diff(wanted.peers, tunnel), lambda steps: f"{len(steps)} steps")
    id_ = worlds.ENVIRONMENT
    changed = environments | {id_: _with_one_more(environments[id_])}
    after, again = _timed("one commit: plan", lambda: planned(changed), _describe_wanted)
    _, steps = _timed("one commit: diff", lambda: diff(after.peers, tunnel), lambda steps: f"{len(steps)} steps")
    return [first, nothing, same, again, steps]


def _environment(number: int) -> Environment:
    network = worlds.PLATFORM.environment_network(number)
    subnet = service_subnet(network, 1)
    instances = {f"i{at}": Instance(instance_address(subnet, at), State.READY, f"h{at}") for at in range(1, HOSTS + 1)}
    service = Service(subnet, (), instances, last_number=HOSTS)
    id_ = worlds.ENVIRONMENT if number == 1 else EnvironmentId(f"e{number}")
    return Environment(id_, network, revision=1, services={"api": service}, last_subnet=1)


def _with_one_more(environment: Environment) -> Environment:
    service = environment.services["api"]
    more = Instance(instance_address(service.subnet, HOSTS + 1), State.READY, "h2")
    services = {"api": replace(service, instances={**service.instances, "more": more}, last_number=HOSTS + 1)}
    return replace(environment, services=services, revision=2)


def _host(number: int) -> Host:
    return Host(f"h{number}", f"192.0.2.{number % 250 + 1}:{10_000 + number}", PrivateKey.generate().public)


def _as_actual(peer: Peer) -> ActualPeer:
    # A copy: an address that was read from a device is never the same object.
    return ActualPeer(peer.endpoint, frozenset(Address(bytes(one)) for one in peer.allowed_ips))


def _describe_wanted(wanted: Wanted) -> str:
    addresses = sum(len(peer.allowed_ips) for peer in wanted.peers.values())
    return f"{len(wanted.peers):,} peers, {addresses:,} addresses"


# The messages


def _messages() -> list[Stage]:
    wanted = {PrivateKey.generate().public: _peer(number) for number in range(PEERS)}
    first, *_ = wanted
    reader = messages.TunnelReader()

    def write(wanted: Mapping[PublicKey, Peer], actual: Tunnel) -> list[bytes]:
        return list(messages.write_peers(DEVICE, diff(wanted, actual)))

    def used(what: str, action: Callable[[], T], outcome: str) -> T:
        started = time.process_time()
        result = action()
        stages.append(Stage(what, time.process_time() - started, outcome))
        return result

    stages: list[Stage] = []
    nothing = Tunnel(None, PORT, {})
    # A device tells of its peers in the form in which it was told.
    told = used("from nothing: compared and written", lambda: write(wanted, nothing), f"{PEERS:,} steps")
    actual = used("read for the first time", lambda: reader.read(told), f"{PEERS * ADDRESSES:,} addresses")
    assert not diff(wanted, actual)
    again = used("read again, with nothing new", lambda: reader.read(told), f"{PEERS * ADDRESSES:,} addresses")
    used("nothing new: compared", lambda: diff(wanted, again), "0 steps")
    moved = {**wanted, first: replace_address(wanted[first])}
    used("one address of one peer: compared and written", lambda: write(moved, again), "2 steps")
    one = diff(moved, again)
    used("one address of one peer: written", lambda: list(messages.write_peers(DEVICE, one)), "2 steps")
    return stages


# The device


def _named(backend: type[Userspace | Kernel]) -> str:
    return "the kernel" if backend is Kernel else backend.kind


def _why_not(backend: type[Userspace | Kernel]) -> str:
    if os.geteuid():
        return "it needs root"
    if backend is Userspace:
        return "" if shutil.which("wireguard-go") else "wireguard-go is not installed"
    made = subprocess.run(["ip", "link", "add", DEVICE, "type", "wireguard"], capture_output=True, check=False)
    if made.returncode:
        return "the kernel of this machine has no WireGuard (tests/vm has a machine whose kernel has it)"
    subprocess.run(["ip", "link", "delete", DEVICE], check=True)
    return ""


def _device(backend: type[Userspace | Kernel]) -> list[Stage]:
    # This process moves to a network namespace of its own, which takes everything that it makes with it when it ends.
    namespace = f"interlock-bench-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        with open(f"/run/netns/{namespace}") as handle:
            _enter(handle.fileno())
        return asyncio.run(_measure_device(backend))
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)


def _enter(descriptor: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


async def _measure_device(backend: type[Userspace | Kernel]) -> list[Stage]:
    links = Links()
    device, stages = backend(DEVICE, links), []

    async def read() -> Tunnel:
        found = await device.read()
        assert found
        return found

    async def timed(what: str, action: Callable[[], Awaitable[T]], outcome: str = "") -> T:
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        result = await action()
        after = resource.getrusage(resource.RUSAGE_SELF)
        own, kernels = ((getattr(after, name) - getattr(before, name)) * 1000 for name in ("ru_utime", "ru_stime"))
        used = f"processor time of the agent {own:,.1f} ms, of the kernel for it {kernels:,.1f} ms"
        stages.append(Stage(what, time.perf_counter() - started, "; ".join(filter(None, (used, outcome)))))
        return result

    async def converge(what: str, wanted: Mapping[PublicKey, Peer]) -> None:
        actual = await timed(f"{what}: read", read)
        steps = diff(wanted, actual)
        addresses = sum(len(peer.allowed_ips) for peer in wanted.values())
        outcome = f"{len(steps):,} steps; {len(wanted):,} peers, {addresses:,} addresses"
        if steps:
            await timed(f"{what}: apply", lambda: device.apply(steps), outcome)
            assert diff(wanted, await timed(f"{what}: read back", read)) == []
        else:
            assert what == "nothing new"

    try:
        await device.ensure(PrivateKey.generate(), PORT, MTU)
        wanted = {PrivateKey.generate().public: _peer(number) for number in range(PEERS)}
        await converge("from nothing", wanted)
        await converge("nothing new", wanted)
        first, *_ = wanted
        moved = dict(wanted)
        moved[first] = replace_address(wanted[first])
        await converge("one address of one peer", moved)
        await converge("all gone", {})
    finally:
        await device.remove()
        links.close()
    return stages


def _peer(number: int) -> Peer:
    subnet = service_subnet(worlds.PLATFORM.environment_network(number + 1), 1)
    addresses = frozenset(instance_address(subnet, at) for at in range(1, ADDRESSES + 1))
    return Peer(f"192.0.2.{number % 250 + 1}:{10_000 + number}", addresses)


def replace_address(peer: Peer) -> Peer:
    """``peer`` with one of its addresses replaced by another."""
    gone, *rest = sorted(peer.allowed_ips)
    return Peer(peer.endpoint, frozenset({*rest, Address(bytes(gone)[:-2] + b"\xff\xff")}))
