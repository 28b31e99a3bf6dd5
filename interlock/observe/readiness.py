"""What /readyz says: whether a process is ready for its work, part by part."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from admin.resources.operations import Probe
from interlock.process.supervise import Supervisor
from support.clock import SharedClock, in_words
from support.text import shorten
from watcher.feed.follower import Follower
from watcher.session.follower import SessionFollower
from watcher.watcher import Watcher

SHOWN = 3  # environments that a note names, each with its reason

Check = Callable[[], tuple[str, Probe]]
"""Gives the name under which /readyz lists it, and its outcome."""


class Readiness:
    """The checks of a process: each part of ``supervisor`` is up, and each of ``checks``.

    A check with the name of a part says more of it than that it runs, and counts while it does.
    """

    def __init__(self, supervisor: Supervisor, *checks: Check) -> None:
        self._supervisor = supervisor
        self._checks = checks

    def __call__(self) -> dict[str, Probe]:
        """The outcome of each check, by its name."""
        crashed = "it has crashed and is about to be started again"
        parts = {name: Probe(True) for name in self._supervisor.restarts}
        down = {name: Probe(False, crashed) for name in self._supervisor.down}
        return parts | dict(check() for check in self._checks) | down


class LoadsZones(Protocol):
    """A resolver with the watcher, or the follower of the agent's feed, that feeds it."""

    @property
    def is_loaded(self) -> bool: ...

    @property
    def stale_since(self) -> float | None: ...

    @property
    def watcher(self) -> Watcher | Follower: ...


def zones_loaded(resolver: LoadsZones) -> Check:
    """A resolver is ready once it has loaded, be it a snapshot, and stays so when its source goes away."""
    source = "the agent of this host" if isinstance(resolver.watcher, Follower) else "the store"
    reason = f"not loaded yet: does {source} answer?"

    def check() -> tuple[str, Probe]:
        since = resolver.stale_since
        age = "" if since is None else in_words(time.time() - since)
        note = f"from a snapshot that is {age} old: {source} has confirmed none of it since the start" if age else ""
        return "names", Probe(resolver.is_loaded, reason, note)

    return check


class AnswersTogether(Protocol):
    """Several processes that answer.

    ``missing`` is how many do not; ``are_awaited`` says that those of a program that has ended answer in their place.
    """

    @property
    def missing(self) -> int: ...

    @property
    def are_awaited(self) -> bool: ...


def all_answer(workers: AnswersTogether | None) -> tuple[Check, ...]:
    """A resolver stays ready while a worker is replaced, and notes it: the others answer. There may be no workers."""
    if workers is None:
        return ()

    def check() -> tuple[str, Probe]:
        missing = workers.missing
        note = f"{missing} of the processes that answer are being replaced" if missing else ""
        if workers.are_awaited:
            note = "those of the program before this one, which has ended, answer with the zones that they had then"
        return "workers", Probe(True, note=note)

    return (check,)


class LoadsDemo(Protocol):
    """Something that loads the demo; ``obstacle`` says why it is not loaded, and is empty once it is."""

    obstacle: str


def demo_loaded(demo: LoadsDemo) -> Check:
    """A process that was started with the demo is ready once the demo's names are answered."""
    return lambda: ("demo", Probe(not demo.obstacle, demo.obstacle))


def store_connected(watcher: Watcher | Follower) -> Check:
    """A process that writes is ready while its watcher has a connection to the store."""

    def check() -> tuple[str, Probe]:
        reason = watcher.reason if isinstance(watcher, Watcher) else ""
        return "store_connection", Probe(watcher.connected, reason or "the store does not answer")

    return check


def source_answers(watcher: Watcher | Follower) -> Check:
    """A process that only answers stays ready when its store, or the agent of its host, is away, and notes it."""
    name, source = ("agent", "the agent of this host") if isinstance(watcher, Follower) else ("store", "the store")

    def check() -> tuple[str, Probe]:
        away = f"{source} does not answer, and what was known last is served: {watcher.reason or 'not asked yet'}"
        return f"{name}_connection", Probe(True, note="" if watcher.connected else away)

    return check


