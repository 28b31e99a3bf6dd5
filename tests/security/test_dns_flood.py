"""A workload that floods the resolver takes nothing from its neighbours: all are answered, about as fast as before.

How long an answer takes is judged by how much the resolver has worked meanwhile, which says how many others came first,
and is the same however busy the machine is. ``python -m bench flood`` measures the time.
"""

from __future__ import annotations

import contextlib
import select
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import dns.message
import pytest

from tests.interlock.processes import python, started
from tests.security.installation import NEIGHBOUR, NOISY, Installation, installation
from tests.security.programs.flood import FLOODS, Flood

ROUNDS = 4  # of which one must be within the bounds: other programs need this machine's processors too
SECONDS = 1.5  # of one round
ASK_EVERY = 0.004  # seconds
LAST_REPLY = 2.0  # seconds after the last query
MOST_WORK = 0.02  # seconds of the resolver's processor time, for half of the answers; without the defence it was 0.24


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
    rounds = [compare(up, sink, flood)]
    while not rounds[-1].is_fair and len(rounds) < ROUNDS:
        rounds.append(compare(up, sink, flood))
    assert rounds[-1].is_fair, "; ".join(map(str, rounds))


def test_the_control_loses_answers(tmp_path: Path, sink: int) -> None:
    with installation(tmp_path, module="tests.security.programs.undefended") as up:
        assert not compare(up, sink, FLOODS["made-up names as fast as they can be sent"]).is_fair


def test_what_was_dropped_is_counted_and_the_source_is_named(up: Installation) -> None:
    with flooding(FLOODS["made-up names as fast as they can be sent"], up.port):
        probe(up)
    dropped = 'interlock_queries_dropped_total{{reason="{}"}}'
    assert up.metric(dropped.format("source_rate")) > 0
    assert up.metric(dropped.format("socket")) > 0
    assert f"source={NOISY.format(1)}" in up.process.errors


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a neighbour."""

    seconds: float
    """From the query to the answer."""
    work: float
    """Seconds of the resolver's processor time meanwhile."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a neighbour saw."""

    answers: list[Answer]
    """In the order of their arrival."""
    lost: int
    """Queries without an answer."""

    @property
    def is_fair(self) -> bool:
        """Whether the neighbour has all its answers, and the resolver did little before half of them."""
        return not self.lost and statistics.median(one.work for one in self.answers) < MOST_WORK

    def __str__(self) -> str:
        lost = f"{self.lost} lost of {self.lost + len(self.answers)}"
        if not self.answers:
            return lost
        seconds, work = (sorted(each) for each in zip(*map(astuple, self.answers), strict=True))
        shown = (
            f"{name} {each[len(each) * percent // 100] * 1000:.2f} ms"
            for each, name, percent in (
                (seconds, "p50", 50), (seconds, "p99", 99), (work, "work p50", 50), (work, "p99", 99)
            )
        )  # fmt: skip
        return ", ".join([*shown, lost])


def compare(up: Installation, sink: int, flood: Flood) -> Probed:
    """What a neighbour sees during ``flood``; prints that, and what it sees while as much is sent to elsewhere."""
    with flooding(flood, sink):
        idle = probe(up)
    with flooding(flood, up.port):
        flooded = probe(up)
    print(f"idle: {idle}; flooded: {flooded}")
    return flooded


def probe(up: Installation) -> Probed:
    """Asks for a name of another environment than the noisy one, as its only client."""
    question = dns.message.make_query("api.railway.internal.", "AAAA", use_edns=False).to_wire()[2:]
    clock = ~up.process.pid << 3 | 2  # of the processor time of a process: what clock_getcpuclockid(3) gives
    asked: dict[int, tuple[float, float]] = {}
    answers = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((NEIGHBOUR.format(1), 0))
        sock.connect(("127.0.0.1", up.port))
        due = time.monotonic()
        end, number = due + SECONDS, 0
        while (now := time.monotonic()) < end or (asked and now < end + LAST_REPLY):
            if due <= now < end:
                number += 1
                asked[number] = now, time.clock_gettime(clock)
                sock.send(number.to_bytes(2, "big") + question)
                due = max(due + ASK_EVERY, now)
            if select.select([sock], [], [], max(0.0, min(due, end) - time.monotonic()) or ASK_EVERY)[0]:
                reply = dns.message.from_wire(sock.recv(4096))
                assert len(reply.answer) == 1
                seconds, work = asked.pop(reply.id)
                answers.append(Answer(time.monotonic() - seconds, time.clock_gettime(clock) - work))
    return Probed(answers, len(asked))


@contextlib.contextmanager
def flooding(flood: Flood, port: int) -> Iterator[None]:
    """All sources of ``flood`` send to ``port``, and have begun."""
    program = python("-m", "tests.security.programs.flood")
    with contextlib.ExitStack() as until_over:
        for number in range(1, flood.sources + 1):
            arguments = NOISY.format(number), str(port), flood.names, str(flood.rate)
            until_over.enter_context(started(*program, *arguments)).read_until("sends")
        yield
