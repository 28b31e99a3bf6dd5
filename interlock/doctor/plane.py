"""What the control plane knows: its store, the hosts by their leases, and an environment, as of now.

Each read has its deadline: a store that hangs is what is to be named, and must not hold up who names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from admin.resources.operations import Probe
from interlock.doctor.marks import Mark, broken, ok, unknown, warning
from interlock.doctor.names import HostsKnown, judge_enrolling
from store.errors import StoreError
from store.store import Store
from store.writable import find_obstacle
from support.patience import patience
from zones.hosts import Host, hosts_of
from zones.model import Environment
from zones.names import EnvironmentId
from zones.placement import NONE_AWAY, HostsAway

DEADLINE = 0.8  # seconds for each read; a healthy store answers in a millisecond

START_STORE = "look at the store's own log, and start it: systemctl restart valkey (or redis)"
_SAID_ELSEWHERE = frozenset({"store_connection", "store_writes", "clock", "admin", "operations"})

T = TypeVar("T")


@dataclass(slots=True)
class PlaneFacts:
    """What one control plane knows at one moment."""

    store: str = ""
    """Why the store does not answer; empty if it does."""
    writes: str = ""
    """Why it takes no writes; empty if it does."""
    clock: str = ""
    """What is wrong with the clock of this machine; empty if nothing is."""
    parts: Mapping[str, Probe] = field(default_factory=dict)
    """What the readiness of the process says, part by part."""
    hosts: Mapping[str, Host] | None = None
    """All registered hosts; None where they could not be read."""
    live: frozenset[str] | None = None
    """Those whose lease is renewed; None where that could not be read."""
    away: HostsAway = NONE_AWAY
    """The hosts that are down, so that nothing on them is answered."""
    used: frozenset[str] | None = None
    """The hosts that have a member of an environment; None where that could not be read."""
    enrolling: dict[str, bool] = field(default_factory=dict)
    """Hosts that were let in, of those that have members and are not registered: whether a token is still valid."""
    environment: Environment | None = None
    """The environment that was asked about; None where none was, or it does not exist."""
    is_missing: bool = False
    """Whether the environment that was asked about does not exist."""
    near: tuple[str, ...] = ()
    """The environments whose ids are like that one's."""
    acknowledged: Mapping[str, int] = field(default_factory=dict)
    """The revision of it that each host has acknowledged."""

    @property
    def known(self) -> HostsKnown:
        """What the names are judged by."""
        lagging: dict[str, tuple[str, ...]] = {}
        if self.environment and self.live is not None:
            hosts = hosts_of(self.environment) & self.live
            late = sorted(one for one in hosts if self.acknowledged.get(one, 0) < self.environment.revision)
            lagging = {self.environment.id: tuple(late)} if late else {}
        registered = None if self.hosts is None else frozenset(self.hosts)
        return HostsKnown(registered, self.live, lagging, self.enrolling)


async def examine_plane(
    store: Store, readiness: Callable[[], Mapping[str, Probe]], environment: EnvironmentId | None
) -> PlaneFacts:
    """The facts, within the deadline of a read or two."""
    facts = PlaneFacts(parts=readiness(), clock=store.clock.warning)
    try:
        await _within(store.connection.verify(now=True))
    except (StoreError, TimeoutError) as error:
        facts.store = str(error) or f"the store at {store.url} has not answered within {DEADLINE:g} s: it hangs"
        return facts
    reads = [_read_writes(store, facts), _read_hosts(store, facts)]
    if environment is not None:
        reads.append(_read_environment(store, environment, facts))
    await asyncio.gather(*reads)
    await _read_enrolling(store, facts)
    return facts


def judge_plane(facts: PlaneFacts) -> Iterator[Mark]:
    """The marks of the control plane and of the hosts that it knows."""
    if facts.store:
        yield broken(
            "store", f"{facts.store}; names are answered as they were, and nothing can be changed", START_STORE
        )
    elif facts.writes:
        yield broken("store", facts.writes, _last_part(facts.writes))
    else:
        yield ok("store", "the store answers, and takes writes")
    yield (
        warning("clock", facts.clock, "timedatectl set-ntp true")
        if facts.clock
        else ok("clock", "this machine's clock agrees with the store's")
    )
    yield from _judge_parts(facts)
    yield from _judge_hosts(facts)


