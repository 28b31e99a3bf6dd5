"""``python -m bench [NAME …]``: runs the benchmarks named, all of them if none is, and prints a table of each."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import (
    barriers,
    changes,
    cost,
    deploys,
    flood,
    followers,
    forwarded,
    fuzz_cost,
    hooks,
    hosts,
    load,
    mesh,
    path,
    propagation,
    queries,
    renewal,
    workers,
)
from bench.options import Options
from bench.peers import PEERS
from bench.processes import BenchError
from bench.report import Table, describe_machine
from tests import wireguard

BENCHMARKS: Mapping[str, Callable[[Options], Iterator[Table | str]]] = {
    "queries": queries.run,
    "forwarded": forwarded.run,
    "propagation": propagation.run,
    "load": load.run,
    "changes": changes.run,
    "cost": cost.run,
    "fuzz-cost": fuzz_cost.run,
    "flood": flood.run,
    "mesh": mesh.run,
    "barriers": barriers.run,
    "hooks": hooks.run,
    "path": path.run,
    "deploys": deploys.run,
    "hosts": hosts.run,
    "followers": followers.run,
    "workers": workers.run,
    "renewal": renewal.run,
}


def main() -> int:
    arguments = _parse()
    # SIGTERM stops the servers, too, before this process exits.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    print(describe_machine() + "\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as directory:
        # Servers that give up root must still reach their files.
        Path(directory).chmod(0o755)
        options = _options(arguments, Path(directory))
        try:
            for name in arguments.benchmarks or BENCHMARKS:
                for table in BENCHMARKS[name](options):
                    print(table, flush=True)
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "benchmarks", nargs="*", metavar="NAME", help=f"benchmarks to run, of {', '.join(BENCHMARKS)}; by default all"
    )
    parser.add_argument(
        "--peers",
        default="all",
        metavar="NAME,…",
        help=f"servers to compare with, of {', '.join(PEERS)}; by default all that are installed; or none",
    )
    parser.add_argument(
        "--names", type=_numbers, default=(1_000, 10_000), help="numbers of hot names, with a table for each"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of load, for each server in each round")
    parser.add_argument("--writes", type=int, default=1_000, help="writes that propagation measures; and cost, a size")
    parser.add_argument(
        "--plots", type=Path, metavar="DIRECTORY", help="where plots are written, as SVG; by default none is"
    )
    parser.add_argument(
        "--instances", type=_numbers, default=(100_000,), help="numbers of instances in the store that load measures"
    )
    parser.add_argument("--deploys", type=int, default=200, help="deploys, one after the other")
    parser.add_argument(
        "--devices",
        type=lambda text: tuple(text.split(",")),
        default=wireguard.DEVICES,
        metavar="NAME,…",
        help=f"which WireGuard mesh and path measure, of {', '.join(wireguard.DEVICES)}; by default both",
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.devices if name not in wireguard.DEVICES]:
        parser.error(f"no device {unknown[0]!r}: there are {', '.join(wireguard.DEVICES)}")
    if unknown := [name for name in arguments.benchmarks if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]!r}: there are {', '.join(BENCHMARKS)}")
    if unknown := [name for name in _peer_names(arguments.peers) if name not in PEERS]:
        parser.error(f"no peer {unknown[0]!r}: there are {', '.join(PEERS)}")
    return arguments


def _options(arguments: argparse.Namespace, directory: Path) -> Options:
    wanted = _peer_names(arguments.peers)
    return Options(
        directory=directory,
        peers=tuple(name for name in wanted if PEERS[name].path),
        skipped=tuple(
            f"{name} skipped: {PEERS[name].binary} is not installed (Debian: {PEERS[name].package})"
            for name in wanted
            if not PEERS[name].path
        ),
        names=arguments.names,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        writes=arguments.writes,
        plots=arguments.plots,
        instances=arguments.instances,
        deploys=arguments.deploys,
        devices=arguments.devices,
    )


def _peer_names(text: str) -> list[str]:
    return {"all": list(PEERS), "none": []}.get(text, text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


sys.exit(main())
