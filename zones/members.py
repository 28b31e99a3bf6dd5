"""A service in its zone: the names at and below the service's name, derived from the model."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable
from operator import attrgetter

from msgspec import Struct
from msgspec.structs import replace

from zones.addresses import Address
from zones.model import Instance, Service, State
from zones.names import Name
from zones.nodes import Node, Origin, make_node
from zones.placement import HostsAway, Placement, has_path, placement_of, with_path
from zones.records import RRType, Srv, Text

SRV_WEIGHT = 10  # equal for all instances, and above zero so that each is chosen at times (RFC 2782)


class Member(Struct, frozen=True, gc=False):
    """A service in the zone, with the indexes that answers need."""

    name: str
    """Its current name."""
    service: Service
    """The service itself."""
    ready: tuple[Address, ...]
    """The addresses of its ready instances that have a path, ascending."""
    by_address: tuple[str, ...]
    """The ids of all its instances, in ascending order of their addresses."""
    away: HostsAway
    """The hosts to which there is no path."""
    is_former: bool = False
    """Whether the zone holds it here under one of its former names."""


def make_member(name: str, service: Service, away: HostsAway) -> Member:
    """``service`` under its current ``name``, without the instances to which there is no path."""
    instances = service.instances
    ready_state = State.READY  # to look up a member of an enum takes longer than all else that is done for an instance
    ordered = tuple(sorted(instances, key=lambda id_: instances[id_].address))
    ready = _answered([each for each in instances.values() if each.state is ready_state], away)
    return Member(name, service, tuple(sorted(ready)), ordered, away)


def next_member(before: Member, service: Service, changed: Collection[str]) -> Member:
    """The same as `make_member`, if ``service`` differs from that of ``before`` in the instances ``changed`` alone."""
    if before.away.unreachable:
        return make_member(before.name, service, before.away)  # who is answered depends on all of them
    ids, ready = list(before.by_address), list(before.ready)
    old, new = before.service.instances, service.instances
    for id_ in changed:
        if (instance := old.get(id_)) is not None:
            del ids[bisect_left(ids, instance.address, key=lambda each: old[each].address)]
            if _is_answered(instance, before.away):
                del ready[bisect_left(ready, instance.address)]
    for id_ in changed:
        if (instance := new.get(id_)) is not None:
            ids.insert(bisect_left(ids, instance.address, key=lambda each: new[each].address), id_)
            if _is_answered(instance, before.away):
                insort(ready, instance.address)
    return replace(before, service=service, ready=tuple(ready), by_address=tuple(ids))


def find_below(qname: Name, labels: tuple[bytes, ...], member: Member, apex: Name) -> Node | None:
    """The node at ``qname``, the service's name with ``labels`` before it. None if the name does not exist."""
    service = member.service
    match labels:
        case ():
            origin = Origin.FORMER_NAME if member.is_former else Origin.SERVICE
            return _addresses(origin, qname, member, member.ready, any_part=True)
        case (b"all",):
            addresses = _answered((service.instances[id_] for id_ in member.by_address), member.away)
            return _addresses(Origin.ALL, qname, member, addresses)
        case (b"region",) if any(instance.region for instance in service.instances.values()):
            return Node(Origin.EMPTY_NON_TERMINAL, service=member.name)
        case (region, b"region"):
            return _find_region(qname, region.decode("latin-1"), member)
        case (b"_instances",):
            return make_node(Origin.INSTANCES, qname, RRType.TXT, _list_instances(member), member.name)
        case (b"_tcp" | b"_udp" as protocol,) if any(port.protocol == protocol[1:].decode() for port in service.ports):
            return Node(Origin.EMPTY_NON_TERMINAL, service=member.name)
        case (port, b"_tcp" | b"_udp" as protocol):
            return _find_port(qname, port.decode("latin-1"), protocol[1:].decode(), member, apex)
        case (instance,) if found := service.instances.get(instance.decode("latin-1")):
            return _addresses(Origin.INSTANCE, qname, member, _answered((found,), member.away))
        case (b"one",):  # after the instances: one may have had this id before the name meant anything
            return make_node(Origin.ONE, qname, RRType.AAAA, member.ready, member.name, one_each=True)
    return None


def _find_region(qname: Name, region: str, member: Member) -> Node | None:
    instances = member.service.instances
    in_region = [instances[id_] for id_ in member.by_address if instances[id_].region == region]
    ready = _answered((instance for instance in in_region if instance.state is State.READY), member.away)
    return _addresses(Origin.REGION, qname, member, ready, any_part=True) if in_region else None


def _find_port(qname: Name, label: str, protocol: str, member: Member, apex: Name) -> Node | None:
    for port in member.service.ports:
        if label == f"_{port.name}" and protocol == port.protocol:
            targets = _srv_targets(member, port.number, apex)
            return make_node(Origin.PORT, qname, RRType.SRV, targets, member.name, any_part=True)
    return None


def _srv_targets(member: Member, port: int, apex: Name) -> tuple[Srv, ...]:
    instances, answered = member.service.instances, frozenset(member.ready)
    ready = (id_ for id_ in member.by_address if instances[id_].address in answered)
    return tuple(Srv(0, SRV_WEIGHT, port, apex.child(id_, member.name)) for id_ in ready)


def list_services(members: Iterable[Member]) -> tuple[Text, ...]:
    """The directory of services, each under its current name."""
    return tuple(
        Text.of(
            f"name={member.name},ready={len(member.ready)},instances={len(member.by_address)}"
            + "".join(f",port={port.name}:{port.number}/{port.protocol}" for port in member.service.ports)
        )
        for member in sorted(members, key=attrgetter("name"))
        if not member.is_former
    )


def _list_instances(member: Member) -> tuple[Text, ...]:
    instances = member.service.instances
    return tuple(Text.of(_describe(id_, instances[id_], member.away)) for id_ in member.by_address)


def _describe(id_: str, instance: Instance, away: HostsAway) -> str:
    text = f"id={id_},address={instance.address},state={instance.state.value}"
    text += f",region={instance.region}" if instance.region else ""
    text += f",host={instance.host}" if instance.host else ""
    return text + ("" if has_path(instance, away) else f",path={_WITHOUT_PATH[placement_of(instance, away)]}")


_WITHOUT_PATH = {Placement.NOT_ATTACHED: "not-attached", Placement.HOST_DOWN: "host-down"}


def first_at_or_after(member: Member, low: Address) -> tuple[str, Instance] | None:
    """The id and the instance with the lowest address from ``low`` on. None if there is none."""
    instances = member.service.instances
    at = bisect_left(member.by_address, low, key=lambda id_: instances[id_].address)
    return (member.by_address[at], instances[member.by_address[at]]) if at < len(member.by_address) else None


def _is_answered(instance: Instance, away: HostsAway) -> bool:
    """Whether ``instance`` is among those that are ready, where no host is unreachable."""
    return instance.state is State.READY and has_path(instance, away)


def _answered(instances: Iterable[Instance], away: HostsAway) -> tuple[Address, ...]:
    return tuple([instance.address for instance in with_path(instances, away)])


def _addresses(
    origin: Origin, qname: Name, member: Member, addresses: tuple[Address, ...], *, any_part: bool = False
) -> Node:
    return make_node(origin, qname, RRType.AAAA, addresses, member.name, any_part=any_part)
