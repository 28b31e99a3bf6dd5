"""followers: a thousand agents with sessions at one control plane: what a commit costs it, and when it is heard of.

Each environment has members on ten hosts. The commits come from a process of their own, as from other control planes,
so what is measured is what following costs. The agents are light tasks of this process, each with a TLS connection of
its own. They renew their leases and acknowledge what they hear, as agents do. They are measured twice: as agents of
version 1 of the protocol, which are sent a whole environment with each commit, and as agents of this release.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import time
from base64 import b64encode
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import ClientSession, TCPConnector
from msgspec.structs import replace

from admin.hosts.authority import load_authority
from bench import product, worlds
from bench.agents import Agent, Credential
from bench.options import Options
from bench.plot import Plot
from bench.processes import BenchError, Process, processor_seconds
from bench.report import Table, own_command, percentile, progress
from store.store import Store
from store.writer import Writer
from watcher.session.protocol import VERSION
from zones.edits import PutInstance
from zones.hosts import Host, encode_host
from zones.keys import PublicKey
from zones.model import Environment
from zones.names import EnvironmentId

AGENTS, ENVIRONMENTS, HOSTS_OF_ONE = 1_000, 200, 10
SERVICES, INSTANCES = 10, 10  # of an environment: a document of some 10 kB
RATES = (1, 100, 1_000)  # commits a second
SECONDS = 5.0  # of each rate
LEAST = 5  # commits at the lowest rate
CONNECT_AT_ONCE = 40  # of the 50 without a session that a control plane takes from one address
QUIET = 4.0  # seconds in which nothing is committed
PATIENCE = 300.0  # seconds until all agents must be there
LAST = 120.0  # seconds after the last commit, for a busy machine; who has not heard by then is counted
_FORK = multiprocessing.get_context("fork")  # a process of its own: its commits wait for no agent
_NOW = 1_800_000_000_000  # Unix milliseconds; commits say it, and nothing here depends on it

Commits = list[tuple[str, int, float]]
"""Environment, revision, and the monotonic time when the store had taken it."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the control plane has done until now."""

    seconds: float
    """The processor time of its process."""
    renewals: int
    """The renewals of leases that it has answered."""

    @classmethod
    def of(cls, process: Process, agents: Sequence[Agent]) -> Work:
        return cls(processor_seconds(process.popen.pid), sum(agent.renewals for agent in agents))

    def __sub__(self, earlier: Work) -> Work:
        return Work(self.seconds - earlier.seconds, self.renewals - earlier.renewals)

    @property
    def of_a_renewal(self) -> float:
        """The seconds of a renewal, where there was nothing else to do."""
        return self.seconds / self.renewals


@dataclass(slots=True)
class Heard:
    """What all agents have heard."""

    times: defaultdict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    """By agent and environment, in order: a revision, and when it was heard of."""
    octets: int = 0
    """Of the messages that named environments."""

    def note(self, host: str, id_: str, revision: int, octets: int, now: float) -> None:
        self.times[host, id_].append((revision, now))
        self.octets += octets

    def has(self, host: str, id_: str, revision: int) -> bool:
        """Whether ``host`` has heard of ``revision`` of ``id_``, or of a newer one."""
        heard = self.times.get((host, id_), [])
        return bool(heard) and heard[-1][0] >= revision

    def delay(self, host: str, id_: str, revision: int, since: float) -> float | None:
        """Milliseconds until ``host`` has heard of ``revision`` of ``id_``, or of a newer one."""
        heard = self.times.get((host, id_), [])
        at = bisect_left(heard, (revision, 0.0))
        return (heard[at][1] - since) * 1000 if at < len(heard) else None


