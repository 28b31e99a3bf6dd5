"""Random revisions of an environment: what a session and a feed carry from one to the next."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tests.worlds import NOW
from zones import edits
from zones.edits import (
    DeleteInstance,
    DeleteRecord,
    DeleteService,
    Edit,
    PutInstance,
    PutRecord,
    PutService,
    SetEnabled,
)
from zones.errors import ZonesError
from zones.model import Environment, RecordSet, State

SERVICES, INSTANCES, HOSTS = ("api", "web", "db"), ("a1", "a2", "a3", "a4"), (None, "h1", "h2", "h3")


def revisions(first: Environment, seed: int, count: int) -> Iterator[Environment]:
    """``count`` revisions that follow ``first``, each by a few edits; the same ones for each ``seed``."""
    random, newest = Random(seed), first
    while count:
        wanted = [_edit(random, newest) for _ in range(random.choice((1, 1, 1, 4)))]
        try:
            newest = edits.apply(newest, wanted, NOW)
        except ZonesError:
            continue  # an edit of what an earlier one has removed
        count -= 1
        yield newest


def _edit(random: Random, newest: Environment) -> Edit:
    service, instance = random.choice(SERVICES), random.choice(INSTANCES)
    kind = random.randrange(10)
    if service not in newest.services or kind == 0:
        return PutService(service)
    if kind == 1:
        return DeleteService(service)
    if kind == 2:
        return SetEnabled(enabled=random.random() < 0.8)
    if kind == 3:
        return PutRecord(f"r{random.randrange(3)}", "TXT", RecordSet(60, (f"v{random.randrange(9)}",)))
    if kind == 4 and newest.records:
        return DeleteRecord(random.choice(sorted(newest.records)), "TXT")
    if kind in (5, 6) and instance in newest.services[service].instances:
        return DeleteInstance(service, instance)
    host, state = random.choice(HOSTS), random.choice(list(State))
    return PutInstance(service, instance, state, host, attached=host is not None and random.random() < 0.7)
