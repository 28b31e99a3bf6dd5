"""The compiled zone of an environment: what exists under each name, and why.

Most names of a zone are not stored but derived: `<instance>.<service>` is one look-up among the services and one
among the service's instances. So a zone costs little more than its model, and compiling one is quick enough to do
for every commit. Only the names of custom records are laid out in a table, with the empty non-terminals above them.

    Zone.find(qname)  ->  Node        the name exists; its RRsets by type, perhaps none (NODATA)
                      |   None        it does not (NXDOMAIN), not even by a wildcard
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from zones.addresses import Address, Platform, contains, resolver_address, subnet_number
from zones.model import Environment, Instance, Service, State
from zones.names import EnvironmentId, Name
from zones.records import Rdata, RRset, RRType, Soa, Srv, Text

TTL = 5  # seconds; the source of truth is local, so a longer one would only be wrong for longer
NEGATIVE_TTL = 1  # seconds; a name that appears now is seen a second from now, even by a client that just missed it
SRV_WEIGHT = 10  # equal for all instances, and above zero so that none is starved (RFC 2782)
NIBBLES = 32  # of an IPv6 address, each a label below ip6.arpa (RFC 3596 §2.5)

_SOA_TIMES = (3600, 600, 86_400, NEGATIVE_TTL)  # refresh, retry, expire are for secondaries, which there are none of


class Origin(Enum):
    """What in the model a name comes from; told to a person who asks why a name resolves as it does."""

    APEX = "the zone itself"
    NAMESERVER = "the resolver's own name"
    DIRECTORY = "the directory of services"
    SERVICE = "a service"
    FORMER_NAME = "a former name of a service"
    INSTANCE = "an instance of a service"
    ALL = "all instances of a service, ready or not"
    REGION = "the ready instances of a service in one region"
    PORT = "a port of a service"
    INSTANCES = "the directory of a service's instances"
    RECORD = "a custom record"
    WILDCARD = "a wildcard record"
    REVERSE = "the address of an instance"
    BETWEEN = "names that exist below it (an empty non-terminal)"


@dataclass(frozen=True, slots=True)
class Node:
    """A name that exists. ``service`` is the current name of the service it belongs to, if it belongs to one."""

    origin: Origin
    rrsets: Mapping[int, RRset] = field(default_factory=dict)
    service: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A service as the zone holds it: under its current name, with the indexes that answers need."""

    name: str
    service: Service
    ready: tuple[Address, ...]
    by_address: tuple[str, ...]  # instance ids in ascending order of their addresses
    is_former: bool = False


