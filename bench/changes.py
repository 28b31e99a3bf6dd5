"""changes: what clients notice while ten thousand changes a second arrive.

A client sends a query for a name of one environment every millisecond, by turns while nothing changes, while changes go
to data of the same store that the resolver does not follow, and while they go to its own: so all of them meet the same
machine, and what the last two differ by is what following costs clients. A query counts from the time when it was due,
whether or not the one before was answered. Of each kind of turn the 99th percentiles are worked out turn by turn, and
the median counts: what else the machine does falls into some of them.

The resolver has one core, and one with two workers has both. Client, store and writer share the other, where store and
writer have the policy SCHED_IDLE and the client SCHED_FIFO, so that a client that has something to do runs at once:
what is measured is the resolver, not the scheduler. The client collects no garbage meanwhile, which would take it
longer than an answer.
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from select import select

from msgspec.structs import replace

from bench import product, worlds
from bench.client import Client, has_answer, pack_question
from bench.options import Options
from bench.processes import BenchError, Process, cores, pinned
from bench.report import Table, own_command, percentile, progress
from bench.workers import answering
from store.environments import COMMIT_SCRIPT
from store.keys import DEFAULT_PREFIX, Keys
from zones import document
from zones.model import Environment

CHANGES = 10_000  # a second
EVERY = 0.01  # seconds between two bursts of them
ASK_EVERY = 0.001  # seconds
SETTLE_EVERY, SETTLED = 0.2, 0.02  # a resolver that used less of the processor in that time has nothing left to do
TURNS = 9  # of each kind
ELSEWHERE = "elsewhere:"  # the prefix of the data that is not followed
_FORK = multiprocessing.get_context("fork")  # a process of its own: a thread would have the client wait for it
SHAPES = ((1, 5, 2), (100, 5, 2))  # environments that change, services in each, instances in each of those
WORKERS = (1, 2)  # processes that answer; with two, a third one hears of the changes


def run(options: Options) -> Iterator[Table]:
    """One table: a row for each number of environments that change."""
    rows = [_measure(*shape, workers, options) for shape in SHAPES for workers in WORKERS]
    yield Table(
        f"While {CHANGES:,} changes a second arrive",
        own_command(),
        (
            "environments that change", "workers", "changes/s", "quiet p50, ms", "p99, ms", "not followed p50, ms",
            "p99, ms", "followed p50, ms", "p99, ms", "most, ms", "unanswered", "memory before, MB", "after",
        ),
        rows,
        (
            "One query each ms for a name of an environment that stays as it is, timed from when it was due.",
            "Not followed: as many changes go to other data of the same store, so all but the resolver does the same.",
            f"Percentiles are medians of {TURNS} turns.",
        ),
    )  # fmt: skip


def _measure(number: int, services: int, instances: int, workers: int, options: Options) -> tuple[str, ...]:
    progress(f"changes: of {number} environments, {workers} workers")
    server_core, load_core = cores()
    directory = options.directory / f"changes-{number}-{workers}"
    directory.mkdir()
    asked, *changing = worlds.environments(number + 1, services, instances)
    bursts = {prefix: _bursts(Keys(prefix), changing, options.seconds) for prefix in (ELSEWHERE, DEFAULT_PREFIX)}
    with pinned(load_core), product.running_store(directory, gives_way=True) as url:
        worlds.fill(url, [asked, *changing])
        worlds.fill(url, changing, ELSEWHERE)
        with (
            pinned(*(server_core, load_core)[:workers]),
            product.running_resolver(url, directory, workers=workers) as (process, port),
            pinned(load_core),
        ):
            product.wait_until_serving(process, port, worlds.service_name(1))
            answering(process, workers)
            memory = process.memory()
            quiet, busy = list[list[float]](), {prefix: list[list[float]]() for prefix in bursts}
            unanswered, taken = 0, 0.0
            for turn in range(TURNS):
                _settle(process)
                quiet.append(_ask(process, port, options.seconds / TURNS)[0])
                for prefix, sent in bursts.items():
                    part = sent[turn * len(sent) // TURNS : (turn + 1) * len(sent) // TURNS]
                    flood = _FORK.Process(target=_send, args=(url.removeprefix("unix://"), part))
                    began = time.monotonic()
                    flood.start()
                    latencies, missing = _ask(process, port, options.seconds / TURNS)
                    flood.join()
                    if flood.exitcode:
                        raise BenchError("the writer has failed; it says why above")
                    taken += time.monotonic() - began
                    busy[prefix].append(latencies)
                    unanswered += missing
            rate = sum(len(burst[1]) for sent in bursts.values() for burst in sent) / taken
            grown = process.memory()
    elsewhere, followed = busy.values()
    return (
        str(number), str(workers), f"{rate:,.0f}",
        *(_median_of(turns, percent) for turns in (quiet, elsewhere, followed) for percent in (50, 99)),
        f"{max(map(max, followed)) * 1000:.2f}", f"{unanswered:,}",
        f"{memory / 1e6:.0f}", f"{grown / 1e6:.0f}",
    )  # fmt: skip


def _settle(process: Process) -> None:
    """Waits until the resolver has taken in what has changed."""
    used = SETTLED
    while used >= SETTLED:
        before = process.cpu().total
        time.sleep(SETTLE_EVERY)
        used = process.cpu().total - before


def _median_of(turns: Sequence[Sequence[float]], percent: int) -> str:
    return f"{percentile([percentile(turn, percent) for turn in turns], 50) * 1000:.2f}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Has this process run at once when it has something to do, and not look for garbage."""
    gc.collect()
    gc.disable()
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        raise BenchError("changes needs the right to the policy SCHED_FIFO: run it as root") from None
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)
        gc.enable()


