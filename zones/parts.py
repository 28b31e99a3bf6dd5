"""Parts: what one revision of an environment has otherwise than the one before it, and how that is applied.

    difference(before, after)             ->  Difference      the parts that were set or removed
    apply_difference(before, difference)  ->  Environment     equal to ``after``

A part is what is replaced whole: the head of the environment, a service without its instances, one instance, one record
set, one external peer. What did not change is neither written, read nor checked again, and stands in both revisions as
the same object.

    {"id": "production", "before": 7, "revision": 8,
     "services": {"api": {"subnet": "fd12:5b1e:90c4:1::/64", "last_number": 3}},
     "instances": {"api": {"a3": {"address": "fd12:5b1e:90c4:1::3", "state": "ready"}, "a1": null}}}

A reader applies a difference only to the revision that it was made of, by the digest of that revision. The digest of
the next one follows from the two (`next_digest`), so nobody has to write the environment as a whole to know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Network
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from zones import document
from zones.errors import Invalid
from zones.model import SCHEMA, Environment, Instance, Peer, Port, RecordSet, Service
from zones.names import EnvironmentId
from zones.records import RecordType
from zones.revising import revise_environment, revise_service


class Head(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of an environment itself, without what is in it. They mean what they mean in `Environment`."""

    network: IPv6Network
    """Its /48."""
    schema: int = SCHEMA
    """The schema of the document."""
    enabled: bool = True
    """Whether private networking is on."""
    isolated: bool = False
    """Whether its clients can resolve its own names only."""
    last_subnet: int = 0
    """The number of the subnet that was given to a service last."""
    last_peer: int = 0
    """The highest host number ever given to a peer."""


