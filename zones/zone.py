"""The compiled zone of an environment: which names exist, and what each of them has.

Most names of a zone are not stored but derived: `<instance>.<service>` takes one look-up among the services and one
among the service's instances. So a zone takes little more memory than its model, and it can be compiled for every
commit. Only the names of custom records stand in a table, with the empty non-terminals above them.

    Zone.find(qname)  ->  Node        the name exists; its RRsets by type, perhaps none (NODATA)
                      |   None        the name does not exist, and no wildcard covers it (NXDOMAIN)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from zones.addresses import Address, Platform, contains, resolver_address, subnet_number
from zones.members import Member, find_below, first_at_or_after, list_services, make_member, next_member
from zones.model import Environment, Service
from zones.names import EnvironmentId, Name
from zones.nodes import TTL, Node, Origin, make_node
from zones.parts import Touched
from zones.placement import NONE_AWAY, HostsAway
from zones.records import RRset, RRType, Soa

NEGATIVE_TTL = 1  # seconds; a client that asked just before a name appeared finds it a second later
PLATFORM_NIBBLES = 4  # of the platform's prefix, a /16
NIBBLES = 32  # of an IPv6 address, each a label below ip6.arpa (RFC 3596 §2.5)

_SOA_TIMES = (3600, 600, 86_400, NEGATIVE_TTL)  # refresh, retry and expire are for secondaries, and there are none


class Place(Struct, frozen=True, gc=False):
    """Where a name is in a zone."""

    apex: Name
    """The apex of the zone."""
    labels: tuple[bytes, ...]
    """The labels of the name before those of the apex, leftmost first; none for the apex itself."""


class Zone:
    """All names that clients of one environment can resolve. It does not change once it is compiled.

    ``valid_until`` is the time at which the next former name ends and the zone must be compiled again, in Unix
    milliseconds; None if it has no former names. ``away`` are the hosts whose instances were left out.
    """

    __slots__ = (
        "_members", "_records", "_soas", "_subnets", "apex", "away", "environment", "platform", "reverse_apex",
        "valid_until",
    )  # fmt: skip

    def __init__(
        self,
        platform: Platform,
        environment: Environment,
        members: Mapping[bytes, Member],
        records: Mapping[Name, Node],
        valid_until: int | None,
        away: HostsAway,
        subnets: Mapping[int, Member] | None = None,
    ) -> None:
        self.platform = platform
        self.environment = environment
        self.apex = platform.apex
        self.reverse_apex = reverse_apex(platform)
        self.valid_until = valid_until
        self.away = away
        self._members = members
        self._records = records
        # Of most zones nobody ever asks for these: they are made when somebody does.
        self._soas: dict[Name, RRset] = {}
        self._subnets = subnets

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
        """The apex of the forward or the reverse zone that holds ``qname``; None if neither does."""
        place = self.place_of(qname)
        return place.apex if place else None

    def place_of(self, qname: Name) -> Place | None:
        """Where ``qname`` is in the forward or in the reverse zone; None if it is in neither."""
        if (labels := qname.below(self.apex)) is not None:
            return Place(self.apex, labels)
        if (labels := qname.below(self.reverse_apex)) is not None:
            return Place(self.reverse_apex, labels)
        return None

    def soa(self, apex: Name) -> RRset:
        """The SOA RRset for a negative answer, where its TTL is the negative TTL (RFC 2308 §3).

        ``apex`` is that of the forward or of the reverse zone, or the root where all other names are denied.
        """
        if (made := self._soas.get(apex)) is None:
            serial = self.revision & 0xFFFF_FFFF  # RFC 1982: 32 bits that wrap
            soa = Soa(self.apex.child("ns"), self.apex.child("hostmaster"), serial, *_SOA_TIMES)
            made = self._soas[apex] = RRset(apex, RRType.SOA, NEGATIVE_TTL, (soa,))
        return made

    def find(self, qname: Name) -> Node | None:
        """The node at ``qname``, also by a wildcard (RFC 4592); None if the name does not exist."""
        place = self.place_of(qname)
        return self.find_at(qname, place) if place else None

    def find_at(self, qname: Name, place: Place) -> Node | None:
        """The same where it is known that ``qname`` is at ``place``."""
        if place.apex is not self.apex:
            return self._find_reverse(qname, place.labels)
        return self._find_exact(qname, place.labels) or self._find_wildcard(qname, place.labels)

    def _find_exact(self, qname: Name, labels: tuple[bytes, ...]) -> Node | None:
        if not labels:
            return self._apex(self.apex)
        if member := self._members.get(labels[-1]):
            return find_below(qname, labels[:-1], member, self.apex)
        match labels:
            case (b"ns",):
                return make_node(Origin.NAMESERVER, qname, RRType.AAAA, (self.platform.resolver,))
            case (b"_services",):
                return make_node(Origin.DIRECTORY, qname, RRType.TXT, list_services(self._members.values()))
        return self._records.get(qname)

    def _find_wildcard(self, qname: Name, labels: tuple[bytes, ...]) -> Node | None:
        if not self._records:
            return None  # a wildcard is a record
        # The closest encloser is the longest existing ancestor; only the wildcard right below it applies
        # (RFC 4592 §3.3.1), so the walk up ends at the first name that exists, the apex at the latest.
        encloser, labels = qname.parent, labels[1:]
        while labels and not self._find_exact(encloser, labels):
            encloser, labels = encloser.parent, labels[1:]
        source = self._records.get(Name(b"\x01*" + encloser))
        if source is None:
            return None
        return Node(Origin.WILDCARD, {rtype: rrset.changed(name=qname) for rtype, rrset in source.rrsets.items()})

    def _apex(self, apex: Name) -> Node:
        nameservers = RRset(apex, RRType.NS, TTL, (self.apex.child("ns"),))
        return Node(Origin.APEX, {RRType.SOA: self.soa(apex).changed(ttl=TTL), RRType.NS: nameservers})

    def _find_reverse(self, qname: Name, labels: tuple[bytes, ...]) -> Node | None:
        if not labels:
            return self._apex(self.reverse_apex)
        nibbles = b"".join(qname.labels[-3::-1])
        if not re.fullmatch(rb"[0-9a-f]{4,32}", nibbles) or len(nibbles) + 2 != len(qname.labels):
            return None
        low = Address(bytes.fromhex(nibbles.decode().ljust(NIBBLES, "0")))
        high = Address(bytes.fromhex(nibbles.decode().ljust(NIBBLES, "f")))
        for resolver in (self.platform.resolver, resolver_address(self.environment.network)):
            if low == resolver == high:
                return make_node(Origin.NAMESERVER, qname, RRType.PTR, (self.apex.child("ns"),))
            if low <= resolver <= high:
                return Node(Origin.EMPTY_NON_TERMINAL)
        for member in self._members_between(low, high):
            if (found := first_at_or_after(member, low)) and found[1].address <= high:
                if low < high:
                    return Node(Origin.EMPTY_NON_TERMINAL)
                target = self.apex.child(found[0], member.name)
                return make_node(Origin.REVERSE, qname, RRType.PTR, (target,), member.name)
        return None

    @property
    def _by_subnet(self) -> Mapping[int, Member]:
        """The services by the numbers of their subnets."""
        if self._subnets is None:
            self._subnets = _index_subnets(self._members)
        return self._subnets

    def _members_between(self, low: Address, high: Address) -> Iterable[Member]:
        network = self.environment.network
        if contains(network, low) and low[:8] == high[:8]:
            member = self._by_subnet.get(int.from_bytes(low[6:8], "big"))
            return (member,) if member else ()
        return self._by_subnet.values()


def compile_zone(platform: Platform, environment: Environment, now: int, away: HostsAway = NONE_AWAY) -> Zone:
    """The zone of ``environment`` at ``now`` (Unix milliseconds), without the former names that have ended.

    The instances on the hosts in ``away`` are in its answers only as `zones.placement` says.
    """
    made = {name: make_member(name, service, away) for name, service in environment.services.items()}
    members, valid_until = _lay_out_members(made, now)
    return Zone(platform, environment, members, _lay_out_records(platform, environment), valid_until, away)


def compile_next(zone: Zone, environment: Environment, touched: Touched, now: int) -> Zone:
    """The same as `compile_zone`, where ``environment`` differs from that of ``zone`` in what is ``touched`` alone.

    Of all else the zone is that of before, object for object.
    """
    before, after = zone.environment.services, environment.services
    made = {
        name: _next_member(zone, name, service, touched.instances_of(name, before.get(name), service))
        for name in touched.services
        if (service := after.get(name)) is not None
    }
    members, valid_until, subnets = dict(zone._members), None, None
    if zone.valid_until is None and not any(member.service.former_names for member in made.values()):
        gone = [old for name in touched.services if (old := members.pop(name.encode(), None)) is not None]
        members |= {name.encode(): member for name, member in made.items()}
        if zone._subnets is not None:
            subnets = dict(zone._subnets)
            for old in gone:
                del subnets[subnet_number(old.service.subnet)]
            subnets |= _index_subnets(made)
    else:
        kept = {member.name: member for member in members.values() if not member.is_former and member.name in after}
        members, valid_until = _lay_out_members(kept | made, now)
    records = _next_records(zone, environment, touched.records) if touched.records else zone._records
    return Zone(zone.platform, environment, members, records, valid_until, zone.away, subnets)


def _next_member(zone: Zone, name: str, service: Service, changed: Collection[str]) -> Member:
    old = zone._members.get(name.encode())
    if old is None or old.is_former or old.service.subnet != service.subnet:
        return make_member(name, service, zone.away)
    return next_member(old, service, changed)


def _lay_out_members(made: Mapping[str, Member], now: int) -> tuple[dict[bytes, Member], int | None]:
    """The members by each of their names, also the former ones, and when the next of these ends."""
    members: dict[bytes, Member] = {}
    ends = []
    for name, member in made.items():
        members[name.encode()] = member
        for former, until in member.service.former_names.items():
            if until > now:
                members[former.encode()] = replace(member, is_former=True)
                ends.append(until)
    return members, min(ends, default=None)


def _index_subnets(members: Mapping[Any, Member]) -> dict[int, Member]:
    return {subnet_number(member.service.subnet): member for member in members.values() if not member.is_former}


def apex_of(platform: Platform, qname: Name) -> Name | None:
    """The apex of the platform's forward or reverse zone, in any environment, that holds ``qname``; None if outside."""
    return next((apex for apex in (platform.apex, reverse_apex(platform)) if qname.below(apex) is not None), None)


