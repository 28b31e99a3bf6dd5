"""followers: a thousand agents on one control plane, and on two: what a commit costs, and when it is heard of.

Each environment has members on ten hosts; one has members on a hundred. The agents are light tasks of this process,
each with a TLS connection of its own. They renew their leases and acknowledge what they hear, as agents do.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientSession, TCPConnector
from msgspec.structs import replace

from admin.hosts.authority import load_authority
from bench import product, worlds
from bench.agents import Agent, Credential
from bench.options import Options
from bench.processes import BenchError, Process
from bench.report import Table, own_command, progress
from store.store import Store
from zones.hosts import Host, encode_host
from zones.keys import PublicKey
from zones.model import Environment
from zones.names import EnvironmentId

AGENTS, ENVIRONMENTS, HOSTS_OF_ONE = 1_000, 1_000, 10
WIDE = EnvironmentId("wide")
WIDE_HOSTS = 100
RATE = 20.0  # commits a second, of environments with ten hosts
WIDE_COMMITS = 10  # of the environment on many hosts, one after the other
CONNECT_AT_ONCE = 40  # of the 50 without a session that a control plane takes from one address
QUIET = 5.0  # seconds in which nothing is committed
PATIENCE = 300.0  # seconds until all agents must be there
LAST = 60.0  # seconds until all must have heard


@dataclass(slots=True)
class Heard:
    """Who has heard of what."""

    sent: dict[tuple[str, int], float] = field(default_factory=dict)
    times: defaultdict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    newest: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def note(self, id_: str, revision: int, now: float) -> None:
        self.times[id_, revision].append(now)
        self.newest[id_] = max(self.newest[id_], revision)

    def delays(self) -> list[float]:
        """From the sending of each write to each agent, in milliseconds."""
        return sorted(1000 * (at - sent) for what, sent in self.sent.items() for at in self.times[what])


def run(options: Options) -> Iterator[Table]:
    """One table: with one control plane, and with two."""
    rows = []
    for planes in (1, 2):
        directory = options.directory / f"followers-{planes}"
        directory.mkdir()
        rows.append(asyncio.run(_measure(directory, planes)))
        progress("followers: " + " | ".join(rows[-1]))
    yield Table(
        f"{AGENTS:,} agents, {ENVIRONMENTS:,} environments with {HOSTS_OF_ONE} hosts each, and one with {WIDE_HOSTS}",
        own_command(),
        (
            "control planes", "all loaded", "memory each", "a session", "CPU, quiet", "CPU a commit, 10 hosts",
            "heard: median", "p99", f"CPU a commit, {WIDE_HOSTS} hosts", "all have heard: median", "slowest",
        ),
        rows,
        (
            "Memory and CPU are those of a control plane's process; CPU of several is added up.",
            f"Quiet: {AGENTS / 1.5:.0f} leases are renewed a second, and nothing else. It is taken off the CPU of a"
            " commit, which includes the agents' acknowledgements.",
            f"{RATE:.0f} commits a second of environments with {HOSTS_OF_ONE} hosts, by the API of the first control"
            " plane; heard: from sending the PUT until it has arrived at each agent.",
            "The commits to the wide environment come one after the other.",
            "All agents are tasks of one process on one core, which decrypts and reads each message: the time that all"
            " need to hear of one commit is for the most part theirs.",
        ),
    )  # fmt: skip


async def _measure(directory: Path, planes: int) -> Sequence[str]:
    with ExitStack() as stack:
        url = stack.enter_context(product.running_store(directory))
        store = Store(url)
        progress(f"followers: {AGENTS:,} hosts and {ENVIRONMENTS:,} environments for {planes} control planes")
        credentials = await _fill(store)
        running = [stack.enter_context(product.running_control_plane(url, directory, n)) for n in range(planes)]
        processes = [process for process, _, _ in running]
        empty = [process.memory() for process in processes]
        heard, connecting = Heard(), asyncio.Semaphore(CONNECT_AT_ONCE)
        async with ClientSession(connector=TCPConnector(limit=0)) as http:
            agents = [
                Agent(running[n % planes][2], one, http, heard.note, connecting) for n, one in enumerate(credentials)
            ]
            began = time.monotonic()
            tasks = [asyncio.create_task(agent.run()) for agent in agents]
            try:
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(*(agent.is_loaded.wait() for agent in agents))
            except TimeoutError:
                _cancel(tasks)
                missing = sum(not agent.is_loaded.is_set() for agent in agents)
                raise BenchError(f"{missing} agents were not loaded within {PATIENCE:.0f} s") from None
            loaded = time.monotonic() - began
            progress(f"followers: all loaded after {loaded:.1f} s")
            await asyncio.sleep(QUIET)
            memory = [process.memory() for process in processes]
            quiet = await _cpu_of(processes, asyncio.sleep(QUIET)) / QUIET
            narrow, narrow_cpu = await _commit_narrow(running[0][1], processes, heard, quiet)
            wide, wide_cpu = await _commit_wide(running[0][1], processes, heard, quiet)
            _cancel(tasks)
            await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()
    session = sum(memory) - sum(empty)
    return (
        str(planes), f"{loaded:.1f} s", f"{max(memory) / 2**20:.0f} MiB", f"{session / AGENTS / 1024:.0f} KiB",
        f"{100 * quiet:.0f} %", f"{1000 * narrow_cpu:.1f} ms", f"{statistics.median(narrow):.0f} ms",
        f"{_p99(narrow):.0f} ms", f"{1000 * wide_cpu:.0f} ms", f"{statistics.median(wide):.0f} ms",
        f"{max(wide):.0f} ms",
    )  # fmt: skip


def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


async def _fill(store: Store) -> list[Credential]:
    authority = await load_authority(store)
    credentials = [Credential.make(f"h{number}", authority) for number in range(AGENTS)]
    async with store.connection.client() as redis:
        kept = {one.host: json.dumps({"fingerprint": one.fingerprint, "enrolled": 1}) for one in credentials}
        await redis.hset(store.connection.keys.credentials, mapping=kept)
        documents = {one.host: encode_host(_host(number, one.host)) for number, one in enumerate(credentials)}
        await redis.hset(store.connection.keys.hosts, mapping=documents)
        await redis.set(store.connection.keys.hosts_revision, AGENTS)
    for number in range(ENVIRONMENTS):
        made = worlds.environment(1, HOSTS_OF_ONE, number + 1, EnvironmentId(f"e{number}"))
        hosts = [f"h{(number * 7 + offset * 97) % AGENTS}" for offset in range(HOSTS_OF_ONE)]
        await store.environments.commit(_placed(made, hosts), 0)
    wide = worlds.environment(1, WIDE_HOSTS, ENVIRONMENTS + 1, WIDE)
    await store.environments.commit(_placed(wide, [f"h{number}" for number in range(WIDE_HOSTS)]), 0)
    return credentials


def _host(number: int, id_: str) -> Host:
    key = PublicKey(b64encode((number + 1).to_bytes(32, "big")).decode())
    return Host(id_, f"10.0.{number >> 8}.{number & 255}:51820", key)


def _placed(environment: Environment, hosts: list[str]) -> Environment:
    (name, service), *_ = environment.services.items()
    instances = {
        id_: replace(instance, host=host)
        for (id_, instance), host in zip(service.instances.items(), hosts, strict=True)
    }
    return replace(environment, services={name: replace(service, instances=instances)})


async def _commit_narrow(
    api: product.Api, processes: Sequence[Process], heard: Heard, quiet: float
) -> tuple[list[float], float]:
    commits = int(RATE * 10)
    heard.sent.clear()

    async def commit(http: ClientSession) -> None:
        start, writing = time.monotonic(), set[asyncio.Task[None]]()
        for number in range(commits):
            await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
            writing.add(asyncio.create_task(_write(http, api, f"e{number % ENVIRONMENTS}", number, heard)))
        await asyncio.gather(*writing)
        await _all_heard(heard, HOSTS_OF_ONE)

    async with ClientSession() as http:
        began = time.monotonic()
        cpu = await _cpu_of(processes, commit(http))
        seconds = time.monotonic() - began
    return heard.delays(), (cpu - quiet * seconds) / commits


async def _commit_wide(
    api: product.Api, processes: Sequence[Process], heard: Heard, quiet: float
) -> tuple[list[float], float]:
    """For each commit, the milliseconds until the last agent has heard; and the CPU of one."""
    last: list[float] = []

    async def commit(http: ClientSession) -> None:
        for number in range(WIDE_COMMITS):
            heard.sent.clear()
            await _write(http, api, WIDE, number, heard)
            await _all_heard(heard, WIDE_HOSTS)
            last.append(heard.delays()[-1])
            await asyncio.sleep(0.5)  # the acknowledgements

    async with ClientSession() as http:
        began = time.monotonic()
        cpu = await _cpu_of(processes, commit(http))
        seconds = time.monotonic() - began
    return last, (cpu - quiet * seconds) / WIDE_COMMITS


async def _write(http: ClientSession, api: product.Api, id_: str, number: int, heard: Heard) -> None:
    url = f"http://[{api.host}]:{api.port}/v1/environments/{id_}/records/r{number}/TXT"
    headers = {"Authorization": f"Bearer {api.token}"}
    sent = time.monotonic()
    async with http.put(url, json={"ttl": 60, "values": [f"v{number}"]}, headers=headers) as reply:
        body = await reply.json()
        if reply.status >= 300:
            raise BenchError(f"{url}: {reply.status} {body}")
    heard.sent[id_, body["revision"]] = sent


async def _all_heard(heard: Heard, hosts: int) -> None:
    try:
        async with asyncio.timeout(LAST):
            while any(len(heard.times[what]) < hosts for what in heard.sent):  # noqa: ASYNC110 it is a load, not a test
                await asyncio.sleep(0.01)
    except TimeoutError:
        few = sum(len(heard.times[what]) < hosts for what in heard.sent)
        raise BenchError(f"{few} of {len(heard.sent)} commits were not heard of by all within {LAST:.0f} s") from None


async def _cpu_of(processes: Sequence[Process], work: object) -> float:
    before = [process.cpu().total for process in processes]
    await work  # type: ignore[misc]
    return sum(process.cpu().total - earlier for process, earlier in zip(processes, before, strict=True))


def _p99(ordered: Sequence[float]) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