def _judge_parts(facts: PlaneFacts) -> Iterator[Mark]:
    for name, probe in facts.parts.items():
        if name in _SAID_ELSEWHERE:
            continue
        check = {"guard": "documents", "documents": "documents", "store_history": "documents"}.get(
            name, "control plane"
        )
        if not probe.ok and not facts.store:
            yield broken(check, f"{name}: {probe.reason or 'not ready'}", "journalctl -u interlock-admin -n 50")
        elif probe.note:
            fix = "interlock guard show" if name == "guard" else _last_part(probe.note)
            yield warning(check, f"{name}: {probe.note}", fix)


def _judge_hosts(facts: PlaneFacts) -> Iterator[Mark]:
    if facts.hosts is None or facts.live is None:
        yield unknown("host", "which hosts live is not known, since the store does not say")
        return
    for id_, host in sorted(facts.hosts.items()):
        if host.draining:
            yield warning("host", f"host {id_} is being drained: it takes nothing new", f"interlock host undrain {id_}")
        if id_ in facts.live:
            continue
        has_members = facts.used is None or id_ in facts.used
        what = "and what runs on it is not reached" if has_members else "and nothing runs on it"
        make = broken if has_members else warning
        yield make(
            "host",
            f"host {id_} at {host.endpoint} is not live: its lease has ended, {what}",
            f"start the machine, or its agent: systemctl restart interlock-agent; if it never comes back: interlock"
            f" host forget {id_}",
        )
    for id_ in sorted((facts.used or frozenset()) - facts.hosts.keys()):
        if id_ in facts.enrolling:
            yield judge_enrolling("", id_, has_token=facts.enrolling[id_])
            continue
        yield broken(
            "host",
            f"host {id_} has members of environments, and is not registered",
            f"interlock host enrol {id_}, and start its agent; or delete its instances",
        )
    if facts.hosts:
        yield ok("host", f"{len(facts.live)} of {len(facts.hosts)} hosts are live")


async def _read_writes(store: Store, facts: PlaneFacts) -> None:
    with suppress(StoreError, TimeoutError):
        facts.writes = await _within(find_obstacle(store.connection))


async def _read_hosts(store: Store, facts: PlaneFacts) -> None:
    with suppress(StoreError, TimeoutError):
        hosts = await _within(store.hosts.read())
        facts.hosts, facts.away = hosts.hosts, HostsAway(down=hosts.down)
        facts.live = await _within(store.leases.live(facts.hosts))
        if facts.live != facts.hosts.keys():  # all environments are read for what concerns dead hosts alone
            index = await _within(store.environments.index())
            facts.used = frozenset().union(*(one.hosts or () for one in index.values()))


async def _read_enrolling(store: Store, facts: PlaneFacts) -> None:
    used = (facts.used or frozenset()) | (hosts_of(facts.environment) if facts.environment else frozenset())
    if facts.hosts is None or not (missing := used - facts.hosts.keys()):
        return
    with suppress(StoreError, TimeoutError):
        enrolments = await _within(store.credentials.enrolments())
        enrolled = await _within(store.credentials.find(missing))
        now = await _within(store.clock.milliseconds())
        valid = {host for host, one in enrolments.items() if one.until > now}
        facts.enrolling = {host: host in valid for host in missing if host in valid or host in enrolled}


async def _read_environment(store: Store, id_: EnvironmentId, facts: PlaneFacts) -> None:
    with suppress(StoreError, TimeoutError):
        _revision, facts.environment = await _within(store.environments.read(id_))
        facts.is_missing = facts.environment is None
        facts.acknowledged = await _within(store.acks.read(id_))


async def _within(reading: Awaitable[T]) -> T:
    async with asyncio.timeout(DEADLINE * patience()):
        return await reading


def _last_part(text: str) -> str:
    """What ``text`` says is to be done: our sentences end with it, after a colon or a semicolon."""
    return text.replace("; ", ": ").rpartition(": ")[2]
