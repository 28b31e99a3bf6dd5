"""cost: what a change costs, by the size of its environment and by the number of those who follow the store.

The environments lie in one store, and the writes go round them in turns, so that all sizes meet the same machine. A
write puts one new instance by the API. It counts until its reply has been read, and from there until a resolver that
is asked without pause answers the new name. The processor time is that of all processes of a kind, a write.
"""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench import product, worlds
from bench.client import Client, pack_question
from bench.options import Options
from bench.plot import Plot
from bench.processes import BenchError, Process
from bench.report import Table, own_command, percentile, progress
from zones.addresses import Address
from zones.names import EnvironmentId

SIZES = (10, 100, 1_000, 10_000)  # instances of an environment
SERVICES = 5  # of an environment
FOLLOWERS = (4, 6)  # resolvers of one store: one is asked for each size, the others only follow
BLOCK = 20  # writes to one environment before the next one's turn
DEADLINE = 10.0  # seconds


@dataclass
class _Measured:
    """What was measured of one size."""

    writes: list[float] = field(default_factory=list)
    """Milliseconds until each write was acknowledged."""
    answers: list[float] = field(default_factory=list)
    """Milliseconds from there until it was answered."""
    admin: float = 0.0
    """Milliseconds of the processor of the admin API, in all."""
    resolvers: float = 0.0
    """Milliseconds of the processor of all resolvers but the one that is asked, in all."""


def run(options: Options) -> Iterator[Table]:
    """One table: a row for each size and number of followers."""
    measured = {followers: _measure(followers, options) for followers in FOLLOWERS}
    rows, lines = [], dict[str, list[tuple[float, float]]]()
    for followers, sizes in measured.items():
        least = sizes[SIZES[0]]
        for size, found in sizes.items():
            write, answer = statistics.median(found.writes), statistics.median(found.answers)
            beside = (followers - 1) * len(found.writes)
            rows.append(
                (
                    f"{size:,}", str(followers), f"{write:.2f}", f"{write / statistics.median(least.writes):.2f}",
                    f"{answer:.2f}", f"{answer / statistics.median(least.answers):.2f}",
                    f"{percentile(found.answers, 99):.2f}",
                    f"{found.admin / len(found.writes):.2f}", f"{found.resolvers / beside:.2f}",
                )
            )  # fmt: skip
            spent = {"API": found.admin / len(found.writes), "a follower": found.resolvers / beside}
            for who, value in spent.items():
                lines.setdefault(f"{who}, of {followers} followers", []).append((size, value))
    title = "What a change costs, by the size of its environment"
    notes = (
        f"{options.writes:,} writes to each environment, {BLOCK} to one before the next one's turn; each puts a new"
        f" instance into one of its {SERVICES} services by the API. All four lie in one store.",
        "A follower is an `interlock resolver`. Its processor time is that of those that are asked nothing.",
        *Plot("cost", title, "instances of the environment", "ms of processor a change", lines).noted(options.plots),
    )
    yield Table(
        title,
        own_command(),
        (
            "instances", "followers", "write p50, ms", "÷ smallest", "answered p50, ms", "÷ smallest", "p99, ms",
            "API's CPU a write, ms", "a follower's, ms",
        ),
        rows,
        notes,
    )  # fmt: skip


def _measure(followers: int, options: Options) -> dict[int, _Measured]:
    progress(f"cost: {followers} followers")
    directory = options.directory / f"cost-{followers}"
    directory.mkdir()
    measured = {size: _Measured() for size in SIZES}
    with ExitStack() as stack:
        url = stack.enter_context(product.running_store(directory))
        worlds.fill(url, (worlds.environment(SERVICES, size // SERVICES, size, _id(size)) for size in SIZES))
        admin, api = stack.enter_context(product.running_admin_process(url, directory))
        resolvers = [
            stack.enter_context(
                product.running_resolver(url, directory, bindings={"::1/128": _id(SIZES[number % len(SIZES)])})
            )
            for number in range(followers)
        ]
        for process, port in resolvers:
            product.wait_until_serving(process, port, worlds.service_name(1))
        writer = product.ApiWriter(api, DEADLINE)
        for block in range(-(-options.writes // BLOCK)):
            for number, size in enumerate(SIZES):
                others = [process for at, (process, _) in enumerate(resolvers) if at != number]
                _write_some(writer, size, block, resolvers[number][1], admin, others, measured[size])
    return measured


def _write_some(
    writer: product.ApiWriter,
    size: int,
    block: int,
    port: int,
    admin: Process,
    others: Sequence[Process],
    found: _Measured,
) -> None:
    before = admin.cpu().total, sum(process.cpu().total for process in others)
    with Client(port) as client:
        for at in range(BLOCK):
            service, instance = worlds.service_name(at % SERVICES + 1), f"n{block}-{at}"
            question = pack_question(f"{instance}.{service}")
            began = time.perf_counter()
            address = _put(writer, size, service, instance)
            written = time.perf_counter()
            while not ((reply := client.ask(question)) and bytes(address) in reply):
                if time.perf_counter() > written + DEADLINE:
                    raise BenchError(f"{instance}.{service} was not answered within {DEADLINE:g} s of its write")
            found.writes.append((written - began) * 1000)
            found.answers.append((time.perf_counter() - written) * 1000)
    found.admin += (admin.cpu().total - before[0]) * 1000
    found.resolvers += (sum(process.cpu().total for process in others) - before[1]) * 1000


def _put(writer: product.ApiWriter, size: int, service: str, instance: str) -> Address:
    path = f"/v1/environments/{_id(size)}/services/{service}/instances/{instance}"
    made = writer.put(path, {"state": "ready", "region": "eu"}, (http.HTTPStatus.CREATED,))
    return Address.parse(made["address"])


def _id(size: int) -> EnvironmentId:
    return EnvironmentId(f"size-{size}")