def _ask(process: Process, port: int, seconds: float) -> tuple[list[float], int]:
    """How long each query of ``seconds`` took from when it was due, and how many got no answer."""
    question, due, latencies = pack_question(worlds.service_name(1)), dict[int, float](), list[float]()
    with Client(port) as client, _undisturbed():
        next_due = time.monotonic()
        end = next_due + seconds
        while (now := time.monotonic()) < end + (1.0 if due else 0.0):
            process.check()
            while next_due <= min(now, end):
                if id_ := client.send(question):
                    due[id_] = next_due
                next_due += ASK_EVERY
            readable, _, _ = select([client.sock], [], [], max(0.0, min(next_due, end + 1.0) - time.monotonic()))
            if readable and has_answer(reply := client.receive()) and reply:
                latencies.append(time.monotonic() - due.pop(int.from_bytes(reply[:2], "big")))
    return latencies, len(due)


def _bursts(keys: Keys, changing: Sequence[Environment], seconds: float) -> list[tuple[bytes, range]]:
    """What to send every `EVERY` seconds: commits to the data of ``keys``, each of the next environment in turn."""
    script = hashlib.sha1(COMMIT_SCRIPT.text.encode()).hexdigest()
    size, current, bursts = int(CHANGES * EVERY), list(changing), []
    for number in range(int(seconds / EVERY)):
        commits = []
        for at in range(number * size, (number + 1) * size):
            before = current[at % len(current)]
            after = replace(before, revision=before.revision + 1, enabled=not before.enabled)
            current[at % len(current)] = after
            written, id_ = document.encode(after), after.id
            commits.append(
                _command(
                    "EVALSHA", script, 7, keys.epoch, keys.environments, keys.environment(id_), keys.networks,
                    keys.changes, keys.acks(id_), keys.lease(""), id_, before.revision, after.revision,
                    document.digest(written), after.network, written, "h1", "epoch", 100_000, "",
                )
            )  # fmt: skip
        bursts.append((b"".join(commits), range(size)))
    return bursts


def _command(*words: object) -> bytes:
    octets = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(octets) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in octets)


def _send(path: str, bursts: Sequence[tuple[bytes, range]]) -> None:
    """Sends a burst every `EVERY` seconds, and reads the replies."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        due, read = time.monotonic(), 0
        for burst, commits in bursts:
            sock.sendall(burst)
            expected = len(commits)
            while expected > 0:
                replies = sock.recv(1 << 20)
                if replies[:1] == b"-":
                    raise AssertionError(replies[:200])
                expected -= replies.count(b"*2\r\n")
            read += len(commits)
            due += EVERY
            time.sleep(max(0.0, due - time.monotonic()))
