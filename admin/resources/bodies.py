"""What clients send: each body a type, checked as it is read, and the edit that it asks for.

The model checks all of it once more when the edits are made. It is checked here too because here the place is known:
`edits[3].values[1]` says more than `values`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from zones import edits
from zones.edits import DEFAULT_OVERLAP, MAX_OVERLAP
from zones.errors import Invalid
from zones.keys import PublicKey, check_public_key
from zones.model import MAX_RECORD_TTL, MAX_VALUES, Port, RecordSet, RecordType, State, check_record_name
from zones.names import check_host_id, check_instance_id, check_peer_id, check_region, check_service_name
from zones.records import RRType, parse_rdata

MAX_EDITS = 1000  # of one batch: the store and the zone take a change as one, and others wait for it
LABEL = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

# These rules are for readers of the API's description; the model checks them, with messages that say more.
Label = Annotated[str, Meta(extra_json_schema={"pattern": LABEL})]
PortName = Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z0-9-]{1,15}$"})]
PortNumber = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": 65535})]
Ttl = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": MAX_RECORD_TTL}, description="seconds")]
PublicKeyText = Annotated[
    str,
    Meta(
        extra_json_schema={"pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"},
        description="of WireGuard: 32 octets in base64",
    ),
]
Values = Annotated[
    tuple[str, ...],
    Meta(
        extra_json_schema={"minItems": 1, "maxItems": MAX_VALUES, "uniqueItems": True},
        description="in presentation form",
    ),
]

Overlap = Annotated[int, Meta(ge=0, le=MAX_OVERLAP, description="seconds for which the old name goes on answering")]


class EnvironmentBody(Struct, frozen=True, forbid_unknown_fields=True):
    """An environment as it should be. What is left out stays as it is; a new one is enabled and not isolated."""

    enabled: bool | UnsetType = UNSET
    isolated: bool | UnsetType = UNSET

    def edits(self) -> list[edits.Edit]:
        wanted: list[edits.Edit] = []
        if self.enabled is not UNSET:
            wanted.append(edits.SetEnabled(self.enabled))
        if self.isolated is not UNSET:
            wanted.append(edits.SetIsolated(self.isolated))
        return wanted


class PortBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A named port of a service."""

    name: PortName
    number: PortNumber
    protocol: Literal["tcp", "udp"] = "tcp"

    def __post_init__(self) -> None:
        self.port()

    def port(self) -> Port:
        return Port(self.name, self.number, self.protocol)


class ServiceBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A service as it should be. What is left out stays as it is; ``name`` renames it."""

    ports: tuple[PortBody, ...] | UnsetType = UNSET
    name: Label | UnsetType = UNSET
    overlap_seconds: Overlap | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_rename(self.name, self.overlap_seconds, "name")

    def edit(self, service: str) -> edits.PutService:
        return _put_service(service, self.ports, self.name, self.overlap_seconds)


class InstanceBody(Struct, frozen=True, forbid_unknown_fields=True):
    """An instance as it should be. What is left out stays as it is; a new one is ready."""

    state: State | UnsetType = UNSET
    host: Label | UnsetType | None = UNSET
    region: Label | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        _check_placement(self.host, self.region)

    def edit(self, service: str, id_: str) -> edits.PutInstance:
        return edits.PutInstance(service, id_, self.state, self.host, self.region)


class RecordBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The values that one name and type should have."""

    ttl: Ttl
    values: Values

    def __post_init__(self) -> None:
        self.record_set()

    def record_set(self) -> RecordSet:
        return RecordSet(self.ttl, self.values)


class PeerBody(Struct, frozen=True, forbid_unknown_fields=True):
    """An external peer as it should be. What is left out stays as it is; for a new one a gateway is chosen."""

    public_key: PublicKeyText | UnsetType = UNSET
    gateway: Label | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_peer(self.public_key, self.gateway)

    def edit(self, id_: str) -> edits.PutPeer:
        return _put_peer(id_, self.public_key, self.gateway)


class HostBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A host as it should be, as far as that is not its agent's to say. What is left out stays as it is."""

    draining: bool | UnsetType = UNSET


class TokenBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to be made. ``name`` is for people: what the token is for."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise Invalid("the name has a character that cannot be printed: use letters and digits", field="name")


class PutService(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="put-service"):
    """Create the service ``name`` or change what is given; ``rename`` gives it another name."""

    name: Label
    ports: tuple[PortBody, ...] | UnsetType = UNSET
    rename: Label | UnsetType = UNSET
    overlap_seconds: Overlap | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_service_name(self.name)
        _check_rename(self.rename, self.overlap_seconds, "rename")

    def edit(self) -> edits.PutService:
        return _put_service(self.name, self.ports, self.rename, self.overlap_seconds)


