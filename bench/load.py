"""load: a resolver starts on a full store. When does it answer, how large is it, and how are clients served meanwhile?

From the start of the resolver, a client sends a query for a name of one environment every millisecond. A query counts
from the time when it was due, whether or not the one before was answered, so a server that stops for a moment is
charged for every client that then waits. A second client belongs to an environment that does not exist: it gets
SERVFAIL until everything is loaded, and REFUSED from then on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from select import select

from bench import product, worlds
from bench.client import SERVFAIL, Client, has_answer, pack_question, rcode
from bench.options import Options
from bench.processes import BenchError, Process, cores, pinned
from bench.report import Table, own_command, percentile, progress
from bench.servers import started

LOAD_DEADLINE = 300.0  # seconds until a resolver that has not loaded fails the run
IDLE = 2.0  # seconds of queries after everything is loaded, to compare with; and of rest before memory is read
ASK_EVERY = 0.001  # seconds between two queries of the first client
ASK_LOADED_EVERY = 0.01  # seconds between two queries of the second client
LISTEN = ("::1", "127.0.0.1")
BINDINGS = {**product.BINDINGS, "127.0.0.1/32": "missing"}


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a store: environments, services in each, instances in each of those."""

    environments: int
    services: int
    instances: int

    @property
    def total(self) -> int:
        return self.environments * self.services * self.instances

    def __str__(self) -> str:
        return f"{self.environments:,} × {self.services * self.instances:,}"


EMPTY = Shape(1, 1, 1)


