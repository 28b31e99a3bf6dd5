"""renewal: what clients notice when a resolver with workers is renewed (SIGHUP), and when one of its workers is killed.

dnsperf sends queries at an even rate all the while, and counts those that got no answer. The killed worker is not
missed for long: what is lost is what it had read and not answered.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

from bench import product, worlds
from bench.client import Client, has_answer, pack_question
from bench.dnsperf import put_load
from bench.options import Options
from bench.plot import Plot
from bench.processes import BenchError, Process
from bench.report import Table, own_command, percentile, progress
from bench.workers import answering

QUERIES = 200_000
RATE = 5_000  # a second: a small share of what two cores answer, for what is measured is who is lost
SERVICES = 1000
WINDOW = 0.1  # seconds; the plot has the slowest reply of each
ASK_EVERY = 0.001  # seconds between two queries of the client whose times are plotted
RENEWALS = 3  # within the load


def run(options: Options) -> Iterator[Table]:
    """One table: a row for what is done to the resolver meanwhile."""
    rows, lines = [], {}
    for name, act, times in (
        ("nothing", _do_nothing, 1),
        (f"SIGHUP, {RENEWALS} times", _renew, RENEWALS),
        ("kill -9 of a worker, 3 times", _kill, 3),
    ):
        progress(f"renewal: {name}")
        row, line = _measure(name, act, times, options)
        rows.append(row)
        lines[name] = line
    title = f"The slowest reply of each {WINDOW * 1000:.0f} ms"
    notes = (
        f"{RATE:,} queries a second by dnsperf from 8 ports for {SERVICES:,} names; 2 workers, client, store and"
        " dnsperf share the two cores.",
        "Times are those of another client, which sends a query each ms, timed from when it was due.",
        *Plot("renewal", title, "seconds", "ms", lines, is_linear=True).noted(options.plots),
    )
    yield Table(
        "A renewal under load",
        own_command(),
        ("meanwhile", "queries", "lost", "p50, ms", "p99, ms", "most, ms", "other client's lost"),
        rows,
        notes,
    )


def _measure(
    name: str, act: Callable[[Process], None], times: int, options: Options
) -> tuple[tuple[str, ...], list[tuple[float, float]]]:
    directory = options.directory / f"renewal-{name.split()[0]}"
    directory.mkdir()
    queries = directory / "queries"
    worlds.write_queries(queries, SERVICES)
    with product.running_store(directory) as url:
        worlds.fill(url, [worlds.environment(SERVICES, 1)])
        with product.running_resolver(url, directory, source_rate=product.NO_RATE, workers=2) as (process, port):
            product.wait_until_serving(process, port, worlds.service_name(1))
            answering(process, 2)
            seconds = QUERIES / RATE
            replies: list[tuple[float, float | None]] = []
            asking = threading.Thread(target=_ask, args=(port, seconds, replies))
            acting = threading.Thread(target=_act, args=(process, act, times, seconds))
            asking.start()
            acting.start()
            loaded = put_load(process, port, queries, seconds, core=None, rate=RATE)
            asking.join()
            acting.join()
    answered = [latency for _, latency in replies if latency is not None]
    row = (
        name, f"{loaded.completed + loaded.lost:,}", f"{loaded.lost:,}",
        *(f"{percentile(answered, percent) * 1000:.2f}" for percent in (50, 99, 100)),
        f"{len(replies) - len(answered):,} of {len(replies):,}",
    )  # fmt: skip
    return row, _windows(replies)


def _act(process: Process, act: Callable[[Process], None], times: int, seconds: float) -> None:
    for _ in range(times):
        time.sleep(seconds / (times + 1))
        act(process)


def _do_nothing(_process: Process) -> None:
    pass


def _renew(process: Process) -> None:
    before = set(answering(process, 2))
    os.kill(process.popen.pid, signal.SIGHUP)
    process.wait_until(lambda: not before & set(answering(process, 2)))


def _kill(process: Process) -> None:
    os.kill(answering(process, 2)[0], signal.SIGKILL)


def _ask(port: int, seconds: float, replies: list[tuple[float, float | None]]) -> None:
    """Notes for each query when it was due, and how long its reply took from then; None where none came."""
    question, due = pack_question(worlds.service_name(1)), dict[int, float]()
    began = next_due = time.monotonic()
    with Client(port, timeout=ASK_EVERY) as client:
        while (now := time.monotonic()) < began + seconds + (2.0 if due else 0.0):
            while next_due <= min(now, began + seconds):
                due[client.send(question)] = next_due
                next_due += ASK_EVERY
            client.sock.settimeout(max(0.0001, next_due - time.monotonic()))
            if (reply := client.receive()) and has_answer(reply):
                sent = due.pop(int.from_bytes(reply[:2], "big"), None)
                if sent is not None:
                    replies.append((sent - began, time.monotonic() - sent))
    replies.extend((sent - began, None) for sent in due.values())
    if not replies:
        raise BenchError("no query was answered")


def _windows(replies: list[tuple[float, float | None]]) -> list[tuple[float, float]]:
    """The slowest reply of each window, in ms."""
    slowest: dict[int, float] = {}
    for sent, latency in replies:
        window = int(sent / WINDOW)
        slowest[window] = max(slowest.get(window, 0.0), (latency or 2.0) * 1000)
    return [(window * WINDOW, slowest[window]) for window in sorted(slowest)]
