"""The soak itself: it knows a right answer from a late and a wrong one, and a level process from one that grows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.soak.judge import History, Observation, Outcome, Verdict, noerror, outcomes
from tests.faults.soak.samples import Level

MIB = 1 << 20
OLD, NEW, OTHER = noerror("fd12::1"), noerror("fd12::2"), noerror("fd12::3")
NXDOMAIN: Outcome = ("NXDOMAIN", frozenset())


def view(address: str, **fields: Any) -> dict[str, Any]:
    """An environment with one service of a ready instance, and of one that is not."""
    instances = [{"id": "i0", "address": address, "state": "ready"}]
    instances.append({"id": "i1", "address": "fd12::9", "state": "draining"})
    service = {"name": "s0", "instances": instances, "former_names": [], **fields}
    record = {"name": "r0", "type": "A", "values": ["192.0.2.1"]}
    return {"services": [service], "records": [record]}


def seen(label: str, outcome: Outcome, sent: float = 0.0, rtype: str = "AAAA") -> Observation:
    return Observation(label, rtype, sent, sent + 0.1, sent, outcome)


@pytest.mark.parametrize(
    ("sent", "outcome", "verdict", "age"),
    [
        (5.0, OLD, Verdict.RIGHT, 0.0),
        (5.0, NEW, Verdict.WRONG, 0.0),  # before it was written
        (9.95, NEW, Verdict.RIGHT, 0.0),  # written during the query
        (10.5, OLD, Verdict.RIGHT, 0.0),  # acknowledged a moment ago
        (10.5, NEW, Verdict.RIGHT, 0.0),
        (14.0, OLD, Verdict.LATE, 3.8),
        (14.0, OTHER, Verdict.WRONG, 0.0),
        (14.0, NXDOMAIN, Verdict.WRONG, 0.0),
    ],
)
def test_an_answer_is_judged_by_the_states_of_its_time(
    sent: float, outcome: Outcome, verdict: Verdict, age: float
) -> None:
    history = History("shop", "127.0.0.1")
    history.add(view("fd12::1"), 0.0, 0.1)
    history.add(view("fd12::2"), 10.0, 10.2)  # sent at 10, acknowledged at 10.2
    history.known_until = 100.0
    history.waiting.append(seen("s0", outcome, sent))
    found = history.judge_waiting()
    assert dict(history.verdicts) == {verdict: 1}
    assert [late for _, _, late in found] == ([] if verdict is Verdict.RIGHT else [pytest.approx(age)])


def test_an_answer_waits_until_the_outcome_of_each_write_before_it_is_known() -> None:
    history = History("shop", "127.0.0.1")
    history.add(view("fd12::1"), 0.0, 0.1)
    history.known_until = 4.0
    history.waiting.append(seen("s0", NEW, 5.0))
    assert history.judge_waiting() == []
    history.add(view("fd12::2"), 4.5, 8.0)
    history.known_until = 8.0
    assert history.judge_waiting() == []
    assert history.verdicts[Verdict.RIGHT] == 1


@pytest.mark.parametrize(
    ("label", "rtype", "outcome"),
    [
        ("s0", "AAAA", OLD),
        ("s0", "A", noerror()),
        ("i1.s0", "AAAA", noerror("fd12::9")),
        ("i2.s0", "AAAA", NXDOMAIN),
        ("s1", "AAAA", NXDOMAIN),
        ("r0", "A", noerror("192.0.2.1")),
        ("r0", "AAAA", noerror()),
        ("former", "AAAA", OLD),
        ("i0.former", "AAAA", OLD),
        ("ended", "AAAA", NXDOMAIN),
    ],
)
def test_what_an_environment_answers(label: str, rtype: str, outcome: Outcome) -> None:
    former = [
        {"name": "former", "until": "1970-01-01T00:01:00+00:00"},
        {"name": "ended", "until": "1970-01-01T00:00:10+00:00"},
    ]
    assert outcomes(view("fd12::1", former_names=former), seen(label, outcome, 30.0, rtype)) == [outcome]


@pytest.mark.parametrize(
    ("memory", "descriptors", "is_level"),
    [
        ((60, 62), (20, 21), True),
        ((60, 64), (20, 20), False),
        ((200, 209), (20, 20), True),
        ((60, 60), (20, 25), False),
        ((60, 40), (20, 9), True),
    ],
)
def test_a_process_is_level(memory: tuple[int, int], descriptors: tuple[int, int], is_level: bool) -> None:
    level = Level("up", 100, (memory[0] * MIB, memory[1] * MIB), descriptors)
    assert level.is_level is is_level