class Zone:
    """All that clients of one environment can ask for. Immutable once compiled.

    ``valid_until`` is the Unix time in milliseconds at which a former name ends and the zone must be compiled anew,
    or None.
    """

    __slots__ = (
        "_by_subnet", "_members", "_records", "_soa", "apex", "environment", "platform", "reverse_apex", "valid_until",
    )  # fmt: skip

    def __init__(
        self,
        platform: Platform,
        environment: Environment,
        members: Mapping[bytes, Member],
        records: Mapping[Name, Node],
        valid_until: int | None,
    ) -> None:
        self.platform = platform
        self.environment = environment
        self.apex = platform.apex
        self.reverse_apex = reverse_name(platform.prefix.network_address.packed, 4)
        self.valid_until = valid_until
        self._members = members
        self._records = records
        serial = environment.revision & 0xFFFF_FFFF  # RFC 1982: 32 bits that wrap
        self._soa = Soa(self.apex.child("ns"), self.apex.child("hostmaster"), serial, *_SOA_TIMES)
        self._by_subnet = {
            subnet_number(member.service.subnet): member for member in members.values() if not member.is_former
        }

    @property
    def id(self) -> EnvironmentId:
        return self.environment.id

    @property
    def revision(self) -> int:
        return self.environment.revision

    @property
    def members(self) -> Iterable[Member]:
        """The services, each under its current and its former names."""
        return self._members.values()

    def apex_of(self, qname: Name) -> Name | None:
        """The zone of ours that ``qname`` lies in, forward or reverse; None where it is not ours to answer."""
        if qname.below(self.apex) is not None:
            return self.apex
        if qname.below(self.reverse_apex) is not None:
            return self.reverse_apex
        return None

    def soa(self, apex: Name, ttl: int = NEGATIVE_TTL) -> RRset:
        """The SOA RRset of ``apex``; its TTL in a negative answer is the negative TTL (RFC 2308 §3)."""
        return RRset(apex, RRType.SOA, ttl, (self._soa,))

    def find(self, qname: Name) -> Node | None:
        """What exists at ``qname``, wildcards included (RFC 4592); None if nothing does."""
        labels = qname.below(self.apex)
        if labels is None:
            return self._find_reverse(qname)
        if node := self._find_exact(qname, labels):
            return node
        return self._find_wildcard(qname)

    def _find_exact(self, qname: Name, labels: tuple[bytes, ...]) -> Node | None:
        if not labels:
            return self._apex(self.apex)
        if member := self._members.get(labels[-1]):
            return _find_below_service(qname, labels[:-1], member, self.apex)
        match labels:
            case (b"ns",):
                return _node(Origin.NAMESERVER, qname, RRType.AAAA, (self.platform.resolver,))
            case (b"_services",):
                return _node(Origin.DIRECTORY, qname, RRType.TXT, _list_services(self._members.values()))
        return self._records.get(qname)

    def _find_wildcard(self, qname: Name) -> Node | None:
        # The closest encloser is the longest existing ancestor; only the wildcard right below it applies
        # (RFC 4592 §3.3.1), so the walk up ends at the first name that exists.
        encloser = qname.parent
        while encloser != self.apex and not self._find_exact(encloser, encloser.below(self.apex) or ()):
            encloser = encloser.parent
        source = self._records.get(Name(b"\x01*" + encloser))
        if source is None:
            return None
        return Node(Origin.WILDCARD, {rtype: replace(rrset, name=qname) for rtype, rrset in source.rrsets.items()})

    def _apex(self, apex: Name) -> Node:
        nameservers = RRset(apex, RRType.NS, TTL, (self.apex.child("ns"),))
        return Node(Origin.APEX, {RRType.SOA: self.soa(apex, TTL), RRType.NS: nameservers})

    def _find_reverse(self, qname: Name) -> Node | None:
        labels = qname.below(self.reverse_apex)
        if labels == ():
            return self._apex(self.reverse_apex)
        nibbles = b"".join(qname.labels[-3::-1])
        if labels is None or not re.fullmatch(rb"[0-9a-f]{4,32}", nibbles) or len(nibbles) + 2 != len(qname.labels):
            return None
        low = Address(bytes.fromhex(nibbles.decode().ljust(NIBBLES, "0")))
        high = Address(bytes.fromhex(nibbles.decode().ljust(NIBBLES, "f")))
        for resolver in (self.platform.resolver, resolver_address(self.environment.network)):
            if low == resolver == high:
                return _node(Origin.NAMESERVER, qname, RRType.PTR, (self.apex.child("ns"),))
            if low <= resolver <= high:
                return Node(Origin.BETWEEN)
        for member in self._members_between(low, high):
            if (found := _first_at_or_after(member, low)) and found[1].address <= high:
                if low < high:
                    return Node(Origin.BETWEEN)
                target = self.apex.child(found[0], member.name)
                return _node(Origin.REVERSE, qname, RRType.PTR, (target,), member.name)
        return None

    def _members_between(self, low: Address, high: Address) -> Iterable[Member]:
        network = self.environment.network
        if contains(network, low) and low[:8] == high[:8]:
            member = self._by_subnet.get(int.from_bytes(low[6:8], "big"))
            return (member,) if member else ()
        return self._by_subnet.values()


def compile_zone(platform: Platform, environment: Environment, now: int) -> Zone:
    """The zone of ``environment`` as it is at ``now`` (Unix milliseconds): former names that have ended are gone."""
    members: dict[bytes, Member] = {}
    ends = []
    for name, service in environment.services.items():
        member = _member(name, service)
        members[name.encode()] = member
        for former, until in service.former_names.items():
            if until > now:
                members[former.encode()] = Member(name, service, member.ready, member.by_address, is_former=True)
                ends.append(until)
    return Zone(platform, environment, members, _lay_out_records(platform, environment), min(ends, default=None))


def reverse_name(octets: bytes, nibbles: int) -> Name:
    """The name below ip6.arpa of the first ``nibbles`` of an address (RFC 3596 §2.5)."""
    digits = octets.hex()[:nibbles]
    return Name.parse(".".join(reversed(digits)) + ".ip6.arpa")


def _member(name: str, service: Service) -> Member:
    ordered = sorted(service.instances, key=lambda id_: service.instances[id_].address)
    ready = tuple(service.instances[i].address for i in ordered if service.instances[i].state is State.READY)
    return Member(name, service, ready, tuple(ordered))