class ServiceHead(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A service without its instances. The fields mean what they mean in `Service`."""

    subnet: IPv6Network
    """The /64 of its instances."""
    ports: tuple[Port, ...] = ()
    """Its named ports."""
    former_names: Mapping[str, int] = {}
    """A name that it had before → the time until which that name is answered, in Unix milliseconds."""
    last_number: int = 0
    """The highest host number ever given to one of its instances."""


Instances = Mapping[str, Mapping[str, Instance | None]]
"""Service → instance id → the instance; None: it is gone."""
Records = Mapping[str, Mapping[RecordType, RecordSet | None]]
"""Name relative to the zone → type → the record set; None: it is gone."""


class Difference(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The parts of an environment that one revision has otherwise than an earlier one."""

    id: EnvironmentId
    """The environment."""
    before: int
    """The revision that it is the difference to."""
    revision: int
    """The revision that it makes of that."""
    head: Head | None = None
    """The head, if it has changed; None if it has not."""
    services: Mapping[str, ServiceHead | None] = {}
    """Name → the service without its instances. None: it is gone, with its instances."""
    instances: Instances = {}
    """The instances that were set or are gone, of services that are there."""
    records: Records = {}
    """The record sets that were set or are gone."""
    peers: Mapping[str, Peer | None] = {}
    """Peer id → the external peer; None: it is gone."""


def difference(before: Environment, after: Environment) -> Difference:
    """What ``after`` has otherwise than ``before``, an earlier revision of the same environment."""
    head = _head(after)
    services: dict[str, ServiceHead | None] = {name: None for name in before.services if name not in after.services}
    instances: dict[str, Mapping[str, Instance | None]] = {}
    for name, service in after.services.items():
        old = before.services.get(name)
        if old is service:
            continue
        if old is None or _service_head(old) != (now := _service_head(service)):
            services[name] = _service_head(service) if old is None else now
        if found := _changes(old.instances if old else {}, service.instances):
            instances[name] = found
    return Difference(
        id=after.id,
        before=before.revision,
        revision=after.revision,
        head=None if head == _head(before) else head,
        services=services,
        instances=instances,
        records=_changed_records(before.records, after.records),
        peers=_changes(before.peers, after.peers),
    )


def apply_difference(environment: Environment, difference: Difference) -> Environment:
    """What ``difference`` makes of ``environment``. Raises `Invalid` and `Conflict`, also if it is not one of that."""
    if (difference.id, difference.before) != (environment.id, environment.revision):
        raise Invalid(
            f"a difference to revision {difference.before} of {difference.id!r} cannot be applied to revision"
            f" {environment.revision} of {environment.id!r}",
            field="before",
        )
    fields: dict[str, Any] = {"revision": difference.revision}
    if difference.head:
        fields |= asdict(difference.head)
    if difference.services or difference.instances:
        fields["services"] = _apply_services(environment.services, difference)
    if difference.records:
        fields["records"] = _apply_records(environment.records, difference.records)
    if difference.peers:
        fields["peers"] = _apply_changes(environment.peers, difference.peers)
    return revise_environment(environment, **fields)


def encode(difference: Difference) -> bytes:
    """``difference`` as JSON."""
    return _encoder.encode(difference)


def decode(written: bytes) -> Difference:
    """The difference that ``written`` holds. Raises `Invalid`, naming the field and the rule."""
    try:
        return _decoder.decode(written)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec does not convert the latter
        raise Invalid(f"not a difference of two revisions that this release can read: {error}") from None


def next_digest(before: str, written: bytes) -> str:
    """The digest of the revision that the difference ``written`` makes of the one with the digest ``before``."""
    return document.digest(before.encode() + b" " + written)


def _head(environment: Environment) -> Head:
    return Head(
        environment.network,
        environment.schema,
        environment.enabled,
        environment.isolated,
        environment.last_subnet,
        environment.last_peer,
    )


def _service_head(service: Service) -> ServiceHead:
    return ServiceHead(service.subnet, service.ports, service.former_names, service.last_number)


def _changes(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> dict[Any, Any]:
    """The keys of ``after`` with other values than ``before`` has, and those that are gone, with None."""
    if after is before:
        return {}
    changed = {key: value for key, value in after.items() if (old := before.get(key)) is not value and old != value}
    if len(after) != len(before) + sum(key not in before for key in changed):
        changed |= dict.fromkeys(before.keys() - after.keys())
    return changed


def _changed_records(
    before: Mapping[str, Mapping[RecordType, RecordSet]], after: Mapping[str, Mapping[RecordType, RecordSet]]
) -> Records:
    if after is before:
        return {}
    nothing: Mapping[RecordType, RecordSet] = {}
    changed = {
        name: found
        for name, sets in after.items()
        if (old := before.get(name, nothing)) is not sets and (found := _changes(old, sets))
    }
    return changed | {name: dict.fromkeys(before[name]) for name in before if name not in after}


def _apply_services(before: Mapping[str, Service], difference: Difference) -> dict[str, Service]:
    services = dict(before)
    for name in {**difference.services, **difference.instances}:
        old, head, changes = services.get(name), difference.services.get(name), difference.instances.get(name, {})
        if head is None and name in difference.services:
            services.pop(name, None)
        elif old is not None:
            fields: dict[str, Any] = asdict(head) if head else {}
            if changes:
                fields["instances"] = _apply_changes(old.instances, changes)
            services[name] = revise_service(old, changes, **fields)
        elif head is not None:
            services[name] = Service(**asdict(head), instances=_apply_changes({}, changes))
        else:
            raise Invalid(f"there is no service {name!r}, whose instances are to change", field="instances")
    return services


def _apply_records(
    before: Mapping[str, Mapping[RecordType, RecordSet]], changes: Records
) -> dict[str, Mapping[RecordType, RecordSet]]:
    records = dict(before)
    nothing: Mapping[RecordType, RecordSet] = {}
    for name, sets in changes.items():
        if left := _apply_changes(records.get(name, nothing), sets):
            records[name] = left
        else:
            records.pop(name, None)
    return records


def _apply_changes(before: Mapping[Any, Any], changes: Mapping[Any, Any]) -> dict[Any, Any]:
    after = dict(before)
    for key, value in changes.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return after


_encoder = msgspec.json.Encoder(enc_hook=document.encode_value)
_decoder = msgspec.json.Decoder(Difference, dec_hook=document.decode_value)