def run(options: Options) -> Iterator[Table | str]:
    """One table, and where plots are written, a plot of the processor time and the octets of a commit."""
    rows, idle, points = list[Sequence[str]](), list[str](), defaultdict[str, list[tuple[float, float]]](list)
    for version, name in ((1, "whole"), (VERSION, "differences")):
        directory = options.directory / f"followers-{version}"
        directory.mkdir()
        quiet, measured = asyncio.run(_measure(directory, version))
        idle.append(
            f"{name}: {100 * quiet.seconds / QUIET:.0f} % of a core, {quiet.renewals / QUIET:,.0f} renewals a second,"
            f" {1e6 * quiet.of_a_renewal:.0f} us each"
        )
        for rate, row, cpu in measured:
            rows.append((name, *row))
            points[name].append((rate, cpu))
            progress("followers: " + " | ".join(rows[-1]))
    yield Table(
        f"{AGENTS:,} agents at one control plane, {ENVIRONMENTS:,} environments of {SERVICES * INSTANCES} instances on"
        f" {HOSTS_OF_ONE} hosts each",
        own_command(),
        (
            "agents are sent", "commits/s wanted", "reached", "CPU a commit, ms", "core busy", "octets a commit",
            "messages a commit", "heard p50, ms", "p99, ms", "not heard", "memory, MiB",
        ),
        rows,
        (
            "CPU and memory are those of the control plane's process. What the renewals of leases took, by an idle"
            " second, is taken off a commit; its acknowledgements are not.",
            f"An idle second took {'; '.join(idle)}.",
            f"A commit changes one instance of an environment, for {SECONDS:g} s at each rate; heard: from the store's"
            " answer until the agent on each of its hosts has that revision, or a newer one. Changes that come while"
            " a session is busy are sent as one message.",
            "All agents are tasks of one process on one core, which decrypts and reads each message; the store, and the"
            " process that commits, have what is left of the machine.",
            f"Load average at the end {os.getloadavg()[0]:.1f}.",
        ),
    )  # fmt: skip
    if options.plots:
        plot = Plot(
            "followers", f"What a commit costs a control plane of {AGENTS:,} agents", "commits a second",
            "CPU a commit, ms", points,
        )  # fmt: skip
        yield f"![{plot.title}]({plot.write(options.plots).name})\n"


async def _measure(directory: Path, version: int) -> tuple[Work, list[tuple[int, Sequence[str], float]]]:
    with ExitStack() as stack:
        url = stack.enter_context(product.running_store(directory))
        store = Store(url)
        progress(f"followers: {AGENTS:,} hosts and {ENVIRONMENTS:,} environments, version {version}")
        credentials, hosts = await _fill(store)
        process, _, agents_url = stack.enter_context(product.running_control_plane(url, directory, version))
        heard, connecting = Heard(), asyncio.Semaphore(CONNECT_AT_ONCE)
        async with ClientSession(connector=TCPConnector(limit=0)) as http:
            agents = [Agent(agents_url, one, http, heard.note, connecting, version) for one in credentials]
            began = time.monotonic()
            tasks = [asyncio.create_task(agent.run()) for agent in agents]
            try:
                await _until_loaded(agents)
                progress(f"followers: all loaded after {time.monotonic() - began:.1f} s")
                before = Work.of(process, agents)
                await asyncio.sleep(QUIET)
                quiet = Work.of(process, agents) - before
                return quiet, [await _at(rate, url, process, agents, heard, hosts, quiet) for rate in RATES]
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await store.close()


async def _until_loaded(agents: Sequence[Agent]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(agent.is_loaded.wait() for agent in agents))
    except TimeoutError:
        missing = sum(not agent.is_loaded.is_set() for agent in agents)
        raise BenchError(f"{missing} agents were not loaded within {PATIENCE:.0f} s") from None


async def _at(
    rate: int,
    url: str,
    process: Process,
    agents: Sequence[Agent],
    heard: Heard,
    hosts: dict[str, list[str]],
    quiet: Work,
) -> tuple[int, Sequence[str], float]:
    """Measures commits at ``rate``."""
    ours, theirs = _FORK.Pipe(duplex=False)
    heard.times.clear()
    heard.octets, before, began = 0, Work.of(process, agents), time.monotonic()
    committing = _FORK.Process(target=_commit, args=(url, rate, theirs), daemon=True)
    committing.start()
    theirs.close()
    commits = await _received(ours, SECONDS + LAST)
    committing.join()
    newest = {id_: revision for id_, revision, _ in commits}
    await _all_heard(heard, hosts, newest)
    seconds = time.monotonic() - began
    busy = Work.of(process, agents) - before
    delays = [heard.delay(host, *commit) for commit in commits for host in hosts[commit[0]]]
    known = sorted(one for one in delays if one is not None)
    if not known:
        raise BenchError(
            f"nobody has heard of any commit at {rate} a second within {LAST:.0f} s: this machine has not enough to"
            f" spare for {AGENTS:,} agents and their control plane"
        )
    messages = sum(map(len, heard.times.values()))
    cpu = 1000 * (busy.seconds - busy.renewals * quiet.of_a_renewal) / len(commits)
    spent = commits[-1][2] - commits[0][2] or 1.0
    row = (
        f"{rate:,}", f"{(len(commits) - 1) / spent:,.0f}", f"{cpu:.2f}", f"{100 * busy.seconds / seconds:.0f} %",
        f"{heard.octets / len(commits):,.0f}", f"{messages / len(commits):.1f}", f"{percentile(known, 50):,.0f}",
        f"{percentile(known, 99):,.0f}", f"{len(delays) - len(known):,}", f"{process.memory() / 2**20:.0f}",
    )  # fmt: skip
    return rate, row, cpu


