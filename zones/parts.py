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

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from itertools import compress, islice
from operator import is_, is_not
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
        now = _service_head(service)
        if old is None or _service_head(old) != now:
            services[name] = now
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
    return apply_differences(environment, [difference])


def apply_differences(environment: Environment, differences: Sequence[Difference]) -> Environment:
    """What ``differences`` make of ``environment``, one after the other; it takes hardly longer than one of them.

    Raises `Invalid` and `Conflict`, also if one is not of the revision before it.
    """
    if not differences:
        return environment
    draft = _Draft(environment)
    for each in differences:
        draft.apply(each)
    return revise_environment(environment, **draft.fields())


@dataclass(frozen=True, slots=True)
class Touched:
    """The keys of all parts that some differences name."""

    services: frozenset[str]
    """The services of which any part was set or is gone."""
    instances: Mapping[str, frozenset[str]]
    """Service → the ids of the instances that were set or are gone."""
    records: frozenset[str]
    """The names of record sets."""
    anew: frozenset[str] = frozenset()
    """The services that were gone in between: those that are there are others, with the same names."""

    @classmethod
    def by(cls, differences: Sequence[Difference]) -> Touched:
        """What ``differences`` name."""
        instances: dict[str, frozenset[str]] = {}
        for each in differences:
            for name, changes in each.instances.items():
                instances[name] = instances.get(name, frozenset()) | changes.keys()
        return cls(
            frozenset(instances).union(*(each.services for each in differences)),
            instances,
            frozenset[str]().union(*(each.records for each in differences)),
            frozenset(name for each in differences for name, head in each.services.items() if head is None),
        )

    def instances_of(self, name: str, before: Service | None, after: Service | None) -> Collection[str]:
        """The ids of the instances by which ``before`` and ``after``, the service ``name``, may differ."""
        if before is None or after is None or name in self.anew:
            return {*(before.instances if before else ()), *(after.instances if after else ())}
        return self.instances.get(name, ())

    def each_instance(
        self, before: Environment, after: Environment
    ) -> Iterator[tuple[str, str, Instance | None, Instance | None]]:
        """Service and id of each instance by which the two may differ, and the instance in each; None: not there."""
        for name in self.services:
            old, new = before.services.get(name), after.services.get(name)
            for id_ in self.instances_of(name, old, new):
                yield name, id_, old.instances.get(id_) if old else None, new.instances.get(id_) if new else None


def growth(before: Environment, difference: Difference) -> int:
    """By how many octets the document grows if ``difference`` follows ``before``; it may be some octets a part off."""
    grown = len(encode(difference)) - len(encode(Difference(difference.id, difference.before, difference.revision)))
    replaced = dict[str, Any](services={}, instances={}, records={}, peers={})
    for name, head in difference.services.items():
        if (old := before.services.get(name)) is not None:
            replaced["services"][name] = old if head is None else _service_head(old)
    for name, changes in difference.instances.items():
        if (old := before.services.get(name)) is not None:
            replaced["instances"][name] = {id_: old.instances[id_] for id_ in changes if id_ in old.instances}
    for name, sets in difference.records.items():
        present = before.records.get(name, {})
        replaced["records"][name] = {rtype: present[rtype] for rtype in sets if rtype in present}
    replaced["peers"] = {id_: before.peers[id_] for id_ in difference.peers if id_ in before.peers}
    return grown - len(_encoder.encode({key: value for key, value in replaced.items() if value}))


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
    if len(after) >= len(before) and all(map(is_, before, after)):  # as a copy to which some keys were added
        keys = [*compress(after, map(is_not, after.values(), before.values())), *islice(after, len(before), None)]
    else:
        keys = list(after)
    changed = {key: after[key] for key in keys if before.get(key) != after[key]}
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


class _Draft:
    """An environment to which differences are being applied. It is checked once, after the last one."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._revision = environment.revision
        self._head: Head | None = None
        self._services: dict[str, _ServiceDraft | None] = {}  # those that were named; None: gone
        self._records: dict[str, dict[RecordType, RecordSet]] = {}
        self._peers: dict[str, Peer | None] = {}

    def apply(self, difference: Difference) -> None:
        id_ = self._environment.id
        if (difference.id, difference.before) != (id_, self._revision):
            raise Invalid(
                f"a difference to revision {difference.before} of {difference.id!r} cannot be applied to revision"
                f" {self._revision} of {id_!r}",
                field="before",
            )
        self._revision = difference.revision
        self._head = difference.head or self._head
        for name, head in difference.services.items():
            if head is None:
                self._services[name] = None
            elif (service := self._service(name)) is not None:
                service.head = head
            else:
                self._services[name] = _ServiceDraft(None, head, {})
        for name, changes in difference.instances.items():
            service = self._service(name)
            if service is None:
                raise Invalid(f"there is no service {name!r}, whose instances are to change", field="instances")
            _change(service.instances, changes)
            service.changed |= changes.keys()
        for relative, sets in difference.records.items():
            if relative not in self._records:
                self._records[relative] = dict(self._environment.records.get(relative, {}))
            _change(self._records[relative], sets)
        self._peers |= difference.peers

    def fields(self) -> dict[str, Any]:
        environment = self._environment
        fields: dict[str, Any] = {"revision": self._revision}
        if self._head:
            fields |= asdict(self._head)
        if self._services:
            made = {name: service and service.made() for name, service in self._services.items()}
            fields["services"] = _change(dict(environment.services), made)
        if self._records:
            left = {name: sets or None for name, sets in self._records.items()}
            fields["records"] = _change(dict(environment.records), left)
        if self._peers:
            fields["peers"] = _change(dict(environment.peers), self._peers)
        return fields

    def _service(self, name: str) -> _ServiceDraft | None:
        if name not in self._services:
            before = self._environment.services.get(name)
            if before is None:
                return None
            self._services[name] = _ServiceDraft(before, None, dict(before.instances))
        return self._services[name]


@dataclass(slots=True)
class _ServiceDraft:
    before: Service | None  # None: it is new
    head: ServiceHead | None  # None: that of before
    instances: dict[str, Instance]
    changed: set[str] = field(default_factory=set)  # the ids of the instances that were named

    def made(self) -> Service:
        fields: dict[str, Any] = asdict(self.head) if self.head else {}
        if self.before is None:
            return Service(**fields, instances=self.instances)
        if self.changed:
            fields["instances"] = self.instances
        return revise_service(self.before, self.changed, **fields)


def _change(values: dict[Any, Any], changes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Sets in ``values`` what ``changes`` has, and removes what is None there."""
    for key, value in changes.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
    return values


_encoder = msgspec.json.Encoder(enc_hook=document.encode_value)
_decoder = msgspec.json.Decoder(Difference, dec_hook=document.decode_value)
