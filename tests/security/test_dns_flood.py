"""A workload that floods the resolver takes nothing from its neighbours: all are answered, about as fast as before."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import dns.message
import pytest

from tests.interlock.processes import python, started
from tests.security.installation import NEIGHBOUR, NOISY, Installation, installation

ROUNDS = 4  # of which one must be within the bounds of time: other programs need this machine's processors too
SECONDS = 1.5  # of one round
ASK_EVERY = 0.004  # seconds
LAST_REPLY = 2.0  # seconds after the last query
SLOWER = 3.0  # times, at the 99th percentile
LEAST = 0.001  # seconds; three times a fifth of a millisecond is less than a scheduler's whim


@dataclass(frozen=True, slots=True)
class Flood:
    """Who sends what."""

    sources: int
    """How many workloads of one environment take part."""
    names: str
    """What they ask for, in the words of ``programs/flood.py``."""
    rate: int
    """Queries a second of each; 0 for as many as it can send."""


FLOODS = {
    "12,000 made-up names a second": Flood(1, "made-up", 12_000),
    "made-up names as fast as they can be sent": Flood(1, "made-up", 0),
    "one name as fast as it can be sent": Flood(1, "same", 0),
    "four that ask for names that never answer": Flood(4, "outside", 500),
    "outside names as fast as they can be sent": Flood(1, "outside", 0),
}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("up")) as made:
        yield made


@pytest.fixture(scope="module")
def sink() -> Iterator[int]:
    """The port of a socket that takes packets and reads none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_neighbours_notice_nothing(up: Installation, sink: int, flood: Flood) -> None:
    seen = []
    for _ in range(ROUNDS):
        # The same flood to elsewhere takes as much of the machine, and nothing of the resolver.
        with flooding(flood, sink):
            idle = probe(up.port)
        with flooding(flood, up.port):
            flooded = probe(up.port)
        assert flooded.lost == 0
        seen.append(f"idle {idle}, flooded {flooded}")
        if flooded.at(99) <= SLOWER * max(idle.at(99), LEAST):
            break
    else:
        pytest.fail("; ".join(seen))
    print("; ".join(seen))


def test_what_was_dropped_is_counted_and_the_source_is_named(up: Installation) -> None:
    with flooding(FLOODS["made-up names as fast as they can be sent"], up.port):
        probe(up.port)
    dropped = 'interlock_queries_dropped_total{{reason="{}"}}'
    assert up.metric(dropped.format("source_rate")) > 0
    assert up.metric(dropped.format("socket")) > 0
    assert f"source={NOISY.format(1)}" in up.process.errors


@dataclass(frozen=True, slots=True)
class Probed:
    """What a neighbour saw."""

    seconds: list[float]
    """From each query to its answer, the shortest first."""
    lost: int
    """Queries without an answer."""

    def at(self, percent: int) -> float:
        return self.seconds[len(self.seconds) * percent // 100]

    def __str__(self) -> str:
        return f"p50 {self.at(50) * 1000:.2f} ms, p99 {self.at(99) * 1000:.2f} ms, {self.lost} lost"


def probe(port: int) -> Probed:
    """Asks for a name of another environment than the noisy one, as its only client."""
    question = dns.message.make_query("api.railway.internal.", "AAAA", use_edns=False).to_wire()[2:]
    asked: dict[int, float] = {}
    seconds = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((NEIGHBOUR.format(1), 0))
        sock.connect(("127.0.0.1", port))
        due = time.monotonic()
        end, number = due + SECONDS, 0
        while (now := time.monotonic()) < end or (asked and now < end + LAST_REPLY):
            if due <= now < end:
                number += 1
                asked[number] = now
                sock.send(number.to_bytes(2, "big") + question)
                due = max(due + ASK_EVERY, now)
            if select.select([sock], [], [], max(0.0, min(due, end) - time.monotonic()) or ASK_EVERY)[0]:
                reply = dns.message.from_wire(sock.recv(4096))
                assert len(reply.answer) == 1
                seconds.append(time.monotonic() - asked.pop(reply.id))
    return Probed(sorted(seconds), len(asked))


@contextlib.contextmanager
def flooding(flood: Flood, port: int) -> Iterator[None]:
    """All sources of ``flood`` send to ``port``, and have begun."""
    program = python("-m", "tests.security.programs.flood")
    with contextlib.ExitStack() as until_over:
        for number in range(1, flood.sources + 1):
            arguments = NOISY.format(number), str(port), flood.names, str(flood.rate)
            until_over.enter_context(started(*program, *arguments)).read_until("sends")
        yield