async def _received(ours: Connection, seconds: float) -> Commits:
    try:
        async with asyncio.timeout(seconds):
            while not ours.poll():  # noqa: ASYNC110 it is a load, not a test
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise BenchError(f"the process that commits has not ended within {seconds:.0f} s") from None
    commits: Commits = ours.recv()
    return commits


async def _all_heard(heard: Heard, hosts: dict[str, list[str]], newest: dict[str, int]) -> None:
    """Returns when all have heard of the newest revisions, or after `LAST` seconds."""
    waiting = [(host, id_, revision) for id_, revision in newest.items() for host in hosts[id_]]
    end = time.monotonic() + LAST
    while waiting and time.monotonic() < end:
        await asyncio.sleep(0.02)
        waiting = [one for one in waiting if not heard.has(*one)]


def _commit(url: str, rate: int, results: Connection) -> None:
    """Makes the commits of `SECONDS`, and sends what it has made to ``results``."""
    results.send(asyncio.run(_commit_all(url, rate)))


async def _commit_all(url: str, rate: int) -> Commits:
    store, made, working = Store(url), Commits(), set[asyncio.Task[None]]()
    writer, count = Writer(store), max(LEAST, int(rate * SECONDS))

    async def change(number: int) -> None:
        id_ = EnvironmentId(f"e{number % ENVIRONMENTS}")
        at = number // ENVIRONMENTS
        instance = PutInstance(
            f"svc-{at % SERVICES + 1}", f"i{at // SERVICES % INSTANCES + 1}", region=f"r{rate}x{number}"
        )
        written = await writer.edit(id_, [instance], _NOW)
        made.append((id_, written.after.revision, time.monotonic()))

    try:
        start = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            if time.monotonic() - start > SECONDS * 2:
                break  # it cannot be made any faster here
            task = asyncio.create_task(change(number))
            working.add(task)
            task.add_done_callback(working.discard)
        await asyncio.gather(*working)
    finally:
        await store.close()
    return sorted(made, key=lambda one: one[2])


async def _fill(store: Store) -> tuple[list[Credential], dict[str, list[str]]]:
    authority = await load_authority(store)
    credentials = [Credential.make(f"h{number}", authority) for number in range(AGENTS)]
    async with store.connection.client() as redis:
        kept = {one.host: json.dumps({"fingerprint": one.fingerprint, "enrolled": 1}) for one in credentials}
        await redis.hset(store.connection.keys.credentials, mapping=kept)
        documents = {one.host: encode_host(_host(number, one.host)) for number, one in enumerate(credentials)}
        await redis.hset(store.connection.keys.hosts, mapping=documents)
        await redis.set(store.connection.keys.hosts_revision, AGENTS)
    hosts: dict[str, list[str]] = {}
    for number in range(ENVIRONMENTS):
        id_ = EnvironmentId(f"e{number}")
        hosts[id_] = [f"h{(number * 7 + offset * 97) % AGENTS}" for offset in range(HOSTS_OF_ONE)]
        made = worlds.environment(SERVICES, INSTANCES, number + 1, id_)
        await store.environments.commit(_placed(made, hosts[id_]), 0)
    return credentials, hosts


def _host(number: int, id_: str) -> Host:
    key = PublicKey(b64encode((number + 1).to_bytes(32, "big")).decode())
    return Host(id_, f"10.0.{number >> 8}.{number & 255}:51820", key)


def _placed(environment: Environment, hosts: Sequence[str]) -> Environment:
    """``environment`` with its instances on ``hosts`` in turn."""
    turn = cycle(hosts)
    return replace(
        environment,
        services={
            name: replace(
                service, instances={id_: replace(one, host=next(turn)) for id_, one in service.instances.items()}
            )
            for name, service in environment.services.items()
        },
    )
