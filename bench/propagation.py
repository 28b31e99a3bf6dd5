"""propagation: how long it takes from the acknowledgement of a write to the first answer that has it.

The clock starts when the reply to a write has been read, and stops with the reply to a query that holds the new
address. In between, the query is sent again and again, so the shortest time that can be measured is one round trip.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import product, worlds
from bench.client import Client, pack_question, rcode
from bench.options import Options
from bench.processes import BenchError
from bench.report import Table, own_command, percentile, progress
from bench.worlds import ENVIRONMENT
from store.store import Store
from support.clock import unix_milliseconds
from zones import edits
from zones.addresses import Address
from zones.model import State

SERVICES = 100
ANSWER_DEADLINE = 5.0  # seconds until a write that is not answered fails the run

Write = Callable[[int], Address]
"""Writes the instance with a number, and gives its address once the write is acknowledged."""


@dataclass(frozen=True, slots=True)
class _Propagation:
    write: float
    """Seconds that the write took."""
    delay: float
    """Seconds from its acknowledgement to the first right answer."""
    asked: int
    """How many queries were sent until then."""


def run(options: Options) -> Iterator[Table]:
    """One table: a row for each path of a write."""
    columns = (
        "written by, answered by",
        "p50, ms",
        "p95, ms",
        "p99, ms",
        "most, ms",
        "right at first query",
        "write p50, ms",
    )
    paths = {
        "admin API, both in `interlock up`": _through_up,
        "admin API, `interlock admin` and `interlock resolver`": _through_parts,
        "the store itself, `interlock resolver`": _through_store,
    }
    rows, failed = [], []
    for path, measure in paths.items():
        progress(f"propagation: {path}")
        try:
            rows.append((path, *_cells(measure(options))))
        except BenchError as error:
            failed.append(f"Not measured: {path}: {error}")
    yield Table(
        "From a write acknowledged to its first right answer",
        own_command(),
        columns,
        rows,
        (
            f"{options.writes:,} writes one after the other; each makes a ready instance, of {SERVICES} services"
            " in one environment, which grows by it. Nothing is pinned to a core.",
            "The name of the new instance is queried over UDP on [::1] without pause.",
            *failed,
        ),
    )


def _cells(measured: list[_Propagation]) -> tuple[str, ...]:
    delays = [each.delay * 1000 for each in measured]
    at_first = sum(each.asked == 1 for each in measured)
    return (
        *(f"{percentile(delays, percent):.2f}" for percent in (50, 95, 99)),
        f"{max(delays):.2f}",
        f"{at_first:,} of {len(measured):,}",
        f"{percentile([each.write * 1000 for each in measured], 50):.2f}",
    )


def _through_up(options: Options) -> list[_Propagation]:
    directory = _make(options.directory / "propagation-up")
    with product.running_up(directory) as (api, dns_port):
        return _write_by_api(dns_port, api, options.writes)


def _through_parts(options: Options) -> list[_Propagation]:
    directory = _make(options.directory / "propagation-parts")
    with ExitStack() as stack:
        url = stack.enter_context(product.running_store(directory))
        _process, dns_port = stack.enter_context(product.running_resolver(url, directory))
        api = stack.enter_context(product.running_admin(url, directory))
        return _write_by_api(dns_port, api, options.writes)


def _through_store(options: Options) -> list[_Propagation]:
    directory = _make(options.directory / "propagation-store")
    with product.running_store(directory) as url:
        worlds.fill(url, [worlds.environment(SERVICES, 0)])
        with product.running_resolver(url, directory) as (process, port), asyncio.Runner() as runner:
            process.wait_until(lambda: _is_served(port))
            return _follow(port, _StoreWriter(url, runner).write, options.writes)


def _write_by_api(dns_port: int, api: product.Api, writes: int) -> list[_Propagation]:
    writer = _ApiWriter(api)
    writer.make_services()
    return _follow(dns_port, writer.write, writes)


def _follow(port: int, write: Write, writes: int) -> list[_Propagation]:
    with Client(port) as client:
        return [_time_one(client, write, number) for number in range(1, writes + 1)]


def _time_one(client: Client, write: Write, number: int) -> _Propagation:
    service, instance = _names(number)
    question = pack_question(f"{instance}.{service}")
    started = time.perf_counter()
    address = write(number)
    written = time.perf_counter()
    asked = 0
    while True:
        reply = client.ask(question)
        asked += 1
        replied = time.perf_counter()
        if reply and bytes(address) in reply:
            return _Propagation(written - started, replied - written, asked)
        if replied - written > ANSWER_DEADLINE:
            raise BenchError(f"{instance}.{service} was not answered within {ANSWER_DEADLINE:g} s of its write")


def _names(number: int) -> tuple[str, str]:
    return worlds.service_name(number % SERVICES + 1), f"n{number}"


def _is_served(port: int) -> bool:
    with Client(port, timeout=0.5) as client:
        reply = client.ask(pack_question(worlds.service_name(1)))
    return reply is not None and rcode(reply) == 0


def _make(directory: Path) -> Path:
    directory.mkdir()
    return directory


class _ApiWriter:
    """Writes by the API."""

    def __init__(self, api: product.Api) -> None:
        self._writer = product.ApiWriter(api, ANSWER_DEADLINE)

    def make_services(self) -> None:
        """Makes the environment and its services, without instances."""
        base = f"/v1/environments/{ENVIRONMENT}"
        self._writer.put(base, {"enabled": True})
        for number in range(1, SERVICES + 1):
            ports = [{"name": "http", "number": 8080}]
            self._writer.put(f"{base}/services/{worlds.service_name(number)}", {"ports": ports})

    def write(self, number: int) -> Address:
        service, instance = _names(number)
        path = f"/v1/environments/{ENVIRONMENT}/services/{service}/instances/{instance}"
        return Address.parse(self._writer.put(path, {"state": "ready", "region": "eu"})["address"])


class _StoreWriter:
    """Commits to the store directly, each time from the environment that it committed last."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._store = Store(url)
        self._environment = worlds.environment(SERVICES, 0)

    def write(self, number: int) -> Address:
        service, instance = _names(number)
        edit = edits.PutInstance(service, instance, state=State.READY, region="eu")
        before = self._environment
        self._environment = edits.apply(before, [edit], now=unix_milliseconds())
        self._runner.run(self._store.environments.commit(self._environment, expected=before.revision))
        return self._environment.services[service].instances[instance].address
