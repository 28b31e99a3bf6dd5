"""The ways to and from a host's device and workloads as they are, and the steps from there to what is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.plan.wanted import Wanted
from zones.addresses import Address


@dataclass(frozen=True, slots=True)
class Routes:
    """The device's state and addresses, whether the platform's prefix leads to it, the workloads' links and addresses.

    ``interfaces`` are those of workloads that are up; ``workloads`` has those that have both a route and a neighbour
    that is known.
    """

    is_up: bool = False
    addresses: frozenset[Address] = frozenset()
    has_prefix: bool = False
    interfaces: frozenset[str] = frozenset()
    workloads: Mapping[str, Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Give the device one address more."""

    address: Address


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Take one from it."""

    address: Address


@dataclass(frozen=True, slots=True)
class RoutePrefix:
    """Send all that is the platform's, and is not a workload's here, to the device."""


@dataclass(frozen=True, slots=True)
class OpenWorkload:
    """Send what is for ``address`` to ``interface``."""

    interface: str
    address: Address


@dataclass(frozen=True, slots=True)
class CloseWorkload:
    """Send nothing for ``address`` there any more."""

    interface: str
    address: Address


RouteStep = AddAddress | RemoveAddress | RoutePrefix | OpenWorkload | CloseWorkload


def after(actual: Routes, steps: Iterable[RouteStep]) -> Routes:
    """What ``actual`` is once ``steps`` have been taken."""
    addresses, workloads, has_prefix = set(actual.addresses), dict(actual.workloads), actual.has_prefix
    for step in steps:
        match step:
            case AddAddress(address):
                addresses.add(address)
            case RemoveAddress(address):
                addresses.discard(address)
            case RoutePrefix():
                has_prefix = True
            case OpenWorkload(interface, address):
                workloads[interface] = address
            case CloseWorkload(interface, _):
                workloads.pop(interface, None)
    return replace(actual, addresses=frozenset(addresses), has_prefix=has_prefix, workloads=workloads)


def diff(wanted: Wanted, actual: Routes) -> list[RouteStep]:
    """What is to be done to ``actual``. A workload whose link is gone has no way that could be made."""
    steps: list[RouteStep] = [
        CloseWorkload(interface, address)
        for interface, address in actual.workloads.items()
        if wanted.workloads.get(interface) != address
    ]
    steps += [RemoveAddress(address) for address in actual.addresses - wanted.addresses]
    steps += [AddAddress(address) for address in wanted.addresses - actual.addresses]
    if not actual.has_prefix:
        steps.append(RoutePrefix())
    steps += [
        OpenWorkload(interface, address)
        for interface, address in wanted.workloads.items()
        if interface in actual.interfaces and actual.workloads.get(interface) != address
    ]
    return steps
