"""The model of an environment: its services, their instances, its external peers, and the records that users set.

Every type checks its values when it is made, so no invalid one exists. One `Environment` is one document: the unit of
commit, of publication and of isolation. Mappings are never changed in place; an edit makes a new value.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from ipaddress import IPv6Network
from itertools import pairwise
from typing import Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from zones import names
from zones.addresses import (
    ENVIRONMENT_BITS,
    FIRST_PEER_NUMBER,
    SERVICE_BITS,
    Address,
    contains,
    is_peer_address,
    service_subnet,
    subnet_number,
)
from zones.errors import Conflict, Invalid
from zones.keys import PublicKey, check_public_key
from zones.names import EnvironmentId, Name
from zones.records import Rdata, RecordType, RRType, parse_rdata

SCHEMA = 1  # of the documents; a release reads no other

MAX_REVISION = 2**53 - 1  # what every reader of JSON counts exactly (RFC 8259 §6)
MAX_RECORD_TTL = 86_400  # seconds; caches forget a wrong record within a day after it was corrected
RECORDS_KNOWN = 1 << 14  # record sets that were checked before, some MB: a change of one checks no others again
MAX_VALUES = 256  # of one record set; that many TXT records of full length would already be too large for a TCP message
MAX_RECORD_NAME = 190  # characters; followed by the longest zone, it is still a name (RFC 1035 §3.1: 255 octets)


class State(Enum):
    """The state of an instance. Only the addresses of ready instances are answered under the service's name."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"

    __hash__ = object.__hash__  # each state is one object; the hash of `Enum` is a function in Python, and takes longer


