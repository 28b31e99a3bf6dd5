"""flood: what the neighbours of a workload notice that sends as many queries as it can.

A client of another environment sends a query every other millisecond, by turns while the flood goes to a socket that
nobody reads and while it goes to the resolver, so that both meet the same machine. A query counts from the time when it
was due. The resolver has one core. Flood and client share the other, where the flood gives way to the client: what is
measured is the resolver, not the scheduler.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from select import select

from bench import product, worlds
from bench.client import Client, has_answer, pack_question
from bench.options import Options
from bench.processes import Process, cores, pinned, running
from bench.report import Table, own_command, percentile, progress
from tests.security.programs import flood as program
from tests.security.programs.flood import FLOODS, Flood

ASK_EVERY = 0.002  # seconds
MOST_SECONDS = 3.0  # of one round
LAST_REPLY = 1.0  # seconds after the last query
GIVE_WAY = ("nice", "-n", "5")  # to the client, with which the flood shares a core
NOISY, NEIGHBOUR = "127.0.1.{}", "127.0.0.1"
BINDINGS = {"127.0.1.0/24": "e2", f"{NEIGHBOUR}/32": worlds.ENVIRONMENT}


@dataclass(slots=True)
class Asked:
    """What the neighbour saw."""

    seconds: list[float] = field(default_factory=list)
    """From when each query was due to its answer."""
    lost: int = 0
    """Queries without an answer."""


def run(options: Options) -> Iterator[Table]:
    """One table: a row for each flood."""
    directory = options.directory / "flood"
    directory.mkdir()
    server_core, load_core = cores()
    with ExitStack() as stack:
        silent, sink = (stack.enter_context(_unread()) for _ in range(2))
        url = stack.enter_context(product.running_store(directory))
        stack.enter_context(pinned(load_core))
        worlds.fill(url, worlds.environments(2, 1, 1))
        process, port = stack.enter_context(
            product.running_resolver(url, directory, server_core, [NEIGHBOUR], BINDINGS, f"127.0.0.1:{silent}")
        )
        question = pack_question(worlds.service_name(1))
        with Client(port, timeout=0.5, server=NEIGHBOUR) as client:
            process.wait_until(lambda: has_answer(client.ask(question)))
        rows = [_row(name, flood, process, port, sink, options) for name, flood in FLOODS.items()]
    yield Table(
        "What neighbours notice of a flood",
        own_command(),
        ("flood", "idle p50, ms", "p99, ms", "flooded p50, ms", "p99, ms", "most, ms", "p99 ÷ idle", "unanswered"),
        rows,
        (
            f"One query each {ASK_EVERY * 1000:.0f} ms, timed from when it was due, of a client of another environment;"
            f" {options.rounds} × {_seconds(options):g} s each.",
            "'Idle': the same flood goes to a socket that nobody reads.",
        ),
    )


def _row(name: str, flood: Flood, process: Process, port: int, sink: int, options: Options) -> tuple[str, ...]:
    progress(f"flood: {name}")
    idle, flooded = Asked(), Asked()
    for number in range(options.rounds):
        for asked, target in ((idle, sink), (flooded, port)):
            with _flooding(flood, target, options.directory / f"flood-{target}-{number}"):
                _ask(process, port, _seconds(options), asked)
    ratio = percentile(flooded.seconds, 99) / percentile(idle.seconds, 99)
    return (
        name,
        *(f"{percentile(idle.seconds, percent) * 1000:.2f}" for percent in (50, 99)),
        *(f"{percentile(flooded.seconds, percent) * 1000:.2f}" for percent in (50, 99, 100)),
        f"{ratio:.1f}",
        f"{flooded.lost:,} of {flooded.lost + len(flooded.seconds):,}",
    )


def _seconds(options: Options) -> float:
    return min(options.seconds, MOST_SECONDS)


def _ask(process: Process, port: int, seconds: float, asked: Asked) -> None:
    question, due = pack_question(worlds.service_name(1)), dict[int, float]()
    next_due = time.monotonic()
    end = next_due + seconds
    with Client(port, server=NEIGHBOUR) as client:
        while (now := time.monotonic()) < end or (due and now < end + LAST_REPLY):
            process.check()
            while next_due <= min(now, end):
                due[client.send(question)] = next_due
                next_due += ASK_EVERY
            readable, _, _ = select([client.sock], [], [], max(0.0, min(next_due, end + LAST_REPLY) - time.monotonic()))
            if readable and has_answer(reply := client.receive()) and reply:
                asked.seconds.append(time.monotonic() - due.pop(int.from_bytes(reply[:2], "big")))
    asked.lost += len(due)


@contextmanager
def _flooding(flood: Flood, port: int, directory: Path) -> Iterator[None]:
    """All sources of ``flood`` send to ``port``, and have begun."""
    directory.mkdir(exist_ok=True)
    with ExitStack() as until_over:
        for number in range(1, flood.sources + 1):
            words = [NOISY.format(number), str(port), flood.names, str(flood.rate)]
            command = [*GIVE_WAY, sys.executable, str(program.__file__), *words]
            sender = until_over.enter_context(running(f"flood-{number}", command, directory))
            sender.wait_until(lambda sender=sender: bool(sender.log.read_bytes()))  # type: ignore[misc]
        yield


@contextmanager
def _unread() -> Iterator[int]:
    """The port of a socket that takes packets and reads none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
