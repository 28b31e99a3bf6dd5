"""The changes that can be made to an environment, each a value, each applied by one pure function.

    apply(environment, edits, now)  ->  Environment      the next one, revision one higher
                                    |   the same object  where nothing would change

An edit says what should be, not what to do: applied a second time, it changes nothing. Several edits make one commit;
if one of them is refused, none is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from zones.addresses import (
    Address,
    host_number,
    instance_address,
    next_peer_number,
    next_subnet_number,
    peer_address,
    service_subnet,
    subnet_number,
)
from zones.errors import Conflict, Invalid, Missing, ZonesError
from zones.keys import PublicKey
from zones.model import Environment, Instance, Peer, Port, RecordSet, Service, State
from zones.names import EnvironmentId, Name, check_new_instance_id, check_new_service_name, check_peer_id
from zones.records import RecordType
from zones.revising import revise_environment, revise_service

MAX_OVERLAP = 30 * 86_400  # seconds; an old name that must last longer is a CNAME record, not a rename
MOST_AHEAD = 256  # host numbers that an edit may leave out: other instances are being made, and will be refused them
DEFAULT_OVERLAP = 3600  # seconds an old name goes on answering: long enough to redeploy what still uses it


class SetEnabled(Struct, frozen=True):
    """Switch private networking on or off for the environment."""

    enabled: bool
    """Whether it is to be on."""


class SetIsolated(Struct, frozen=True):
    """Isolate the environment, so that its clients resolve its own names and no others; or end that."""

    isolated: bool
    """Whether it is to be isolated."""


class PutService(Struct, frozen=True):
    """Create a service, or change the fields that are set."""

    name: str
    """The current name of the service."""
    ports: tuple[Port, ...] | UnsetType = UNSET
    """All its ports. Unset: they stay."""
    rename: str | None = None
    """The new name of the service. None: it keeps its name."""
    overlap: int = DEFAULT_OVERLAP
    """For how many seconds the old name is still answered after a rename."""


class DeleteService(Struct, frozen=True):
    """Delete a service with its instances and all its names."""

    name: str
    """The current name of the service."""


class PutInstance(Struct, frozen=True):
    """Create an instance, or change the fields that are set. A new instance gets the next address of its service.

    Or it gets ``address``, where that is one of the next `MOST_AHEAD`: then no instance has ever had it.
    """

    service: str
    """The current name of the service."""
    id: str
    """The id of the instance in its service."""
    state: State | UnsetType = UNSET
    """Its state. Unset: it stays; a new instance is ready."""
    host: str | UnsetType | None = UNSET
    """The host that it runs on. None: no host. Unset: it stays."""
    region: str | UnsetType | None = UNSET
    """The region that it runs in. None: no region. Unset: it stays."""
    attached: bool | UnsetType = UNSET
    """Whether its host has attached it. Unset: it stays; one that gets another host has to be attached there."""
    address: Address | None = None
    """The address that a new instance gets if it can. An instance that exists keeps its own."""


class DeleteInstance(Struct, frozen=True):
    """Delete an instance. No other instance gets its address."""

    service: str
    """The current name of the service."""
    id: str
    """The id of the instance in its service."""


class PutRecord(Struct, frozen=True):
    """Set the records of one name and type."""

    name: str
    """The name, relative to the zone."""
    type: RecordType
    """The type."""
    records: RecordSet
    """The records, in place of those that were there."""


class DeleteRecord(Struct, frozen=True):
    """Delete the records of one name and type."""

    name: str
    """The name, relative to the zone."""
    type: RecordType
    """The type."""


class PutPeer(Struct, frozen=True):
    """Create an external peer, or change the fields that are set. A new peer needs both, and gets the next address."""

    id: str
    """The id of the peer in its environment."""
    public_key: PublicKey | UnsetType = UNSET
    """Its WireGuard public key. Unset: it stays."""
    gateway: str | UnsetType = UNSET
    """The host that the peer connects to. Unset: it stays."""


class DeletePeer(Struct, frozen=True):
    """Delete an external peer. No other peer gets its address."""

    id: str
    """The id of the peer in its environment."""


Edit = (
    SetEnabled
    | SetIsolated
    | PutService
    | DeleteService
    | PutInstance
    | DeleteInstance
    | PutRecord
    | DeleteRecord
    | PutPeer
    | DeletePeer
)


def apply(environment: Environment, edits: Iterable[Edit], now: int, apex: Name | None = None) -> Environment:
    """``environment`` after all of ``edits``, at ``now`` (Unix milliseconds).

    ``apex`` is that of the zone which names of records are relative to. None: no record is set, or nobody needs to
    know whether one is an alias of itself. Raises `Invalid`, `Conflict` or `Missing`, and then makes none of the edits.
    """
    draft = _Draft(environment, apex)
    draft.forget_ended_names(now)
    for position, edit in enumerate(edits):
        try:
            draft.apply(edit, now)
        except ZonesError as error:
            error.edit = position
            raise
    fields = {name: value for name, value in draft.fields().items() if getattr(environment, name) != value}
    if not fields:
        return environment
    return revise_environment(environment, revision=environment.revision + 1, **fields)


def must_exist(id_: EnvironmentId, environment: Environment | None, *, advice: str = "create it first") -> Environment:
    """Returns ``environment``, which was found under ``id_``. Raises `Missing`, with ``advice``, where it is None."""
    if environment is None:
        raise Missing(f"there is no environment {id_!r}: {advice}", field="environment")
    return environment


def get_service(environment: Environment, name: str) -> Service:
    """The service ``name``. Raises `Missing`."""
    return _get_service(environment.id, environment.services, name)


def get_instance(environment: Environment, service: str, id_: str) -> Instance:
    """The instance ``id_`` of ``service``. Raises `Missing`."""
    return _get_instance(service, get_service(environment, service).instances, id_)


def get_record(environment: Environment, name: str, rtype: RecordType) -> RecordSet:
    """The records that are set for ``name`` and ``rtype``. Raises `Missing`."""
    return _get_record(environment.id, environment.records, name, rtype)


def get_peer(environment: Environment, id_: str) -> Peer:
    """The external peer ``id_``. Raises `Missing`."""
    return _get_peer(environment.id, environment.peers, id_)


@dataclass(slots=True)
class _Instances:
    """The instances of a service that is being edited."""

    by_id: dict[str, Instance]
    last_number: int  # the highest host number ever given to an instance of the service
    edited: set[str] = field(default_factory=set)  # the ids that an edit has named


class _Draft:
    """An environment that is being edited: copies of its mappings. It is checked once, after the last edit."""

    def __init__(self, environment: Environment, apex: Name | None) -> None:
        self._environment = environment
        self._apex = apex
        self._enabled = environment.enabled
        self._isolated = environment.isolated
        self._services = dict(environment.services)
        # By service, of those services whose instances are edited. A `Service` checks all its instances when it is
        # made, so it is made once, after all edits, and not once for each edit.
        self._instances: dict[str, _Instances] = {}
        self._records = dict(environment.records)
        self._last_subnet = environment.last_subnet
        self._peers = dict(environment.peers)
        self._last_peer = environment.last_peer

    def fields(self) -> dict[str, Any]:
        for name in self._instances:
            self._services[name] = self._with_instances(name)
        return {
            "enabled": self._enabled,
            "isolated": self._isolated,
            "services": self._services,
            "records": self._records,
            "last_subnet": self._last_subnet,
            "peers": self._peers,
            "last_peer": self._last_peer,
        }

    def apply(self, edit: Edit, now: int) -> None:  # noqa: C901 a case for each edit
        match edit:
            case SetEnabled():
                self._enabled = edit.enabled
            case SetIsolated():
                self._isolated = edit.isolated
            case PutService():
                self._put_service(edit, now)
            case DeleteService():
                self._service(edit.name)
                del self._services[edit.name]
                self._instances.pop(edit.name, None)
            case PutInstance():
                self._put_instance(edit)
            case DeleteInstance():
                self._delete_instance(edit)
            case PutRecord():
                self._put_record(edit)
            case DeleteRecord():
                self._delete_record(edit)
            case PutPeer():
                self._put_peer(edit)
            case DeletePeer():
                _get_peer(self._environment.id, self._peers, edit.id)
                del self._peers[edit.id]

    def forget_ended_names(self, now: int) -> None:
        for name, service in self._services.items():
            if not service.former_names:
                continue
            lasting = {former: until for former, until in service.former_names.items() if until > now}
            if len(lasting) < len(service.former_names):
                self._services[name] = revise_service(service, former_names=lasting)

    def _service(self, name: str) -> Service:
        return _get_service(self._environment.id, self._services, name)

    def _put_service(self, edit: PutService, now: int) -> None:
        name = edit.name
        if edit.rename is not None and edit.rename != name:
            name = self._rename_service(name, edit.rename, edit.overlap, now)
        elif name not in self._services:
            self._create_service(name)
        if edit.ports is not UNSET:
            self._services[name] = revise_service(self._services[name], ports=edit.ports)

    def _create_service(self, name: str) -> None:
        check_new_service_name(name)
        taken = {subnet_number(service.subnet) for service in self._services.values()}
        self._last_subnet = next_subnet_number(self._last_subnet, taken)
        self._free_former_name(name)
        self._services[name] = Service(subnet=service_subnet(self._environment.network, self._last_subnet))

    def _rename_service(self, old: str, new: str, overlap: int, now: int) -> str:
        try:
            check_new_service_name(new)
        except Invalid as error:
            raise Invalid(str(error), field="rename") from None
        if old not in self._services and new in self._services and old in self._services[new].former_names:
            return new  # the rename was made before: a client that lost the reply may ask again
        self._service(old)
        if new in self._services:
            raise Conflict(f"a service {new!r} exists already: delete or rename it first", field="rename")
        if not 0 <= overlap <= MAX_OVERLAP:
            raise Invalid(f"an overlap of {overlap} is not from 0 to {MAX_OVERLAP} seconds", field="overlap_seconds")
        self._free_former_name(new)
        service = self._services.pop(old)
        if old in self._instances:
            self._instances[new] = self._instances.pop(old)
        kept = {old: now + overlap * 1000} if overlap else {}
        self._services[new] = revise_service(service, former_names={**service.former_names, **kept})
        return new

    def _free_former_name(self, name: str) -> None:
        # The name that a service has now takes precedence over the same former name of another service.
        for owner, service in self._services.items():
            if name in service.former_names:
                others = {former: until for former, until in service.former_names.items() if former != name}
                self._services[owner] = revise_service(service, former_names=others)

    def _put_instance(self, edit: PutInstance) -> None:
        edited = self._instances_of(edit.service)
        instance = edited.by_id.get(edit.id)
        if instance is None:
            check_new_instance_id(edit.id)
            subnet = self._services[edit.service].subnet
            edited.last_number = _number_of_new(edit.address, subnet, edited.last_number + 1)
            instance = Instance(instance_address(subnet, edited.last_number), state=State.READY)
        wanted = {"state": edit.state, "host": edit.host, "region": edit.region, "attached": edit.attached}
        given = {name: value for name, value in wanted.items() if value is not UNSET}
        if given.get("host", instance.host) != instance.host:
            given.setdefault("attached", given["host"] is None)
        edited.by_id[edit.id] = replace(instance, **given)
        edited.edited.add(edit.id)

    def _delete_instance(self, edit: DeleteInstance) -> None:
        edited = self._instances_of(edit.service)
        _get_instance(edit.service, edited.by_id, edit.id)
        del edited.by_id[edit.id]
        edited.edited.add(edit.id)

    def _instances_of(self, name: str) -> _Instances:
        if name not in self._instances:
            service = self._service(name)
            self._instances[name] = _Instances(dict(service.instances), service.last_number)
        return self._instances[name]

    def _with_instances(self, name: str) -> Service:
        edited, service = self._instances[name], self._services[name]
        changed = {id_ for id_ in edited.edited if edited.by_id.get(id_) != service.instances.get(id_)}
        if not changed and edited.last_number == service.last_number:
            return service
        return revise_service(service, changed, instances=edited.by_id, last_number=edited.last_number)

    def _put_record(self, edit: PutRecord) -> None:
        if edit.type == "CNAME" and self._apex is not None:
            own = Name.of((*Name.parse(edit.name).labels, *self._apex.labels))
            if any(Name.parse(value) == own for value in edit.records.values):
                raise Invalid(f"{own} would be an alias of itself, which nobody can follow", field="values")
        self._records[edit.name] = {**self._records.get(edit.name, {}), edit.type: edit.records}

    def _delete_record(self, edit: DeleteRecord) -> None:
        _get_record(self._environment.id, self._records, edit.name, edit.type)
        left = {rtype: sets for rtype, sets in self._records[edit.name].items() if rtype != edit.type}
        if left:
            self._records[edit.name] = left
        else:
            del self._records[edit.name]

    def _put_peer(self, edit: PutPeer) -> None:
        peer = self._peers.get(edit.id)
        wanted = {"public_key": edit.public_key, "gateway": edit.gateway}
        given = {name: value for name, value in wanted.items() if value is not UNSET}
        self._peers[edit.id] = replace(peer, **given) if peer else self._create_peer(edit)

    def _create_peer(self, edit: PutPeer) -> Peer:
        check_peer_id(edit.id)
        if edit.public_key is UNSET:
            raise Invalid(f"a new peer needs a public key: give {edit.id!r} one", field="public_key")
        if edit.gateway is UNSET:
            raise Invalid(f"a new peer needs a host that is its gateway: name one for {edit.id!r}", field="gateway")
        self._last_peer = next_peer_number(self._last_peer)
        return Peer(edit.public_key, peer_address(self._environment.network, self._last_peer), edit.gateway)


def _number_of_new(wanted: Address | None, subnet: IPv6Network, first: int) -> int:
    """The host number of a new instance in ``subnet``: ``first``, or that of the address ``wanted`` if it can be."""
    if wanted is None:
        return first
    number = host_number(subnet, wanted)
    return number if first <= number < first + MOST_AHEAD else first


def _get_service(environment: str, services: Mapping[str, Service], name: str) -> Service:
    try:
        return services[name]
    except KeyError:
        raise Missing(f"the environment {environment!r} has no service {name!r}", field="service") from None


def _get_instance(name: str, instances: Mapping[str, Instance], id_: str) -> Instance:
    try:
        return instances[id_]
    except KeyError:
        raise Missing(f"the service {name!r} has no instance {id_!r}", field="id") from None


def _get_record(
    environment: str, records: Mapping[str, Mapping[RecordType, RecordSet]], name: str, rtype: RecordType
) -> RecordSet:
    try:
        return records[name][rtype]
    except KeyError:
        raise Missing(f"the environment {environment!r} has no {rtype} record {name!r}", field="name") from None


def _get_peer(environment: str, peers: Mapping[str, Peer], id_: str) -> Peer:
    try:
        return peers[id_]
    except KeyError:
        raise Missing(f"the environment {environment!r} has no peer {id_!r}", field="id") from None
