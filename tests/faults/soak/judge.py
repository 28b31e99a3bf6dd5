"""What is right: the states of one environment in time, and what each of them answers.

A query takes a while, and so does a write. An answer is right if it is that of any state that may have been current at
some moment of the query, or `FRESH` before it. It is late if an older state gave it, and wrong if none did.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import inf
from typing import Any

FRESH = 1.0  # seconds from the acknowledgement of a write until an older answer counts as late
CLOCKS = 2.0  # seconds around the end of a former name in which both answers are right: it ends by the store's clock
KEPT = 600.0  # seconds for which replaced states are kept, to tell what is late from what is wrong
APEX = "railway.internal."

Values = frozenset[str]
Outcome = tuple[str, Values]
"""The rcode and the values of an answer."""


class Verdict(StrEnum):
    """How an answer is judged."""

    RIGHT = "right"
    LATE = "late"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Observation:
    """One answer."""

    label: str
    """What was asked, relative to the zone."""
    rtype: str
    """The type that was asked."""
    sent: float
    """When it was asked, in monotonic seconds."""
    received: float
    """When the answer came, in monotonic seconds."""
    wall: float
    """When the answer came, in Unix seconds."""
    outcome: Outcome
    """What it said."""


@dataclass(slots=True)
class State:
    """An environment as the API shows it."""

    view: Mapping[str, Any]
    """The environment with its services and records."""
    begins: float
    """The earliest moment at which it may have been current, in monotonic seconds."""
    ends: float = inf
    """From when on the next one is acknowledged; infinite for the newest state."""


@dataclass
class History:
    """The states of one environment, and the answers that are not judged yet."""

    id: str
    """The environment."""
    source: str
    """The address from which its clients ask."""
    states: list[State] = field(default_factory=list)
    """From the oldest to the newest."""
    known_until: float = 0.0
    """Up to this moment the states are complete; later a write may have been made whose outcome is not known yet."""
    waiting: list[Observation] = field(default_factory=list)
    """Answers that came after that moment."""
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    """How many answers were judged how."""
    latest: float = 0.0
    """The age in seconds of the oldest state that was answered."""

    def add(self, view: Mapping[str, Any], begins: float, acknowledged: float) -> None:
        """Notes that ``view`` is current; a write that was sent at ``begins`` made it."""
        if self.states and self.states[-1].view == view:
            return
        if self.states:
            self.states[-1].ends = acknowledged
        self.states.append(State(view, begins))
        while self.states[0].ends < acknowledged - KEPT:
            del self.states[0]

    def judge_waiting(self) -> list[tuple[Observation, Verdict, float]]:
        """Judges the answers that came before `known_until`. Gives those that are not right, with their age."""
        ready = [seen for seen in self.waiting if seen.received < self.known_until]
        self.waiting = [seen for seen in self.waiting if seen.received >= self.known_until]
        found: list[tuple[Observation, Verdict, float]] = []
        for seen in ready:
            verdict, age = self._judge(seen)
            self.verdicts[verdict] += 1
            self.latest = max(self.latest, age)
            if verdict is not Verdict.RIGHT:
                found.append((seen, verdict, age))
        return found

    def _judge(self, seen: Observation) -> tuple[Verdict, float]:
        for state in reversed(self.states):
            if state.begins <= seen.received and seen.outcome in outcomes(state.view, seen):
                age = seen.sent - state.ends
                return (Verdict.RIGHT, 0.0) if age <= FRESH else (Verdict.LATE, age)
        return Verdict.WRONG, 0.0


def outcomes(view: Mapping[str, Any], seen: Observation) -> list[Outcome]:
    """All right answers to the question of ``seen`` from ``view``: more than one only where a former name ends."""
    label, rtype = seen.label, seen.rtype
    records = [record for record in view["records"] if record["name"] == label]
    if records:
        return [noerror(*(value for record in records if record["type"] == rtype for value in record["values"]))]
    first, _, second = label.rpartition(".")  # an instance, or nothing, and a service
    services = {service["name"]: service for service in view["services"]}
    if second in services:
        return [_of_service(services[second], first, rtype)]
    for service in services.values():
        for former in service["former_names"]:
            if former["name"] == second:
                left = datetime.fromisoformat(former["until"]).timestamp() - seen.wall
                there, gone = _of_service(service, first, rtype), ("NXDOMAIN", frozenset[str]())
                return [there, gone] if abs(left) < CLOCKS else [there] if left > 0 else [gone]
    return [("NXDOMAIN", frozenset())]


def _of_service(service: Mapping[str, Any], first: str, rtype: str) -> Outcome:
    instances = service["instances"]
    if first:
        instances = [one for one in instances if one["id"] == first]
        if not instances:
            return "NXDOMAIN", frozenset()
    else:
        instances = [one for one in instances if one["state"] == "ready"]
    return noerror(*(one["address"] for one in instances if rtype == "AAAA"))


def noerror(*values: str) -> Outcome:
    return "NOERROR", frozenset(values)


def now() -> float:
    return time.monotonic()
