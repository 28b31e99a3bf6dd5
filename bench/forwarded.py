"""forwarded: the processor time of an answer for a name of the outside world that is in the forwarder's cache.

The upstream is a thread of this process: it answers each name once, before the load, and has nothing to do meanwhile.
Knot beside it answers as many names of a zone of its own, for a measure of the machine; it forwards nothing.
"""

from __future__ import annotations

import socket
import statistics
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench import product, worlds
from bench.client import AAAA, Client, has_answer, pack_question
from bench.dnsperf import Loaded, put_load
from bench.options import Options
from bench.processes import LOOPBACK, BenchError, cores
from bench.report import Table, median, own_command, progress
from bench.servers import started

DOMAIN = "bench.example"
PEER = "knot"
WARM_UP = 1.0  # seconds of load that are not measured
TTL = 3600  # seconds: no answer ends during a run, so all that is measured is the cache
_ANSWER = b"\xc0\x0c\0\x1c\0\1" + TTL.to_bytes(4, "big") + b"\0\x10" + socket.inet_pton(socket.AF_INET6, "2001:db8::1")


def run(options: Options) -> Iterator[Table]:
    """One table: a row for each number of names."""
    peers = [name for name in options.peers if name == PEER]
    rows = [_compare(options, names, bool(peers)) for names in options.names]
    yield Table(
        "Forwarded names, from the cache, over UDP",
        own_command(),
        ("names", "queries/s", "server CPU, µs a query", "of it user", "lost", "Knot's own names, µs", "CPU ÷ Knot's"),
        rows,
        (
            f"{options.rounds} rounds of {options.seconds:g} s on [::1]: median (least–most)."
            " One core for the server, the other for dnsperf. AAAA records with a TTL of an hour, asked with EDNS.",
            *options.skipped,
        ),
    )


def _compare(options: Options, names: int, with_peer: bool) -> tuple[str, ...]:
    loads: list[Loaded] = []
    peer: list[Loaded] = []
    for number in range(options.rounds):
        progress(f"forwarded: {names:,} names, round {number + 1} of {options.rounds}")
        loads.append(_measure(options, names, number))
        if with_peer:
            peer.append(_measure_peer(options, names, number))
    return _row(names, loads, peer)


def _measure(options: Options, names: int, number: int) -> Loaded:
    server_core, load_core = cores()
    directory = options.directory / f"forwarded-{names}-{number}"
    directory.mkdir()
    queries = directory / "queries"
    outside = [f"www-{at}.{DOMAIN}" for at in range(1, names + 1)]
    queries.write_text("".join(f"{name} AAAA\n" for name in outside))
    with product.running_store(directory) as url, running_upstream() as upstream:
        worlds.fill(url, [worlds.environment(1, 1)])
        with product.running_resolver(url, directory, server_core, upstream=upstream, source_rate=product.NO_RATE) as (
            process,
            port,
        ):
            product.wait_until_serving(process, port, worlds.service_name(1))
            _fill_cache(port, outside)
            put_load(process, port, queries, WARM_UP, load_core, edns=True)
            return put_load(process, port, queries, options.seconds, load_core, edns=True)


def _fill_cache(port: int, names: Sequence[str]) -> None:
    with Client(port) as client:
        for name in names:
            if not has_answer(client.ask(pack_question(name, absolute=True))):
                raise BenchError(f"{name} was not answered")


def _measure_peer(options: Options, names: int, number: int) -> Loaded:
    server_core, load_core = cores()
    served = worlds.environment(names, 1)
    queries = options.directory / f"forwarded-{names}-{number}-queries"
    worlds.write_queries(queries, names)
    with started(PEER, options.directory / f"forwarded-{names}-{number}-{PEER}", server_core, served) as (
        process,
        port,
    ):
        put_load(process, port, queries, WARM_UP, load_core, edns=True)
        return put_load(process, port, queries, options.seconds, load_core, edns=True)


def _row(names: int, loads: Sequence[Loaded], peer: Sequence[Loaded]) -> tuple[str, ...]:
    ratios = [load.cost.total / base.cost.total for load, base in zip(loads, peer, strict=False)]
    return (
        f"{names:,}",
        median([load.rate for load in loads]),
        median([load.cost.total * 1e6 for load in loads], ".2f"),
        f"{statistics.median(load.cost.user * 1e6 for load in loads):.2f}",
        str(sum(load.lost for load in loads)),
        median([load.cost.total * 1e6 for load in peer], ".2f") if peer else "",
        median(ratios, ".2f") if ratios else "",
    )


@contextmanager
def running_upstream() -> Iterator[str]:
    """An upstream that has an AAAA record at each name; gives its address and port."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        thread = threading.Thread(target=_serve, args=(sock,), daemon=True)
        thread.start()
        try:
            yield f"[{LOOPBACK}]:{sock.getsockname()[1]}"
        finally:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stopping:
                stopping.sendto(b"", sock.getsockname())
            thread.join()


def _serve(sock: socket.socket) -> None:
    while query := sock.recvfrom(4096):
        packet, client = query
        if not packet:
            return
        end = packet.index(b"\0", 12) + 5
        has_answer = packet[end - 4 : end - 2] == AAAA.to_bytes(2, "big")
        header = packet[:2] + b"\x81\x80\0\1" + has_answer.to_bytes(2, "big") + bytes(4)
        sock.sendto(header + packet[12:end] + (_ANSWER if has_answer else b""), client)