@dataclass(slots=True)
class _Watched:
    """What the two clients have observed. Times in seconds from the start of the process."""

    first_answer: float | None = None
    loaded: float | None = None
    due: dict[int, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    shape: Shape
    commits: float
    """Commits in a second while the store was filled."""
    loading: _Watched
    idle: _Watched
    memory: int
    peak: int
    cpu: float


def run(options: Options) -> Iterator[Table]:
    """A table of loading, and one of memory beside the peers, for each number of instances."""
    for instances in options.instances:
        outcomes = [_measure(shape, options) for shape in (EMPTY, *_shapes(instances))]
        yield _loading_table(outcomes)
        yield _memory_table(outcomes, instances, options)


def _shapes(instances: int) -> Iterator[Shape]:
    yield Shape(instances // 100, 10, 10)
    if instances >= 100_000:
        yield Shape(instances // 10_000, 100, 100)


def _measure(shape: Shape, options: Options) -> _Outcome:
    progress(f"load: {shape} instances")
    server_core, load_core = cores()
    directory = options.directory / f"load-{shape.environments}-{shape.total}"
    directory.mkdir()
    with product.running_store(directory) as url, pinned(load_core):
        began = time.monotonic()
        worlds.fill(url, worlds.environments(shape.environments, shape.services, shape.instances))
        filled = time.monotonic() - began
        with product.running_resolver(url, directory, server_core, LISTEN, BINDINGS) as (process, port):
            loading = _watch(process, port, until_loaded=True)
            cpu = process.cpu().total
            idle = _watch(process, port, until_loaded=False)
            time.sleep(IDLE)
            return _Outcome(
                shape, shape.environments / filled, loading, idle, process.memory(), process.peak_memory(), cpu
            )


def _watch(process: Process, port: int, *, until_loaded: bool) -> _Watched:
    watched = _Watched()
    question = pack_question(worlds.service_name(1))
    began = next_due = next_check = time.monotonic()
    with Client(port) as client, Client(port, server="127.0.0.1") as outsider:
        while not watched.loaded if until_loaded else time.monotonic() < began + IDLE:
            now = time.monotonic()
            process.check()
            if now > began + LOAD_DEADLINE:
                raise BenchError(f"the resolver was not loaded after {LOAD_DEADLINE:g} s")
            if now >= next_due:
                if id_ := client.send(question):
                    watched.due[id_] = next_due - began
                next_due += ASK_EVERY
            if now >= next_check and outsider.send(question):
                next_check = now + ASK_LOADED_EVERY
            readable, _, _ = select([client.sock, outsider.sock], [], [], max(0, next_due - time.monotonic()))
            if client.sock in readable:
                _note_reply(watched, client.receive(), time.monotonic() - began)
            if outsider.sock in readable and (reply := outsider.receive()) and rcode(reply) != SERVFAIL:
                watched.loaded = time.monotonic() - began
    watched.unanswered = len(watched.due)
    return watched


def _note_reply(watched: _Watched, reply: bytes | None, now: float) -> None:
    due = watched.due.pop(int.from_bytes(reply[:2], "big"), None) if reply else None
    if due is None or not has_answer(reply):
        return
    if watched.first_answer is None:
        watched.first_answer = now
    if due >= watched.first_answer or now == watched.first_answer:
        watched.latencies.append(now - due)


def _loading_table(outcomes: list[_Outcome]) -> Table:
    return Table(
        "A resolver's start on a full store",
        own_command(),
        (
            "environments × instances",
            "loaded after, s",
            "CPU, s",
            "first answer after, s",
            "meanwhile p50, ms",
            "p99, ms",
            "most, ms",
            "asked",
            "then p99, ms",
            "filled at, commits/s",
        ),
        [_loading_row(outcome) for outcome in outcomes],
        (
            "Valkey on a unix socket; times from the start of the process: the first row is what starting alone takes.",
            "'meanwhile': from the first answer until all was loaded, one query each ms, timed from when it was due.",
        ),
    )


def _loading_row(outcome: _Outcome) -> tuple[str, ...]:
    loading = outcome.loading
    return (
        str(outcome.shape),
        f"{loading.loaded:.2f}",
        f"{outcome.cpu:.2f}",
        f"{loading.first_answer:.2f}" if loading.first_answer else "with all",
        *(_milliseconds(loading.latencies, percent) for percent in (50, 99, 100)),
        f"{len(loading.latencies):,}",
        _milliseconds(outcome.idle.latencies, 99),
        f"{outcome.commits:,.0f}",
    )


def _milliseconds(latencies: list[float], percent: float) -> str:
    return f"{percentile(latencies, percent) * 1000:.2f}" if latencies else "–"


def _memory_table(outcomes: list[_Outcome], instances: int, options: Options) -> Table:
    base, *full = outcomes
    rows = [
        _memory_row(f"{product.NAME}, {each.shape}", base.memory, each.memory, each.peak, each.shape.total)
        for each in full
    ]
    rows += [_measure_peer(name, instances, options) for name in options.peers]
    return Table(
        "Memory of a server with so many instances",
        own_command(),
        ("server", "MB", "MB empty", "MB at the most", "octets a forward name", "octets a name, PTR too"),
        rows,
        (
            "Resident, shared pages by share, of the server and its children. 'A name' is the difference to the same"
            " server with one instance, divided by the number of instances; Interlock also has their PTR names.",
            "Peers have all instances in one forward zone, without the reverse one.",
            *options.skipped,
        ),
    )


def _measure_peer(name: str, instances: int, options: Options) -> tuple[str, ...]:
    progress(f"load: {name}")
    core, _ = cores()
    measured = []
    for services, each in ((1, 1), (instances // 100, 100)):
        directory = options.directory / f"memory-{name}-{instances}-{services}"
        with started(name, directory, core, worlds.environment(services, each)) as (process, _port):
            time.sleep(IDLE)
            measured.append((process.memory(), process.peak_memory()))
    (empty, _), (full, peak) = measured
    return _memory_row(name, empty, full, peak, instances, has_reverse=False)


def _memory_row(
    name: str, empty: int, full: int, peak: int, instances: int, *, has_reverse: bool = True
) -> tuple[str, ...]:
    each = (full - empty) / instances
    sizes = (f"{size / 1e6:,.1f}" for size in (full, empty, peak))
    return (name, *sizes, f"{each:,.0f}", f"{each / 2:,.0f}" if has_reverse else "")
