"""queries: answers in a second, and the processor time of one answer, for names that are queried again and again.

The server has one core, dnsperf the other. In each round every server is started anew and measured, so that noise
affects all of them alike. Figures of different rounds are never compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import bare, product, worlds
from bench.dnsperf import Loaded, put_load
from bench.options import Options
from bench.peers import PEERS
from bench.processes import BenchError, cores
from bench.report import Table, median, own_command, progress
from bench.servers import started
from zones.model import Environment

COLUMNS = (
    "server", "queries/s", "server CPU, µs a query", "of it user", "core busy", "lost", "CPU ÷ Knot's",
)  # fmt: skip
WARM_UP = 60.0  # seconds at most until each query was sent once, which is not measured: caches fill


def run(options: Options) -> Iterator[Table]:
    """One table for each number of names."""
    for names in options.names:
        yield _compare(options, names)


def _compare(options: Options, names: int) -> Table:
    served = worlds.environment(names, 1)
    queries = options.directory / f"queries-{names}"
    worlds.write_queries(queries, names)
    servers = [*product.LISTENING, bare.NAME, *options.peers]
    rounds: dict[str, list[Loaded]] = {name: [] for name in servers}
    for number in range(options.rounds):
        # Another order in each round, so that a server does not always follow the same one.
        for name in servers[number % len(servers) :] + servers[: number % len(servers)]:
            progress(f"queries: {names:,} names, round {number + 1} of {options.rounds}: {name}")
            rounds[name].append(_measure(name, served, queries, options, number))
    return Table(
        f"Hot names over UDP: {names:,} names, 80 % AAAA, 20 % A",
        own_command(),
        COLUMNS,
        [_row(name, rounds[name], rounds.get("knot")) for name in servers],
        (
            f"{options.rounds} rounds of {options.seconds:g} s on [::1]: median (least–most)."
            " One core for the server, the other for dnsperf.",
            f"{bare.NAME!r} is no server but a loop around recvmmsg, one dictionary and sendmmsg (bench/bare).",
            "Peers: " + (", ".join(PEERS[name].describe() for name in options.peers) or "none") + ".",
            *options.skipped,
        ),
    )


def _measure(name: str, served: Environment, queries: Path, options: Options, number: int) -> Loaded:
    server_core, load_core = cores()
    directory = options.directory / f"queries-{len(served.services)}-{number}-{name.replace(' ', '-')}"
    with started(name, directory, server_core, served) as (process, port):
        put_load(process, port, queries, WARM_UP, load_core, once=True)
        loaded = put_load(process, port, queries, options.seconds, load_core)
    if not loaded.rcodes.startswith("NOERROR") or "," in loaded.rcodes:
        raise BenchError(f"{name} answered {loaded.rcodes}, not NOERROR alone")
    return loaded


def _row(name: str, loads: Sequence[Loaded], knot: Sequence[Loaded] | None) -> tuple[str, ...]:
    costs = [load.cost.total * 1e6 for load in loads]
    ratios = [load.cost.total / base.cost.total for load, base in zip(loads, knot or (), strict=False)]
    return (
        name,
        median([load.rate for load in loads]),
        median(costs, ".2f"),
        f"{statistics.median(load.cost.user * 1e6 for load in loads):.2f}",
        f"{statistics.median(load.busy for load in loads):.0%}",
        str(sum(load.lost for load in loads)),
        median(ratios, ".2f") if ratios else "",
    )
