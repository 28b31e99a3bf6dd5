"""Where an instance is, and whether there is a path to it: the first law, "no name before its path", for one instance.

    no host                            unmanaged       answered: that it runs and is reached is its caller's word
    on a host that has attached it     attached        answered
    on a host that has not             not attached    not answered, under no name
    on a host that is down             host down       not answered, under no name
    on a host that cannot be reached   unreachable     not answered here, unless its service has nothing else

The state of an instance (`zones.model.State`) says what its owner wants; this says what is so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from zones.model import Environment, Instance, State


class Placement(Enum):
    """Where an instance is, as it is shown to people."""

    UNMANAGED = "unmanaged"
    """It names no host, so nobody knows more of it than what its caller said."""
    ATTACHED = "attached"
    """Its host lives and has attached it."""
    NOT_ATTACHED = "not attached"
    """Its host has not attached it, or has found that nothing runs there under its name."""
    HOST_DOWN = "host down"
    """Its host is down: nothing was heard of it for longer than its lease and the grace."""
    UNREACHABLE = "unreachable"
    """Its host lives, and cannot be reached from the host where this is asked."""


@dataclass(frozen=True, slots=True)
class HostsAway:
    """The hosts to which there is no path."""

    down: frozenset[str] = frozenset()
    """Those that are down, which the store says: everybody says the same."""
    unreachable: frozenset[str] = frozenset()
    """Those that cannot be reached from this host, which its agent has found."""

    def __bool__(self) -> bool:
        return bool(self.down or self.unreachable)

    def difference(self, other: HostsAway) -> frozenset[str]:
        """The hosts that are away in one of the two, and not in the same way in the other."""
        return (self.down ^ other.down) | (self.unreachable ^ other.unreachable)


NONE_AWAY = HostsAway()


def placement_of(instance: Instance, away: HostsAway) -> Placement:
    """Where ``instance`` is while the hosts in ``away`` are."""
    if instance.host is None:
        return Placement.UNMANAGED
    if instance.host in away.down:
        return Placement.HOST_DOWN
    if not instance.attached:
        return Placement.NOT_ATTACHED
    return Placement.UNREACHABLE if instance.host in away.unreachable else Placement.ATTACHED


def has_path(instance: Instance, away: HostsAway) -> bool:
    """Whether ``instance`` may be answered under any name."""
    return instance.host is None or (instance.attached and instance.host not in away.down)


def with_path(instances: Iterable[Instance], away: HostsAway) -> Sequence[Instance]:
    """Those of ``instances`` that are answered together: all with a path, and of these the reachable ones, if any.

    Where all are unreachable, all are answered. That a host is down is the word of the store; that it is unreachable
    is what one host has seen, and where it sees nobody, the fault is as likely its own.
    """
    down = away.down  # below stands `has_path`, without the call for each instance of every zone that is compiled
    found = [each for each in instances if each.host is None or (each.attached and each.host not in down)]
    if not away.unreachable:
        return found
    return [instance for instance in found if instance.host not in away.unreachable] or found


def why_not_answered(instance: Instance, away: HostsAway) -> str:
    """Why ``instance`` is not answered, as the end of a sentence that begins with its name; empty if it has a path."""
    match placement_of(instance, away):
        case Placement.NOT_ATTACHED:
            return f"is not attached on its host {instance.host}: 'interlock attach' there makes it answered"
        case Placement.HOST_DOWN:
            return f"is on the host {instance.host}, which is down: nothing was heard of its agent for too long"
        case Placement.UNREACHABLE:
            return f"is on the host {instance.host}, which this host cannot reach: see 'interlock mesh'"
        case Placement.ATTACHED | Placement.UNMANAGED:
            return ""


def instances_on(environment: Environment, host: str) -> list[str]:
    """The instances of ``environment`` on ``host``, as ``<instance>.<service>``, service by service."""
    return [
        f"{id_}.{name}"
        for name, service in sorted(environment.services.items())
        for id_, instance in sorted(service.instances.items())
        if instance.host == host
    ]


def is_ready_on(host: str, environment: Environment, service: str, id_: str) -> bool:
    """Whether ``environment`` has the instance ``id_`` of ``service`` as attached on ``host``, and not as starting.

    As long as it has one, that host lets all others of the environment through to what is attached there.
    """
    found = environment.services.get(service)
    instance = found.instances.get(id_) if found else None
    if instance is None or instance.host != host:
        return False
    return instance.attached and instance.state is not State.STARTING


def is_on_any(environment: Environment, hosts: frozenset[str]) -> bool:
    """Whether an instance of ``environment`` is on one of ``hosts``."""
    return any(
        instance.host in hosts for service in environment.services.values() for instance in service.instances.values()
    )
