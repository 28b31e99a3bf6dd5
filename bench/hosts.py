"""hosts: what a commit costs a host that has a member of its environment, by the size of that: the barrier of a deploy.

For each size there is a host with a real agent, a resolver, and one workload of one environment, all other instances of
which are elsewhere. A host without a mesh deploys: it puts an instance, waits until the other host can reach it, says
that it is ready, and waits until the other host answers it. So each wait is the plan of that host, its change of the
system, its resolver, and its acknowledgement. The sizes are measured in turns, so that all of them meet one machine.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field

from msgspec.structs import replace

from bench import worlds
from bench.options import Options
from bench.processes import BenchError, processor_seconds
from bench.report import Table, own_command, percentile, progress
from store.store import Store
from tests import wireguard
from tests.admin.hosts.agents import LightAgent, enrol
from tests.mesh import mesh as meshes
from tests.mesh import topology
from tests.mesh.mesh import Mesh, Node
from tests.mesh.topology import Workload
from watcher.session.protocol import (
    VERSION,
    EnvironmentChanged,
    EnvironmentIs,
    PutInstance,
    Removed,
    RemoveInstance,
    Renew,
    Wait,
)
from zones.model import Environment, State
from zones.names import EnvironmentId

SIZES = (10, 10_000)  # instances of an environment, beside the one on the host that is waited for
SERVICES = 5  # of an environment
BLOCK, BLOCKS = 10, 12  # deploys to one environment before the next one's turn, and turns
ELSEWHERE = "elsewhere"  # the host that deploys
ENDPOINT = "192.0.2.200:51820"  # where nobody is: no packet is sent between workloads here
DEADLINE = 20.0  # seconds for one wait
RENEW_EVERY = 1.5  # seconds, as an agent does


@dataclass(slots=True)
class _Measured:
    """What was measured of one size."""

    path: list[float] = field(default_factory=list)
    """Milliseconds of each first wait."""
    answer: list[float] = field(default_factory=list)
    """Milliseconds of each second wait."""
    agent: float = 0.0
    """Seconds of the processor of the agent, in all."""
    resolver: float = 0.0
    """Seconds of the processor of the resolver, in all."""


class _Elsewhere(LightAgent):
    """The host that deploys. Of what it hears it keeps the revisions alone."""

    def _take_environment(self, message: EnvironmentIs | EnvironmentChanged) -> None:
        self.environments[message.id] = message.revision
        self._acknowledge(message.id, message.revision)

    async def renew(self) -> None:
        """Renews its lease for ever."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            await self.do(Renew, True)

    async def wait(self, id_: EnvironmentId, revision: int) -> float:
        """The milliseconds until all other hosts have ``revision`` of ``id_``."""
        began = time.perf_counter()
        if lagging := (await self.do(Wait, id_, revision, DEADLINE)).lagging:
            raise BenchError(f"{lagging[0]} has not acknowledged revision {revision} of {id_} within {DEADLINE:g} s")
        return (time.perf_counter() - began) * 1000


def run(options: Options) -> Iterator[Table]:
    """One table: a row for each size."""
    if reason := topology.why_not():
        raise BenchError(f"hosts needs hosts: {reason}")
    device = next((one for one in options.devices if not wireguard.why_not(one)), "auto")
    with ExitStack() as stack:
        mesh = stack.enter_context(meshes.running(options.directory, device))
        progress("hosts: the hosts")
        nodes = dict(zip(SIZES, mesh.add(*(f"h{number}" for number, _ in enumerate(SIZES, 1))), strict=True))
        workloads = {size: node.workload() for size, node in nodes.items()}
        for workload in workloads.values():
            stack.callback(workload.remove)
        # In the network of the hosts: a control plane serves them there alone.
        measured = mesh.underlay.namespace.call(lambda: asyncio.run(_measure(mesh, nodes, workloads)))
    yield _table(device, measured)


