"""Revising: an environment or a service with some of its fields replaced, of which only what is new is checked.

`msgspec.structs.replace` checks the whole value, which takes as long as it is large. Most of a revision is the revision
before it, object for object, and that was checked when it was made. So the functions here look at what is not. Where
they cannot tell by that alone that the value is valid, it is checked as a whole, which also finds the words for what is
wrong with it.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import copy
from operator import attrgetter, countOf
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import force_setattr

from zones import names
from zones.addresses import Address, contains, subnet_number
from zones.model import MAX_REVISION, Environment, Service, check_peers, check_ports, check_records, owner_of_record

FEW = 4  # addresses that are looked for one by one; for more of them, one set of all addresses is faster

T = TypeVar("T", bound=Struct)

_address = attrgetter("address")


def revise_service(service: Service, changed: Collection[str] = (), **fields: Any) -> Service:
    """``service`` with ``fields`` instead of its own; its instances differ in those with the ids ``changed`` alone.

    Raises `Invalid` and `Conflict`, as `Service` does.
    """
    made = _with(service, fields)
    if not _is_valid_service(service, made, changed):
        made.__post_init__()
    return made


def revise_environment(environment: Environment, **fields: Any) -> Environment:
    """``environment`` with ``fields`` instead of its own, whose values are the same objects where nothing has changed.

    Raises `Invalid` and `Conflict`, as `Environment` does.
    """
    made = _with(environment, fields)
    if not _is_valid_environment(environment, made):
        made.__post_init__()
    return made


def _with(value: T, fields: dict[str, Any]) -> T:
    made = copy(value)  # which calls no __post_init__
    for name, field in fields.items():
        force_setattr(made, name, field)
    return made


def _is_valid_service(before: Service, after: Service, changed: Collection[str]) -> bool:
    """Whether ``after`` is surely valid, where ``before`` is."""
    if after.subnet is not before.subnet and after.subnet != before.subnet:
        return False
    if after.ports is not before.ports:
        check_ports(after)
    if after.former_names is not before.former_names:
        for name in after.former_names:
            names.check_service_name(name)
    present = [id_ for id_ in changed if id_ in after.instances]
    names.check_instance_ids(present)
    given = [after.instances[id_].address for id_ in present if _has_new_address(before, after, id_)]
    return all(contains(after.subnet, address) for address in given) and _are_free(given, after)


def _has_new_address(before: Service, after: Service, id_: str) -> bool:
    old = before.instances.get(id_)
    return old is None or old.address != after.instances[id_].address


def _are_free(given: list[Address], service: Service) -> bool:
    """Whether no two instances of ``service`` have one address; ``given`` are those that may be taken."""
    if not given:
        return True
    instances = service.instances
    if len(given) < FEW:
        return all(countOf(map(_address, instances.values()), address) == 1 for address in given)
    return len(set(map(_address, instances.values()))) == len(instances)


def _is_valid_environment(before: Environment, after: Environment) -> bool:
    """Whether ``after`` is surely valid, where ``before`` is."""
    if after.network != before.network or (after.id, after.schema) != (before.id, before.schema):
        return False
    if not 1 <= after.revision <= MAX_REVISION:
        return False
    named = [name for name, service in after.services.items() if _has_new_names(name, service, before)]
    if named and not _are_own(named, after):
        return False
    if after.records is not before.records:
        new = [name for name, sets in after.records.items() if before.records.get(name) is not sets]
        taken = _names_of_services(after) if new else ()
        for name in new:
            check_records(after, name, after.records[name], taken)
    if after.peers is not before.peers:
        check_peers(after)
    return True


def _has_new_names(name: str, service: Service, before: Environment) -> bool:
    """Whether ``service`` has a name, a former name or a subnet that the service of its name had not before."""
    old = before.services.get(name)
    if old is service:
        return False
    return old is None or old.former_names != service.former_names or old.subnet != service.subnet


def _are_own(named: list[str], environment: Environment) -> bool:
    """Whether the services ``named`` share neither a name nor a subnet with any other, and no record stands in them."""
    services = environment.services
    claimed = [
        *services,
        *(old for service in services.values() if service.former_names for old in service.former_names),
    ]
    numbers = [subnet_number(service.subnet) for service in services.values()]
    new = set[str]()
    for name in named:
        names.check_service_name(name)
        subnet = services[name].subnet
        number = subnet_number(subnet)
        if not contains(environment.network, Address(subnet.network_address.packed)) or not number:
            return False
        if numbers.count(number) > 1:
            return False
        new |= {name, *services[name].former_names}
    if any(claimed.count(name) > 1 for name in new):
        return False
    return not any(owner_of_record(record) in new for record in environment.records)


def _names_of_services(environment: Environment) -> set[str]:
    former = (old for service in environment.services.values() for old in service.former_names)
    return {*environment.services, *former}