@lru_cache
def reverse_apex(platform: Platform) -> Name:
    """The apex of the reverse zone of all the platform's addresses."""
    return reverse_name(platform.prefix.network_address.packed, PLATFORM_NIBBLES)


def reverse_name(octets: bytes, nibbles: int) -> Name:
    """The name below ip6.arpa of the first ``nibbles`` of an address (RFC 3596 §2.5)."""
    digits = octets.hex()[:nibbles]
    return Name.parse(".".join(reversed(digits)) + ".ip6.arpa")


def _lay_out_records(platform: Platform, environment: Environment) -> dict[Name, Node]:
    nodes: dict[Name, Node] = {}
    for relative in environment.records:
        name = _record_name(platform, relative)
        nodes[name] = _make_record(environment, relative, name)
    for name in list(nodes):
        _add_ancestors(nodes, name, platform.apex)
    return nodes


def _next_records(zone: Zone, environment: Environment, touched: Collection[str]) -> dict[Name, Node]:
    """The same as `_lay_out_records`, if the records differ from those of ``zone`` at the names ``touched`` alone."""
    nodes, apex = dict(zone._records), zone.apex
    for relative in touched:
        name = _record_name(zone.platform, relative)
        if relative in environment.records:
            nodes[name] = _make_record(environment, relative, name)
            _add_ancestors(nodes, name, apex)
            continue
        nodes[name] = Node(Origin.EMPTY_NON_TERMINAL)
        while name in nodes and _is_empty_leaf(nodes, name):  # the apex is none of them
            del nodes[name]
            name = name.parent
    return nodes


def _record_name(platform: Platform, relative: str) -> Name:
    return Name.of((*Name.parse(relative).labels, *platform.apex.labels))


def _make_record(environment: Environment, relative: str, name: Name) -> Node:
    data = environment.record_data(relative)
    return Node(Origin.RECORD, {rtype: RRset(name, rtype, ttl, rdatas) for rtype, ttl, rdatas in data})


def _add_ancestors(nodes: dict[Name, Node], name: Name, apex: Name) -> None:
    while (name := name.parent) != apex:
        nodes.setdefault(name, Node(Origin.EMPTY_NON_TERMINAL))


def _is_empty_leaf(nodes: Mapping[Name, Node], name: Name) -> bool:
    """Whether ``name`` has no records, and no name below it has."""
    return nodes[name].origin is Origin.EMPTY_NON_TERMINAL and not any(each.parent == name for each in nodes)
