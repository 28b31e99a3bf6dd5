"""Addresses, routes and neighbours of the host's device and workloads as they are, and the steps to what is wanted.

diff(wanted, actual routes)   ->  steps        empty where nothing is to be done
after(actual routes, steps)   ->  the routes that the host has then
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.plan.wanted import Wanted
from zones.addresses import Address


@dataclass(frozen=True, slots=True)
class Routes:
    """What the host has of the agent's links, addresses and routes."""

    is_up: bool = False
    """Whether the WireGuard device exists and is up."""
    addresses: frozenset[Address] = frozenset()
    """The device's own addresses."""
    has_prefix: bool = False
    """Whether the platform's prefix is routed to the device."""
    links: frozenset[str] = frozenset()
    """The host's ends of workloads' veths that are up, and whose MTU lets them carry IPv6."""
    workloads: Mapping[str, Address] = field(default_factory=dict)
    """The address that is routed to each such link; a link is left out where its neighbour entry is missing."""
    mtu: int = 0
    """The WireGuard device's MTU in octets; 0 where there is no device."""
    owners: Mapping[str, str] = field(default_factory=dict)
    """The key of the attachment that each workload's link was made for, as far as the links tell."""
    ungrouped: frozenset[str] = frozenset()
    """Those of the device and the workloads' links that are not in the agent's group: the firewall lets nothing pass
    between them and others."""


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add an address to the device."""

    address: Address
    """The address to add."""


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Remove an address from the device."""

    address: Address
    """The address to remove."""


@dataclass(frozen=True, slots=True)
class RoutePrefix:
    """Route the platform's prefix to the device; the more specific routes of this host's workloads stay."""


@dataclass(frozen=True, slots=True)
class AddWorkload:
    """Route ``address`` to ``link``, and add the neighbour entry for it."""

    link: str
    """The host's end of the workload's veth."""
    address: Address
    """The workload's address."""


@dataclass(frozen=True, slots=True)
class RemoveWorkload:
    """Remove the route of ``address`` to ``link``."""

    link: str
    """The host's end of the workload's veth."""
    address: Address
    """The address that is routed to it."""


RouteStep = AddAddress | RemoveAddress | RoutePrefix | AddWorkload | RemoveWorkload


def diff(wanted: Wanted, actual: Routes) -> list[RouteStep]:
    """The steps that make ``actual`` as ``wanted``. Nothing is routed to a workload whose link is gone or down."""
    steps: list[RouteStep] = [
        RemoveWorkload(link, address)
        for link, address in actual.workloads.items()
        if wanted.workloads.get(link) != address
    ]
    steps += [RemoveAddress(address) for address in actual.addresses - wanted.addresses]
    steps += [AddAddress(address) for address in wanted.addresses - actual.addresses]
    if not actual.has_prefix:
        steps.append(RoutePrefix())
    steps += [
        AddWorkload(link, address)
        for link, address in wanted.workloads.items()
        if link in actual.links and actual.workloads.get(link) != address
    ]
    return steps


def without(actual: Routes, link: str) -> Routes:
    """``actual`` once ``link`` has been removed, with all that was routed to it."""
    return replace(
        actual,
        links=actual.links - {link},
        workloads={name: address for name, address in actual.workloads.items() if name != link},
        owners={name: owner for name, owner in actual.owners.items() if name != link},
    )


def after(actual: Routes, steps: Iterable[RouteStep]) -> Routes:
    """``actual`` once ``steps`` have been taken."""
    addresses, workloads, has_prefix = set(actual.addresses), dict(actual.workloads), actual.has_prefix
    for step in steps:
        match step:
            case AddAddress(address):
                addresses.add(address)
            case RemoveAddress(address):
                addresses.discard(address)
            case RoutePrefix():
                has_prefix = True
            case AddWorkload(link, address):
                workloads[link] = address
            case RemoveWorkload(link, _):
                workloads.pop(link, None)
    return replace(actual, addresses=frozenset(addresses), has_prefix=has_prefix, workloads=workloads)