def _lay_out_records(platform: Platform, environment: Environment) -> dict[Name, Node]:
    nodes: dict[Name, Node] = {}
    for relative in environment.records:
        name = Name.of((*Name.parse(relative).labels, *platform.apex.labels))
        data = environment.record_data(relative)
        nodes[name] = Node(Origin.RECORD, {rtype: RRset(name, rtype, ttl, rdatas) for rtype, ttl, rdatas in data})
    for name in list(nodes):
        while (name := name.parent) != platform.apex:
            nodes.setdefault(name, Node(Origin.BETWEEN))
    return nodes


def _find_below_service(qname: Name, labels: tuple[bytes, ...], member: Member, apex: Name) -> Node | None:
    service = member.service
    match labels:
        case ():
            origin = Origin.FORMER_NAME if member.is_former else Origin.SERVICE
            return _addresses(origin, qname, member, member.ready, any_part=True)
        case (b"all",):
            everyone = tuple(service.instances[id_].address for id_ in member.by_address)
            return _addresses(Origin.ALL, qname, member, everyone)
        case (b"region",) if any(instance.region for instance in service.instances.values()):
            return Node(Origin.BETWEEN, service=member.name)
        case (region, b"region"):
            return _find_region(qname, region.decode("latin-1"), member)
        case (b"_instances",):
            return _node(Origin.INSTANCES, qname, RRType.TXT, _list_instances(member), member.name)
        case (b"_tcp" | b"_udp" as protocol,) if any(port.protocol == protocol[1:].decode() for port in service.ports):
            return Node(Origin.BETWEEN, service=member.name)
        case (port, b"_tcp" | b"_udp" as protocol):
            return _find_port(qname, port.decode("latin-1"), protocol[1:].decode(), member, apex)
        case (instance,) if found := service.instances.get(instance.decode("latin-1")):
            return _addresses(Origin.INSTANCE, qname, member, (found.address,))
    return None


def _find_region(qname: Name, region: str, member: Member) -> Node | None:
    instances = member.service.instances
    there = [instances[id_] for id_ in member.by_address if instances[id_].region == region]
    ready = tuple(instance.address for instance in there if instance.state is State.READY)
    return _addresses(Origin.REGION, qname, member, ready, any_part=True) if there else None


def _find_port(qname: Name, label: str, protocol: str, member: Member, apex: Name) -> Node | None:
    for port in member.service.ports:
        if label == f"_{port.name}" and protocol == port.protocol:
            targets = _srv_targets(member, port.number, apex)
            return _node(Origin.PORT, qname, RRType.SRV, targets, member.name)
    return None


def _srv_targets(member: Member, port: int, apex: Name) -> tuple[Srv, ...]:
    instances = member.service.instances
    ready = (id_ for id_ in member.by_address if instances[id_].state is State.READY)
    return tuple(Srv(0, SRV_WEIGHT, port, apex.child(id_, member.name)) for id_ in ready)


def _list_services(members: Iterable[Member]) -> tuple[Text, ...]:
    return tuple(
        Text.of(
            f"name={member.name},ready={len(member.ready)},instances={len(member.by_address)}"
            + "".join(f",port={port.name}:{port.number}/{port.protocol}" for port in member.service.ports)
        )
        for member in members
        if not member.is_former
    )


def _list_instances(member: Member) -> tuple[Text, ...]:
    instances = member.service.instances
    return tuple(Text.of(_describe(id_, instances[id_])) for id_ in member.by_address)


def _describe(id_: str, instance: Instance) -> str:
    text = f"id={id_},address={instance.address},state={instance.state.value}"
    text += f",region={instance.region}" if instance.region else ""
    return text + (f",host={instance.host}" if instance.host else "")


def _first_at_or_after(member: Member, low: Address) -> tuple[str, Instance] | None:
    instances = member.service.instances
    at = bisect_left(member.by_address, low, key=lambda id_: instances[id_].address)
    return (member.by_address[at], instances[member.by_address[at]]) if at < len(member.by_address) else None


def _addresses(
    origin: Origin, qname: Name, member: Member, addresses: tuple[Address, ...], *, any_part: bool = False
) -> Node:
    return _node(origin, qname, RRType.AAAA, addresses, member.name, any_part=any_part)


def _node(
    origin: Origin,
    qname: Name,
    rtype: RRType,
    rdatas: tuple[Rdata, ...],
    service: str | None = None,
    *,
    any_part: bool = False,
) -> Node:
    # A service without ready instances still exists: a node without RRsets is NODATA.
    return Node(origin, {rtype: RRset(qname, rtype, TTL, rdatas, any_part)} if rdatas else {}, service)
