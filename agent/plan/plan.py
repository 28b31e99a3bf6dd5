"""From what is true to what this host should be. Pure, and quick enough to do anew for every commit.

    plan(environments, hosts, me, platform, placed)  ->  Plan

An environment's share of the plan hangs on that environment alone, which never changes in place; so it is worked out
once and kept for as long as the environment is. Putting the shares together is a union for each host.

Nothing reaches the system that could turn one environment's traffic into another's: an address outside its
environment, one that two claim, a peer with our own key or with another host's. It is left out and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from agent.plan.wanted import Peer, Rejection, Wanted
from zones.addresses import Address, Platform, resolver_address
from zones.hosts import Host
from zones.keys import PublicKey
from zones.model import Environment
from zones.names import EnvironmentId

NETWORK_OCTETS = 6  # of an environment's /48

_NONE: list[frozenset[Address]] = []


@dataclass(frozen=True, slots=True)
class LocalWorkload:
    """A workload of this host: the interface that leads to it, and the address that it was given.

    ``is_fresh`` says that it was committed just now, and that no document with it has been heard of yet.
    """

    interface: str
    environment: EnvironmentId
    address: Address
    is_fresh: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted, and what was left out of it."""

    wanted: Wanted
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class _Share:
    """What one environment adds: the addresses at each host, and its external peers with their gateways."""

    by_host: Mapping[str, frozenset[Address]]
    external: tuple[tuple[PublicKey, Address, str], ...]
    rejected: tuple[Rejection, ...]


class Shares:
    """The shares of environments, each worked out once."""

    def __init__(self) -> None:
        self._known: dict[EnvironmentId, tuple[Environment, _Share]] = {}

    def of(self, environment: Environment) -> _Share:
        """The share of ``environment``, which takes the place of an older one of the same id."""
        known = self._known.get(environment.id)
        if known is None or known[0] is not environment:
            known = self._known[environment.id] = (environment, _share(environment))
        return known[1]

    def keep(self, ids: Iterable[EnvironmentId]) -> None:
        """Forgets all but ``ids``."""
        for id_ in self._known.keys() - set(ids):
            del self._known[id_]


def plan(
    environments: Mapping[EnvironmentId, Environment],
    hosts: Mapping[str, Host],
    me: Host,
    platform: Platform,
    placed: Iterable[LocalWorkload] = (),
    shares: Shares | None = None,
) -> Plan:
    """What the host ``me`` should be, given the environments that have a member on it.

    ``hosts`` are all that are registered, ``placed`` the workloads here. An environment that is switched off has no
    way at all.
    """
    shares = shares or Shares()
    there = {id_: environment for id_, environment in environments.items() if environment.enabled}
    peers = _Peers(me)
    gateways: set[IPv6Network] = set()
    here: dict[EnvironmentId, frozenset[Address]] = {}
    for id_, environment in there.items():
        share = shares.of(environment)
        here[id_] = share.by_host.get(me.id, frozenset())
        peers.rejected += share.rejected
        for host, addresses in share.by_host.items():
            peers.add_host(host, addresses)
        for key, address, gateway in share.external:
            if gateway == me.id:
                gateways.add(environment.network)
                peers.add_external(key, address)
            else:
                peers.add_host(gateway, frozenset((address,)))
    networks = frozenset(environment.network for environment in there.values())
    resolvers = {(network, platform.resolver) for network in networks}
    resolvers |= {(network, resolver_address(network)) for network in gateways}
    wanted = Wanted(
        peers=peers.known(hosts),
        addresses=frozenset(address for _, address in resolvers) | {platform.resolver},
        networks=networks,
        resolvers=frozenset(resolvers),
        workloads={
            one.interface: one.address
            for one in placed
            if one.is_fresh or one.address in here.get(one.environment, frozenset())
        },
    )
    return Plan(wanted, tuple(peers.rejected))


@dataclass(slots=True)
class _Peers:
    """The peers of ``me``, put together environment by environment."""

    me: Host
    at_host: dict[str, list[frozenset[Address]]] = field(default_factory=dict)
    external: dict[PublicKey, set[Address]] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)

    def add_host(self, host: str, addresses: frozenset[Address]) -> None:
        if host != self.me.id:
            self.at_host.setdefault(host, []).append(addresses)

    def add_external(self, key: PublicKey, address: Address) -> None:
        self.external.setdefault(key, set()).add(address)

    def known(self, hosts: Mapping[str, Host]) -> dict[PublicKey, Peer]:
        own = {self.me.public_key, self.me.next_public_key}
        peers: dict[PublicKey, Peer] = {}
        for id_ in sorted(self.at_host):  # in an order, so that of two that claim one key always the same one is taken
            host = hosts.get(id_)
            if host is None:
                continue  # it has not registered yet, or has left: there is no way to it
            for key, addresses in ((host.public_key, self.at_host[id_]), (host.next_public_key, _NONE)):
                if key is None:
                    continue
                if key in own or key in peers:
                    owner = "this host" if key in own else "another host"
                    self.rejected.append(Rejection(f"host {id_}", f"its public key is that of {owner}"))
                    continue
                peers[key] = Peer(host.endpoint, frozenset().union(*addresses))
        for key, own_addresses in self.external.items():
            if key in own or key in peers:
                self.rejected.append(Rejection(f"external peer {key}", "its public key is that of a host"))
                continue
            peers[key] = Peer(None, frozenset(own_addresses))
        return peers


def _share(environment: Environment) -> _Share:
    network = environment.network.network_address.packed[:NETWORK_OCTETS]
    owners: dict[Address, str] = {}
    by_host: dict[str, list[Address]] = {}
    external: list[tuple[PublicKey, Address, str]] = []
    rejected: list[Rejection] = []

    def claim(address: Address, owner: str) -> bool:
        # The model sees to both; here is where it would be too late.
        if address[:NETWORK_OCTETS] != network:
            rejected.append(Rejection(owner, f"its address {address} is outside {environment.network}"))
            return False
        if (other := owners.setdefault(address, owner)) != owner:
            rejected.append(Rejection(owner, f"its address {address} is that of {other}"))
            return False
        return True

    for name, service in environment.services.items():
        for id_, instance in service.instances.items():
            if claim(instance.address, f"instance {id_}.{name} of {environment.id}") and instance.host is not None:
                by_host.setdefault(instance.host, []).append(instance.address)
    for id_, peer in environment.peers.items():
        if claim(peer.address, f"external peer {id_} of {environment.id}"):
            external.append((peer.public_key, peer.address, peer.gateway))
    return _Share({host: frozenset(found) for host, found in by_host.items()}, tuple(external), tuple(rejected))