async def _measure(mesh: Mesh, nodes: Mapping[int, Node], workloads: Mapping[int, Workload]) -> dict[int, _Measured]:
    measured = {size: _Measured() for size in nodes}
    token = mesh.client.post("hosts", ELSEWHERE, "enrolments", body={})["token"]
    async with AsyncExitStack() as stack:
        files = await enrol(mesh.plane.url, ELSEWHERE, token)
        host = await stack.enter_async_context(_Elsewhere(mesh.plane.url, files, version=VERSION, acknowledges=True))
        await host.join(ENDPOINT)
        renewing = asyncio.create_task(host.renew())
        stack.callback(renewing.cancel)
        await _fill(mesh.store.url, nodes)
        for size, node in nodes.items():
            where = (_id(size), worlds.service_name(1), "here", workloads[size])
            await asyncio.to_thread(node.attach, *where)
        host.acknowledges = False  # nobody waits for it any more
        for block in range(BLOCKS):
            progress(f"hosts: turn {block + 1} of {BLOCKS}")
            for size, node in nodes.items():
                before = processor_seconds(node.agent.pid), processor_seconds(node.resolver.pid)
                for number in range(BLOCK):
                    await _deploy(
                        host, size, f"n{block}-{number}", worlds.service_name(number % SERVICES + 1), measured[size]
                    )
                measured[size].agent += processor_seconds(node.agent.pid) - before[0]
                measured[size].resolver += processor_seconds(node.resolver.pid) - before[1]
    return measured


async def _deploy(host: _Elsewhere, size: int, instance: str, service: str, found: _Measured) -> None:
    where = (_id(size), service, instance)
    for state, times in ((State.STARTING, found.path), (State.READY, found.answer)):
        committed = await host.do(PutInstance, *where, state)
        times.append(await host.wait(_id(size), committed.revision))
    removed: Removed = await host.do(RemoveInstance, *where)
    assert removed.revision is not None
    await host.wait(_id(size), removed.revision)  # the next deploy is not to wait for what this one has left


async def _fill(url: str, sizes: Sequence[int] | Mapping[int, Node]) -> None:
    store = Store(url)
    try:
        for number, size in enumerate(sizes, 1):
            await store.environments.commit(
                _elsewhere(worlds.environment(SERVICES, size // SERVICES, number, _id(size))), 0
            )
    finally:
        await store.close()


def _elsewhere(environment: Environment) -> Environment:
    """``environment`` with all of its instances on the host that deploys."""
    services = {
        name: replace(service, instances={id_: replace(one, host=ELSEWHERE) for id_, one in service.instances.items()})
        for name, service in environment.services.items()
    }
    return replace(environment, services=services)


def _id(size: int) -> EnvironmentId:
    return EnvironmentId(f"size-{size}")


def _table(device: str, measured: Mapping[int, _Measured]) -> Table:
    least = measured[min(measured)]
    rows = []
    for size, found in measured.items():
        row = [f"{size:,}"]
        for times, others in ((found.path, least.path), (found.answer, least.answer)):
            middle = statistics.median(times)
            row += [f"{middle:.1f}", f"{middle / statistics.median(others):.2f}", f"{percentile(times, 95):.1f}"]
        for spent, other in ((found.agent, least.agent), (found.resolver, least.resolver)):
            row += [f"{1000 * spent / len(found.path):.1f}", f"{spent / other:.2f}"]
        rows.append(row)
    return Table(
        f"Plan and acknowledgement of a host, by the size of the environment, with WireGuard of {device}",
        own_command(),
        (
            "instances", "path p50, ms", "÷ smallest", "p95, ms", "answer p50, ms", "÷ smallest", "p95, ms",
            "agent's CPU a deploy, ms", "÷ smallest", "resolver's, ms", "÷ smallest",
        ),
        rows,
        (
            f"{BLOCK * BLOCKS} deploys to each, in turns. `path` and `answer` are from the answer to the commit until"
            " the host's acknowledgement has arrived. The processor time is that of three commits: of an instance that"
            " starts, is ready, and is removed.",
            f"Load average at the end {os.getloadavg()[0]:.1f}.",
        ),
    )  # fmt: skip