class Instance(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One running copy of a service."""

    address: Address
    """Its address, in the subnet of its service."""
    state: State
    """Its state."""
    host: str | None = None
    """The id of the host that it runs on. None: no host is known."""
    region: str | None = None
    """The region that it runs in. None: no region."""
    attached: bool = True
    """Whether ``host`` has attached it, as its agent says. Without a host it says nothing. Documents of releases that
    did not know it have it true, for their agents put back what they did not find."""

    def __post_init__(self) -> None:
        if self.host is not None:
            force_setattr(self, "host", names.check_host_id(self.host))
        if self.region is not None:
            force_setattr(self, "region", names.check_region(self.region))


class Port(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A named port of a service, which is answered as ``_<name>._<protocol>.<service>`` (SRV, RFC 2782)."""

    name: str
    """A service name in the sense of RFC 6335, as "http"."""
    number: int
    """The port number."""
    protocol: Literal["tcp", "udp"] = "tcp"
    """The transport protocol."""

    def __post_init__(self) -> None:
        names.check_port_name(self.name)
        if not 1 <= self.number <= 65535:
            raise Invalid(f"port number {self.number} is not from 1 to 65535", field="ports.number")


class Service(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A service and its instances."""

    subnet: IPv6Network
    """The /64 that holds the addresses of its instances."""
    ports: tuple[Port, ...] = ()
    """Its named ports."""
    instances: Mapping[str, Instance] = {}
    """Instance id → instance."""
    former_names: Mapping[str, int] = {}
    """A name that it had before → the time until which that name is answered, in Unix milliseconds."""
    last_number: int = 0
    """The highest host number ever given to one of its instances; 0: none was given."""

    def __post_init__(self) -> None:
        if self.subnet.prefixlen != SERVICE_BITS:
            raise Invalid(f"the subnet {self.subnet} is not a /{SERVICE_BITS}", field="subnet")
        check_ports(self)
        names.check_instance_ids(self.instances)
        _check_addresses(self)
        for name in self.former_names:
            names.check_service_name(name)


class RecordSet(Struct, frozen=True, forbid_unknown_fields=True):
    """The records that a user has set for one name and type."""

    ttl: int
    """Their TTL in seconds."""
    values: tuple[str, ...]
    """The data of each, in presentation form."""

    def __post_init__(self) -> None:
        if not 1 <= self.ttl <= MAX_RECORD_TTL:
            raise Invalid(f"ttl {self.ttl} is not from 1 to {MAX_RECORD_TTL} seconds", field="ttl")
        if not 1 <= len(self.values) <= MAX_VALUES:
            raise Invalid(f"a record set holds 1 to {MAX_VALUES} values, not {len(self.values)}", field="values")
        if len(set(self.values)) < len(self.values):
            raise Invalid("the same value stands twice: an RRset is a set (RFC 2181 §5)", field="values")


class Peer(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An external machine in the environment, such as a laptop. It connects to one host, its gateway."""

    public_key: PublicKey
    """The public key of its own WireGuard device."""
    address: Address
    """Its address in the environment."""
    gateway: str
    """The id of the host that it connects to."""

    def __post_init__(self) -> None:
        check_public_key(self.public_key)
        names.check_host_id(self.gateway, field="gateway")


class Environment(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, weakref=True):
    """An environment with all that is in it."""

    id: EnvironmentId
    """Its id, one label."""
    network: IPv6Network
    """Its /48, which no other environment ever has."""
    revision: int
    """Grows by one with each commit, from 1."""
    schema: int = SCHEMA
    """The schema of the document."""
    enabled: bool = True
    """Whether private networking is on."""
    isolated: bool = False
    """Whether its clients can resolve its own names only, and none of the outside world."""
    services: Mapping[str, Service] = {}
    """Current name → service."""
    records: Mapping[str, Mapping[RecordType, RecordSet]] = {}
    """Name relative to the zone → type → the records that users have set."""
    last_subnet: int = 0
    """The number of the subnet that was given to a service last; 0: none was given."""
    peers: Mapping[str, Peer] = {}
    """Peer id → external peer."""
    last_peer: int = 0
    """The highest host number ever given to a peer; 0: none was given."""

    def __post_init__(self) -> None:
        names.check_environment_id(self.id)
        if self.schema != SCHEMA:
            raise Invalid(
                f"the document has schema {self.schema}, this release reads {SCHEMA}: run the release that wrote it",
                field="schema",
            )
        if self.network.prefixlen != ENVIRONMENT_BITS:
            raise Invalid(f"the network {self.network} is not a /{ENVIRONMENT_BITS}", field="network")
        if not 1 <= self.revision <= MAX_REVISION:
            raise Invalid(f"revision {self.revision} is not from 1 to {MAX_REVISION}", field="revision")
        taken = _check_services(self)
        for name, sets in self.records.items():
            check_records(self, name, sets, taken)
        check_peers(self)

    def record_data(self, name: str) -> Iterator[tuple[RRType, int, tuple[Rdata, ...]]]:
        """The type, the TTL and the data of each record set at ``name``."""
        for rtype, records in self.records[name].items():
            parsed = RRType[rtype]
            yield parsed, records.ttl, tuple(parse_rdata(parsed, value) for value in records.values)


def check_record_name(name: str) -> None:
    """Raises `Invalid` unless a user may set records at ``name``, which is relative to the zone."""
    parsed = Name.parse(name)
    labels = parsed.labels
    field = "records.name"
    if not labels or name.endswith("."):
        raise Invalid(f"{name!r} is not a name below the zone: leave out the zone and the final dot", field=field)
    if name != name.lower():
        raise Invalid(f"write {name!r} in lower case", field=field)
    if name != (written := str(parsed)[:-1]):
        # The text is the key in ``records``, so each name has one text only: else it could have two sets of one type.
        raise Invalid(f"write {name!r} as {written!r}", field=field)
    if len(name) > MAX_RECORD_NAME:
        raise Invalid(f"the name has {len(name)} characters: use at most {MAX_RECORD_NAME}", field=field)
    if b"*" in labels[1:]:
        raise Invalid(f"{name!r}: '*' is a wildcard only as the first label (RFC 4592 §2.1.1)", field=field)
    last = labels[-1].decode("latin-1")
    if last == "_services" or last in names.RESERVED_SERVICES or last.startswith(names.RESERVED_PREFIX):
        raise Invalid(f"{last!r} is reserved by the platform: choose another name", field=field)


def check_ports(service: Service) -> None:
    """Raises `Invalid` if two ports of ``service`` have one name."""
    if len(service.ports) < 2:
        return
    named = {(port.name, port.protocol) for port in service.ports}
    if len(named) < len(service.ports):
        raise Invalid("two ports have the same name and protocol: name each differently", field="ports")


def _check_addresses(service: Service) -> None:
    addresses = [instance.address for instance in service.instances.values()]
    if len(set(addresses)) < len(addresses):
        twice = next(first for first, second in pairwise(sorted(addresses)) if first == second)
        raise Conflict(f"two instances have the address {twice}", field="instances.address")
    prefix = service.subnet.network_address.packed[: SERVICE_BITS // 8]
    # If the lowest and the highest are in the subnet, so are all between them.
    for address in (min(addresses), max(addresses)) if addresses else ():
        if not address.startswith(prefix):
            raise Invalid(f"{address} is outside the service's subnet {service.subnet}", field="instances.address")


def _check_services(environment: Environment) -> Mapping[str, str]:
    """Checks the services. Returns each current and former name, with the current name of the service that has it."""
    taken = {name: name for name in environment.services}
    subnets: dict[int, str] = {}
    prefix = environment.network.network_address.packed[: ENVIRONMENT_BITS // 8]
    for name, service in environment.services.items():
        names.check_service_name(name)
        if not service.subnet.network_address.packed.startswith(prefix):
            raise Invalid(f"{service.subnet} is outside the environment's {environment.network}", field="subnet")
        number = subnet_number(service.subnet)
        if not number:
            raise Invalid(f"{service.subnet} is the environment's own: a service's number is from 1", field="subnet")
        other = subnets.setdefault(number, name)
        if other != name:
            raise Conflict(f"the services {other} and {name} have one subnet, {service.subnet}", field="subnet")
        for old in service.former_names:
            if taken.setdefault(old, name) != name or old == name:
                raise Conflict(f"the former name {old!r} of {name} belongs to another service", field="former_names")
    return taken


def check_peers(environment: Environment) -> None:
    """Raises `Invalid` or `Conflict` unless the external peers of ``environment`` are valid together."""
    addresses: dict[Address, str] = {}
    keys: dict[PublicKey, str] = {}
    for id_, peer in environment.peers.items():
        names.check_peer_id(id_)
        if not is_peer_address(environment.network, peer.address):
            raise Invalid(
                f"{peer.address} is not a peer's address: those begin at number {FIRST_PEER_NUMBER:#x} of"
                f" {service_subnet(environment.network, 0)}",
                field="peers.address",
            )
        if (other := addresses.setdefault(peer.address, id_)) != id_:
            raise Conflict(f"the peers {other} and {id_} have one address, {peer.address}", field="peers.address")
        if (other := keys.setdefault(peer.public_key, id_)) != id_:
            raise Conflict(
                f"the peers {other} and {id_} have one public key: make a key pair for each", field="public_key"
            )


def check_records(
    environment: Environment, name: str, sets: Mapping[RecordType, RecordSet], taken: Container[str]
) -> None:
    """Raises `Invalid` or `Conflict` unless ``environment`` may have ``sets`` at ``name``.

    ``taken`` are the names of its services, former ones too.
    """
    owner = owner_of_record(name)
    if owner in taken:
        raise Conflict(
            f"{name!r} belongs to the service {owner!r}, as does all below it: choose another name",
            field="records.name",
        )
    for address in _check_sets(name, *sets.items()):
        _check_target(environment, address)


@lru_cache(maxsize=RECORDS_KNOWN)
def owner_of_record(name: str) -> str:
    """The name of the service that would have records at ``name``. Raises as `check_record_name`."""
    check_record_name(name)
    return Name.parse(name).labels[-1].decode("latin-1")


@lru_cache(maxsize=RECORDS_KNOWN)
def _check_sets(name: str, *sets: tuple[RecordType, RecordSet]) -> tuple[Address, ...]:
    """Checks what does not depend on the environment that the records are in. Returns the addresses among them."""
    if len(sets) > 1 and any(rtype == "CNAME" for rtype, _ in sets):
        raise Conflict(f"a CNAME is the only record at its name (RFC 2181 §10.1): {name!r} has others", field="type")
    addresses: list[Address] = []
    for written, records in sets:
        rtype = RRType[written]
        try:
            rdatas = [parse_rdata(rtype, value) for value in records.values]
        except Invalid as error:
            raise Invalid(f"{name!r}: {error}", field="values") from None
        if len(set(rdatas)) < len(rdatas):
            raise Invalid(
                f"{name!r} has the same {rtype.name} value twice: an RRset is a set (RFC 2181 §5)", field="values"
            )
        if rtype is RRType.CNAME and len(rdatas) > 1:
            raise Invalid(f"{name!r} can have one canonical name, not {len(rdatas)}", field="values")
        addresses += [rdata for rdata in rdatas if isinstance(rdata, Address)]
    return tuple(addresses)


def _check_target(environment: Environment, address: Address) -> None:
    platform = environment.network.supernet(new_prefix=16)
    if contains(platform, address) and not contains(environment.network, address):
        raise Invalid(
            f"{address} is the platform's but outside this environment's {environment.network}:"
            " nothing here could reach it",
            field="values",
        )
