"""workers: what a second process that answers is worth, in time and in memory.

The machine has two cores, and whoever sends queries would take one of them from the workers. So nobody sends any while
they are measured: all processes that answer are stopped (SIGSTOP), the queries go into the queues of their sockets,
then they go on, and the kernel notes when each reply arrives. From the first reply to the last the cores are theirs.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench import product, worlds
from bench.client import Client, has_answer, pack_question
from bench.options import Options
from bench.plot import Plot
from bench.processes import LOOPBACK, BenchError, Process, processor_seconds
from bench.report import Table, median, own_command, progress

NUMBERS = (1, 2)  # of processes that answer
QUERIES = 6_000  # in the queues at once: as many as that of one process holds
CLIENTS = 60  # sockets that send them, each from a port of its own
NAMES = 500
WARM_UPS = 8  # of each name, from as many ports
ROUNDS = 12  # bursts in each of the rounds
LOOKED_UP = 100_000  # different names that clients look up before memory is read once more
_TIMESTAMPS = 35  # SO_TIMESTAMPNS, <asm-generic/socket.h>
_SETTLED = 0.3  # seconds; several times what the replies take
DEADLINE = 10.0  # seconds for all replies, on a busy machine


@dataclass(slots=True)
class _Measured:
    """What was measured of one number of processes."""

    rates: list[float] = field(default_factory=list)  # queries a second, of each burst
    costs: list[float] = field(default_factory=list)  # seconds of processor time for a query, of each burst
    shares: list[float] = field(default_factory=list)  # what the busiest process answered, of each burst
    memory: list[int] = field(default_factory=list)  # octets: with all loaded, and when names were looked up


def run(options: Options) -> Iterator[Table]:
    """A table of time, and one of memory with the number of instances."""
    measured = {number: _Measured() for number in NUMBERS}
    for turn in range(options.rounds):
        for number in NUMBERS[:: 1 if turn % 2 else -1]:
            progress(f"workers: {number}, round {turn + 1} of {options.rounds}")
            _measure_time(number, options, turn, measured[number])
    yield _time_table(measured, options)
    for instances in options.instances:
        memory = {number: _measure_memory(number, instances, options) for number in NUMBERS}
        yield _memory_table(memory, instances)


def _measure_time(number: int, options: Options, turn: int, into: _Measured) -> None:
    directory = options.directory / f"workers-{number}-{turn}"
    directory.mkdir()
    questions = [pack_question(worlds.service_name(at)) for at in range(1, NAMES + 1)]
    with product.running_store(directory) as url:
        worlds.fill(url, [worlds.environment(NAMES, 1)])
        with product.running_resolver(url, directory, source_rate=product.NO_RATE, workers=number) as (process, port):
            product.wait_until_serving(process, port, worlds.service_name(1))
            pids = answering(process, number)
            _warm_up(port, questions)
            with _Senders(port) as senders:
                for burst in range(ROUNDS + 1):
                    rate, cost, share = _burst(senders, questions, pids)
                    if burst:  # the first one fills the caches
                        into.rates.append(rate)
                        into.costs.append(cost)
                        into.shares.append(share)


def _warm_up(port: int, questions: Sequence[bytes]) -> None:
    """Has each process make each reply, as far as chance will have it: the kernel chooses it by the port."""
    for _ in range(WARM_UPS):
        with Client(port) as client:
            for question in questions:
                client.ask(question)


def answering(process: Process, number: int) -> list[int]:
    """The processes that answer, once there are ``number`` of them."""
    if number == 1:
        return [process.popen.pid]
    found: list[int] = []

    def are_there() -> bool:
        parents = [pid for parent in children(process.popen.pid) for pid in children(parent)]
        found[:] = parents
        return len(parents) == number

    process.wait_until(are_there)
    return found


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return list(map(int, file.read().split()))


def _burst(senders: _Senders, questions: Sequence[bytes], answering: Sequence[int]) -> tuple[float, float, float]:
    """Queries a second, processor time for a query, and the share of the busiest process, of one burst."""
    for pid in answering:
        os.kill(pid, signal.SIGSTOP)
    senders.send(questions)
    before = [processor_seconds(pid) for pid in answering]
    for pid in answering:
        os.kill(pid, signal.SIGCONT)
    arrived, end = list[float](), time.monotonic() + DEADLINE
    while len(arrived) < QUERIES and time.monotonic() < end:
        time.sleep(_SETTLED)  # without a look at the sockets, which would take time from the workers
        arrived += senders.receive()
    spent = [processor_seconds(pid) - start for pid, start in zip(answering, before, strict=True)]
    if len(arrived) < QUERIES:
        raise BenchError(f"{QUERIES - len(arrived)} of {QUERIES} queries were not answered")
    taken = max(arrived) - min(arrived)
    return QUERIES / taken, sum(spent) / QUERIES, max(spent) / sum(spent)


class _Senders:
    """Sockets that send queries, each from a port of its own, and hold the replies with the time of their arrival."""

    def __init__(self, port: int) -> None:
        self._socks = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(CLIENTS)]
        for sock in self._socks:
            sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
            sock.setblocking(False)
            sock.connect((LOOPBACK, port))

    def __enter__(self) -> _Senders:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._socks:
            sock.close()

    def send(self, questions: Sequence[bytes]) -> None:
        for at in range(QUERIES):
            self._socks[at % CLIENTS].send(at.to_bytes(2, "big") + questions[at % len(questions)])

    def receive(self) -> list[float]:
        """When each reply that is there has arrived, in seconds."""
        arrived = []
        for sock in self._socks:
            while True:
                try:
                    reply, ancillary, _, _ = sock.recvmsg(4096, 64)
                except BlockingIOError:
                    break
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                if has_answer(reply):
                    arrived.append(seconds + nanoseconds / 1e9)
        return arrived


def _time_table(measured: dict[int, _Measured], options: Options) -> Table:
    one = measured[NUMBERS[0]]
    rows = [
        (
            str(number),
            median(of.rates),
            f"{statistics.median(of.rates) / statistics.median(one.rates):.2f}",
            median([cost * 1e6 for cost in of.costs], ".2f"),
            f"{number * statistics.median(one.costs) / statistics.median(of.costs):.2f}",
            f"{statistics.median(of.shares):.0%}",
        )
        for number, of in measured.items()
    ]
    lines = {"answered": [(number, statistics.median(of.rates)) for number, of in measured.items()]}
    lines["1 × workers"] = [(number, number * statistics.median(one.rates)) for number in measured]
    notes = (
        f"{QUERIES:,} queries from {CLIENTS} ports for {NAMES} hot names wait in the sockets' queues; times are those"
        f" at which the kernel got the replies. {options.rounds} rounds by turns, {ROUNDS} bursts each: median"
        " (least–most).",
        "'By cost': how many times as much all processes could answer, each on a core of its own, by the processor time"
        " of a query alone. They share no lock: each reads sockets of its own.",
        "The busiest process has more than its share because the kernel deals out clients by their ports, not queries.",
        *Plot("workers", "Queries a second, from full queues", "workers", "queries a second", lines).noted(
            options.plots
        ),
    )
    return Table(
        "Processes that answer on one port",
        own_command(),
        ("workers", "queries/s", "× one", "CPU, µs a query", "× one, by cost", "share of the busiest"),
        rows,
        notes,
    )


def _measure_memory(number: int, instances: int, options: Options) -> list[int]:
    """Octets of all processes together: with all loaded, and after so many names were looked up."""
    progress(f"workers: memory of {number} with {instances:,} instances")
    directory = options.directory / f"memory-of-workers-{number}-{instances}"
    directory.mkdir()
    each = min(100, instances)
    bindings = {"::1/128": str(worlds.ENVIRONMENT)}
    with product.running_store(directory) as url:
        # One environment for the clients has a tenth of all names; the others have a hundred each.
        services = max(1, instances // 10 // each)
        made = [worlds.environment(services, each)]
        made += list(worlds.environments((instances - services * each) // each + 1, 1, each))[1:]
        worlds.fill(url, made)
        del made
        with product.running_resolver(
            url, directory, bindings=bindings, source_rate=product.NO_RATE, workers=number
        ) as (process, port):
            product.wait_until_serving(process, port, worlds.service_name(1))
            process.wait_until(lambda: '"event": "loaded"' in process.log.read_text())
            answering(process, number)
            time.sleep(2.0)
            loaded = process.memory()
            _look_up(port, services, each)
            return [loaded, process.memory()]


def _look_up(port: int, services: int, each: int) -> None:
    """Looks up names of instances, from many ports."""
    names = [f"i{host}.{worlds.service_name(at)}" for at in range(1, services + 1) for host in range(1, each + 1)]
    random.Random(0).shuffle(names)
    for at in range(0, min(LOOKED_UP, len(names)), 50):
        with Client(port, timeout=5.0) as client:
            for name in names[at : at + 50]:
                if not has_answer(client.ask(pack_question(name))):
                    raise BenchError(f"{name} was not answered")


def _memory_table(memory: dict[int, list[int]], instances: int) -> Table:
    one = memory[NUMBERS[0]]
    rows = [
        (
            str(number),
            f"{loaded / 1e6:,.0f}",
            f"{loaded / one[0]:.2f}",
            f"{asked / 1e6:,.0f}",
            f"{asked / one[1]:.2f}",
        )
        for number, (loaded, asked) in memory.items()
    ]
    looked_up = min(LOOKED_UP, max(1, instances // 10))
    return Table(
        f"Memory of processes that answer, with {instances:,} instances",
        own_command(),
        ("workers", "MB, loaded", "× one", f"MB, {looked_up:,} names later", "× one"),
        rows,
        (
            "Resident, shared pages by share (PSS), of all processes: with two workers also the launcher and the"
            " process that has the zones.",
            "'Names later': so many different names were looked up, each once, which fills the packet caches, and"
            " copies the pages on which Python counts references.",
        ),
    )