class DeleteService(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="delete-service"):
    """Delete the service ``name`` with its instances."""

    name: Label

    def edit(self) -> edits.DeleteService:
        return edits.DeleteService(self.name)


class PutInstance(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="put-instance"):
    """Create the instance ``id`` of ``service`` or change what is given."""

    service: Label
    id: Label
    state: State | UnsetType = UNSET
    host: Label | UnsetType | None = UNSET
    region: Label | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        check_instance_id(self.id)
        _check_placement(self.host, self.region)

    def edit(self) -> edits.PutInstance:
        return edits.PutInstance(self.service, self.id, self.state, self.host, self.region)


class DeleteInstance(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="delete-instance"):
    """Delete the instance ``id`` of ``service``."""

    service: Label
    id: Label

    def edit(self) -> edits.DeleteInstance:
        return edits.DeleteInstance(self.service, self.id)


class PutRecord(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="put-record"):
    """Set the values of ``name`` (relative to the zone) and ``type``."""

    name: str
    type: RecordType
    ttl: Ttl
    values: Values

    def __post_init__(self) -> None:
        check_record(self.name, self.type, RecordSet(self.ttl, self.values))

    def edit(self) -> edits.PutRecord:
        return edits.PutRecord(self.name, self.type, RecordSet(self.ttl, self.values))


class DeleteRecord(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="delete-record"):
    """Delete the values of ``name`` and ``type``."""

    name: str
    type: RecordType

    def edit(self) -> edits.DeleteRecord:
        return edits.DeleteRecord(self.name, self.type)


class PutPeer(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="put-peer"):
    """Create the external peer ``id`` or change what is given; for a new one a gateway is chosen."""

    id: Label
    public_key: PublicKeyText | UnsetType = UNSET
    gateway: Label | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_peer_id(self.id)
        _check_peer(self.public_key, self.gateway)

    def edit(self) -> edits.PutPeer:
        return _put_peer(self.id, self.public_key, self.gateway)


class DeletePeer(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="delete-peer"):
    """Delete the external peer ``id``."""

    id: Label

    def edit(self) -> edits.DeletePeer:
        return edits.DeletePeer(self.id)


BatchEdit = PutService | DeleteService | PutInstance | DeleteInstance | PutRecord | DeleteRecord | PutPeer | DeletePeer


class BatchBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Several edits, made in this order in one commit: all of them or none."""

    edits: Annotated[tuple[BatchEdit, ...], Meta(min_length=1, max_length=MAX_EDITS)]


def _put_service(
    name: str, ports: tuple[PortBody, ...] | UnsetType, rename: str | UnsetType, overlap: int | UnsetType
) -> edits.PutService:
    return edits.PutService(
        name,
        ports if ports is UNSET else tuple(port.port() for port in ports),
        None if rename is UNSET else rename,
        DEFAULT_OVERLAP if overlap is UNSET else overlap,
    )


def _put_peer(id_: str, public_key: str | UnsetType, gateway: str | UnsetType) -> edits.PutPeer:
    return edits.PutPeer(id_, public_key if public_key is UNSET else PublicKey(public_key), gateway)


def check_record(name: str, rtype: RecordType, records: RecordSet) -> None:
    """Raises `Invalid` unless ``records`` can be set at ``name``, whatever else the environment holds."""
    with _at("name"):
        check_record_name(name)
    for index, value in enumerate(records.values):
        with _at(f"values[{index}]"):
            parse_rdata(RRType[rtype], value)


def _check_rename(new: str | UnsetType, overlap: int | UnsetType, field: str) -> None:
    if new is not UNSET:
        with _at(field):
            check_service_name(new)
    elif overlap is not UNSET:
        raise Invalid("an overlap is of two names: give the new one too, or leave it out", field="overlap_seconds")


def _check_placement(host: str | UnsetType | None, region: str | UnsetType | None) -> None:
    if isinstance(host, str):
        check_host_id(host)
    if isinstance(region, str):
        check_region(region)


def _check_peer(public_key: str | UnsetType, gateway: str | UnsetType) -> None:
    if public_key is not UNSET:
        check_public_key(public_key)
    if gateway is not UNSET:
        check_host_id(gateway, field="gateway")


@contextmanager
def _at(field: str) -> Iterator[None]:
    # The model names its own fields; a client is told of the one that it sent.
    try:
        yield
    except Invalid as error:
        raise Invalid(str(error), field=field) from None