def documents_used(watcher: Watcher | Follower | SessionFollower) -> Check:
    """A process stays ready when the newest document of an environment cannot be used, and notes which, and why."""

    def check() -> tuple[str, Probe]:
        quarantined = watcher.quarantined
        shown = "; ".join(f"{shorten(id_)}: {quarantined[id_]}" for id_ in sorted(quarantined)[:SHOWN])
        more = f"; and {len(quarantined) - SHOWN} more" if len(quarantined) > SHOWN else ""
        last = "environments whose newest document is not used, so that the last good one stays: "
        return "documents", Probe(True, note=f"{last}{shown}{more}" if quarantined else "")

    return check


def store_history(watcher: Watcher | Follower) -> tuple[Check, ...]:
    """A process stays ready when its store goes back behind what was served, and notes it. A follower has no store."""
    if isinstance(watcher, Follower):
        return ()
    return (lambda: ("store_history", Probe(True, note=watcher.rolled_back)),)


def withdrawals_passed(watcher: Watcher | Follower | SessionFollower) -> Check:
    """What the guard holds back, here or at the control plane, is a note: the process serves what it served before."""

    def check() -> tuple[str, Probe]:
        held = watcher.held if isinstance(watcher, SessionFollower) else watcher.guard.texts
        return "guard", Probe(True, note="; ".join(held))

    return check


def snapshot_kept(watcher: Watcher | Follower | SessionFollower) -> tuple[Check, ...]:
    """A process stays ready when its snapshot cannot be written or read, and notes why. There may be none to keep."""
    keeper = watcher.snapshots
    if keeper is None:
        return ()

    def check() -> tuple[str, Probe]:
        since = keeper.confirmed
        kept = "there is none" if since is None else f"the one on the disk is {in_words(time.time() - since)} old"
        note = f"the last attempt to write or read it has failed: {keeper.problem}; {kept}" if keeper.problem else ""
        return "snapshot", Probe(True, note=note)

    return (check,)


class KnowsTheStore(Protocol):
    """Something that knows what the store may lose; ``risks`` is empty where that is nothing."""

    @property
    def risks(self) -> tuple[str, ...]: ...


def store_is_durable(check: KnowsTheStore) -> Check:
    """What the store may lose is a note, for the process does its work."""
    return lambda: ("durability", Probe(True, note="; ".join(check.risks)))


class AsksTheStore(Protocol):
    """Something that knows why the store does not answer; ``reason`` is empty while it answers."""

    reason: str


def store_answers(probe: AsksTheStore) -> Check:
    """A process that writes, and has no watcher, is ready while the store answers its probe."""
    return lambda: ("store_connection", Probe(not probe.reason, probe.reason))


class KnowsObstacles(Protocol):
    """Something that knows why a store that answers would take no write; ``obstacle`` is empty where it would."""

    obstacle: str


def writes_taken(probe: KnowsObstacles) -> Check:
    """A process that writes is ready while the store, as far as it says, takes writes."""
    return lambda: ("store_writes", Probe(not probe.obstacle, probe.obstacle))


def clock_agrees(clock: SharedClock) -> Check:
    """A wrong clock is named, and nothing waits until it is right: the store's time is used."""
    return lambda: ("clock", Probe(ok=True, note=clock.warning))


class HasObstacles(Protocol):
    """An agent's operations.

    ``obstacles`` says what keeps workloads from being attached, and is empty otherwise; ``notes`` what else is wrong.
    """

    @property
    def obstacles(self) -> str: ...

    @property
    def notes(self) -> str: ...


def host_ready(operations: HasObstacles) -> Check:
    """An agent is ready while workloads can be attached to its host."""
    return lambda: ("host", Probe(not operations.obstacles, operations.obstacles, operations.notes))
