"""What each environment adds to the plan of a host: its share, made anew only where the environment has changed.

A revision has all that it has not changed in common with the one before, object by object. So its share is made of the
one before, by the difference of the two, and a host that has an environment of ten thousand instances plans the next
one as quickly as in an environment of ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import ref

from agent.plan.wanted import AddressChange, Rejection
from zones import parts
from zones.addresses import Address
from zones.keys import PublicKey
from zones.model import Environment
from zones.names import EnvironmentId
from zones.parts import Touched

NETWORK_OCTETS = 6  # of an environment's /48


@dataclass(frozen=True, slots=True)
class Share:
    """What one environment adds to the plan."""

    by_host: Mapping[str, frozenset[Address]]
    """The addresses of the environment's instances on each host, by the host's id."""
    external: tuple[tuple[PublicKey, Address, str], ...]
    """Key, address and gateway host of each external peer."""
    rejected: tuple[Rejection, ...]
    """The instances and external peers that are left out."""
    changes: Mapping[str, AddressChange] = field(default_factory=dict, compare=False, repr=False)
    """What ``by_host`` has otherwise than before, by host; where nothing is known, it was made anew."""


@dataclass(slots=True)
class _Known:
    environment: Environment
    share: Share
    owners: dict[Address, str]  # who has each address of ``share``; it goes on to the next revision


@dataclass(slots=True)
class Shares:
    """The shares of environments, each computed once for each document."""

    _known: dict[EnvironmentId, _Known] = field(default_factory=dict)
    _unions: dict[str, tuple[Sequence[frozenset[Address]], frozenset[Address]]] = field(default_factory=dict)

    def of(self, environment: Environment) -> Share:
        """The share of ``environment``; an older document of the same id is forgotten."""
        known = self._known.get(environment.id)
        if known is None or known.environment is not environment:
            known = self._known[environment.id] = (known and _next(known, environment)) or _share(environment)
        return known.share

    def is_elsewhere(self, id_: EnvironmentId, address: Address, me: str) -> bool:
        """Whether the newest document of the environment ``id_`` has ``address`` on another host than ``me``."""
        known = self._known.get(id_)
        return known is not None and any(
            address in addresses for host, addresses in known.share.by_host.items() if host != me
        )

    def has(self, id_: EnvironmentId, address: Address) -> bool:
        """Whether anybody has ``address`` in the newest document of the environment ``id_``."""
        known = self._known.get(id_)
        return known is not None and address in known.owners

    def is_of_another(self, id_: EnvironmentId, address: Address, instance: str) -> bool:
        """Whether ``address`` is that of another instance there than ``instance``, whatever its service is called."""
        known = self._known.get(id_)
        owner = known.owners.get(address) if known else None
        return owner is not None and not owner.startswith(f"instance {instance}.")

    def union(
        self, host: str, addresses: Sequence[frozenset[Address]], changes: Sequence[AddressChange | None] = ()
    ) -> tuple[frozenset[Address], AddressChange | None]:
        """All ``addresses`` at ``host``, and what has changed of them, where that is known.

        They are the same object as before, if ``addresses`` are the same objects. ``changes`` are those of each.
        """
        if len(addresses) == 1:
            return addresses[0], changes[0] if changes else None
        before = self._unions.get(host)
        if before and len(before[0]) == len(addresses):
            others = [at for at, (old, new) in enumerate(zip(before[0], addresses, strict=True)) if old is not new]
            if not others:
                return before[1], None
            change = changes[others[0]] if changes and len(others) == 1 else None
            if change and change.before() is before[0][others[0]]:
                # No two of the sets have an address in common, for each is of another environment.
                union = _changed(before[1], change.gone, change.come)
                self._unions[host] = addresses, union
                return union, AddressChange(ref(before[1]), ref(union), change.gone, change.come)
        union = frozenset[Address]().union(*addresses)
        self._unions[host] = addresses, union
        return union, None

    def retain(self, ids: Iterable[EnvironmentId]) -> None:
        """Forgets the shares of all environments but ``ids``."""
        for id_ in self._known.keys() - set(ids):
            del self._known[id_]


def _share(environment: Environment) -> _Known:
    network = _network(environment)
    owners: dict[Address, str] = {}
    by_host: dict[str, list[Address]] = {}
    external: list[tuple[PublicKey, Address, str]] = []
    rejected: list[Rejection] = []

    def claim(address: Address, owner: str) -> bool:
        # The model's checks refuse both already. This is the last place before the system, so it checks again.
        if address[:NETWORK_OCTETS] != network:
            rejected.append(Rejection(owner, f"its address {address} is outside {environment.network}"))
            return False
        if (other := owners.setdefault(address, owner)) != owner:
            rejected.append(Rejection(owner, f"its address {address} is that of {other}"))
            return False
        return True

    for name, service in environment.services.items():
        for id_, instance in service.instances.items():
            if claim(instance.address, _owner(environment, name, id_)) and instance.host is not None:
                by_host.setdefault(instance.host, []).append(instance.address)
    for id_, peer in environment.peers.items():
        if claim(peer.address, f"external peer {id_} of {environment.id}"):
            external.append((peer.public_key, peer.address, peer.gateway))
    share = Share({host: frozenset(found) for host, found in by_host.items()}, tuple(external), tuple(rejected))
    return _Known(environment, share, owners)


def _next(known: _Known, environment: Environment) -> _Known | None:
    """The share of ``environment``, which follows ``known``; None where it must be made anew."""
    before, share, owners = known.environment, known.share, known.owners
    difference = parts.difference(before, environment)
    if share.rejected or difference.peers or before.network != environment.network:
        return None  # these are rare, and one address may decide about another one
    changes = list(Touched.by([difference]).each_instance(before, environment))
    gone: dict[str, set[Address]] = {}
    come: dict[str, set[Address]] = {}
    for owner, instance in [(_owner(before, name, id_), old) for name, id_, old, _ in changes if old]:
        if owners.pop(instance.address, owner) != owner:
            return None
        gone.setdefault(instance.host or "", set()).add(instance.address)
    for owner, instance in [(_owner(environment, name, id_), new) for name, id_, _, new in changes if new]:
        is_inside = instance.address[:NETWORK_OCTETS] == _network(environment)
        if not is_inside or owners.setdefault(instance.address, owner) != owner:
            return None
        come.setdefault(instance.host or "", set()).add(instance.address)
    by_host, known_changes = dict(share.by_host), dict[str, AddressChange]()
    for host in (gone.keys() | come.keys()) - {""}:
        went, came = gone.get(host, set()), come.get(host, set())
        if went == came:
            continue  # as of an instance that has become ready
        earlier = by_host.get(host, frozenset[Address]())
        left_here, come_here = frozenset(went - came), frozenset(came - went)
        now = by_host[host] = _changed(earlier, left_here, come_here)
        known_changes[host] = AddressChange(ref(earlier), ref(now), left_here, come_here)
        if not now:
            del by_host[host]
    return _Known(environment, Share(by_host, share.external, (), known_changes), owners)


def _changed(addresses: frozenset[Address], gone: frozenset[Address], come: frozenset[Address]) -> frozenset[Address]:
    """``addresses`` without those that are ``gone`` and with those that have ``come``."""
    # Each step copies the set, which takes a tenth of a millisecond where it has ten thousand members.
    left = addresses - gone if gone else addresses
    return left | come if come else left


def _network(environment: Environment) -> bytes:
    return environment.network.network_address.packed[:NETWORK_OCTETS]


def _owner(environment: Environment, service: str, id_: str) -> str:
    return f"instance {id_}.{service} of {environment.id}"
