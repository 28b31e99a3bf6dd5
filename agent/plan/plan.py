"""From what the store holds to what this host should have. Pure, and quick enough to run anew for every commit.

    plan(environments, hosts, me, platform, workloads)  ->  Plan

What one environment adds to the plan, its share, depends on that environment's document alone, and a document never
changes in place. So a share is computed once and kept for as long as the document is; that of the next revision is made
of it by what the two have otherwise (`agent.plan.shares`). To put the shares together takes one union of address sets
for each host, of which those that have not changed are the same objects as before.

A *fresh* workload is planned before a document has it, unless one has given its address to another instance meanwhile:
then all clients, those here too, must find the same workload there. Where two workloads have one address, the document
says whose it is, and until there is one that does, neither is planned.

What could let one environment's traffic reach another is left out of the plan and named in a `Rejection`: an address
outside its environment's network, an address that two claim, a peer with this host's key or with another host's, a
link that two workloads name or that belongs to another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from agent.plan.shares import Shares
from agent.plan.wanted import AddressChange, Peer, Rejection, Wanted
from zones.addresses import Address, Platform, resolver_address
from zones.hosts import Host
from zones.keys import PublicKey
from zones.model import Environment
from zones.names import EnvironmentId

NAT_KEEPALIVE = 25  # seconds; below the half minute after which common NATs forget a mapping (RFC 4787, wg(8))

_NO_ADDRESS = frozenset[Address]()
_NO_ADDRESSES: list[frozenset[Address]] = []


@dataclass(frozen=True, slots=True)
class LocalWorkload:
    """A workload that is attached to this host."""

    link: str
    """The host's end of the workload's veth."""
    mac: str
    """The MAC address of the workload's end."""
    environment: EnvironmentId
    """The environment that the workload belongs to."""
    address: Address
    """The address that the workload was given."""
    owner: str
    """The key of the workload's attachment, which its link must belong to."""
    is_fresh: bool = False
    """Whether no document with the workload has been published to this host yet: it is being attached just now."""

    @property
    def instance(self) -> str:
        """The id of its instance."""
        return self.owner.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the host should have, and what was left out of that."""

    wanted: Wanted
    """All that the host should have."""
    rejected: tuple[Rejection, ...]
    """What the store holds and the plan leaves out."""


def plan(
    environments: Mapping[EnvironmentId, Environment],
    hosts: Mapping[str, Host],
    me: Host,
    platform: Platform,
    workloads: Iterable[LocalWorkload] = (),
    shares: Shares | None = None,
    owners: Mapping[str, str] | None = None,
) -> Plan:
    """What the host ``me`` should have, given the environments that have a member on it.

    ``hosts`` are all registered hosts by id, ``workloads`` those that are attached to ``me``, and ``owners`` has the
    keys of the attachments that the links of ``me`` were made for, as far as the links tell. An environment that is
    switched off adds nothing.
    """
    shares = shares or Shares()
    enabled = {id_: environment for id_, environment in environments.items() if environment.enabled}
    peers = _Peers(me, shares)
    gateways: set[IPv6Network] = set()
    local: dict[EnvironmentId, frozenset[Address]] = {}
    for id_, environment in enabled.items():
        share = shares.of(environment)
        local[id_] = share.by_host.get(me.id, frozenset())
        peers.rejected += share.rejected
        for host, addresses in share.by_host.items():
            peers.add_host(host, addresses, share.changes.get(host))
        for key, address, gateway in share.external:
            if gateway == me.id:
                gateways.add(environment.network)
                peers.add_external(key, address)
            else:
                peers.add_host(gateway, frozenset((address,)))
    networks = frozenset(environment.network for environment in enabled.values())
    resolvers = {(network, platform.resolver) for network in networks}
    resolvers |= {(network, resolver_address(network)) for network in gateways}
    wanted = Wanted(
        peers=peers.registered(hosts),
        addresses=frozenset(address for _, address in resolvers) | {platform.resolver},
        networks=networks,
        resolvers=frozenset(resolvers),
        workloads={
            workload.link: workload.address
            for workload in _entitled(_owning(workloads, owners or {}, peers.rejected), local, shares, me.id)
        },
    )
    return Plan(wanted, tuple(peers.rejected))


@dataclass(slots=True)
class _Peers:
    """The peers of ``me``, put together environment by environment."""

    me: Host
    """The host that the plan is for."""
    shares: Shares
    """Keeps the unions of addresses."""
    at_host: dict[str, list[frozenset[Address]]] = field(default_factory=dict)
    """The addresses at each other host, one set for each environment."""
    changes: dict[str, list[AddressChange | None]] = field(default_factory=dict)
    """What each of these sets has otherwise than before."""
    external: dict[PublicKey, set[Address]] = field(default_factory=dict)
    """The addresses of each external peer whose gateway is ``me``."""
    rejected: list[Rejection] = field(default_factory=list)
    """What has been left out so far."""

    def add_host(self, host: str, addresses: frozenset[Address], change: AddressChange | None = None) -> None:
        if host != self.me.id:
            self.at_host.setdefault(host, []).append(addresses)
            self.changes.setdefault(host, []).append(change)

    def add_external(self, key: PublicKey, address: Address) -> None:
        self.external.setdefault(key, set()).add(address)

    def registered(self, hosts: Mapping[str, Host]) -> dict[PublicKey, Peer]:
        own = {self.me.public_key, self.me.next_public_key}
        keepalive = NAT_KEEPALIVE if self.me.behind_nat else 0
        peers: dict[PublicKey, Peer] = {}
        for id_ in sorted(self.at_host):  # sorted, so that of two hosts with one key always the same one is taken
            host = hosts.get(id_)
            if host is None:
                continue  # not registered yet, or gone: it has no endpoint
            for key, addresses in ((host.public_key, self.at_host[id_]), (host.next_public_key, _NO_ADDRESSES)):
                if key is None:
                    continue
                if key in own or key in peers:
                    owner = "this host" if key in own else "another host"
                    self.rejected.append(Rejection(f"host {id_}", f"its public key is that of {owner}"))
                    continue
                # The next key is not in use yet: a handshake with it would fail, and hold back the one that succeeds.
                seconds = keepalive if key == host.public_key else 0
                allowed, change = frozenset[Address](), None
                if addresses:
                    allowed, change = self.shares.union(id_, addresses, self.changes[id_])
                peers[key] = Peer(host.endpoint, allowed, seconds, host.behind_nat, change)
        for key, own_addresses in self.external.items():
            if key in own or key in peers:
                self.rejected.append(Rejection(f"external peer {key}", "its public key is that of a host"))
                continue
            peers[key] = Peer(None, frozenset(own_addresses))
        return peers


def _owning(
    workloads: Iterable[LocalWorkload], owners: Mapping[str, str], rejected: list[Rejection]
) -> Iterator[LocalWorkload]:
    """Those of ``workloads`` that have a link of their own; the others are added to ``rejected``."""
    by_link: dict[str, list[LocalWorkload]] = {}
    for workload in workloads:
        by_link.setdefault(workload.link, []).append(workload)
    for link, claimants in by_link.items():
        entitled = [one for one in claimants if owners.get(link, one.owner) == one.owner]
        for workload in claimants:
            if entitled == [workload]:
                yield workload
                continue
            others = {owners[link]} if link in owners else {one.owner for one in claimants}
            named = ", ".join(sorted(others - {workload.owner})) or "the same workload once more"
            rejected.append(Rejection(f"workload {workload.owner}", f"its link {link} is that of {named}"))


def _entitled(
    workloads: Iterable[LocalWorkload], local: Mapping[EnvironmentId, frozenset[Address]], shares: Shares, me: str
) -> Iterator[LocalWorkload]:
    """Those of ``workloads`` that are to have their addresses; ``local`` are the addresses of the host ``me``."""
    known = list(workloads)
    claims = Counter(workload.address for workload in known)
    for one in known:
        id_, address = one.environment, one.address
        if shares.has(id_, address):
            is_here = address in local.get(id_, _NO_ADDRESS)
            is_not_yet_here = one.is_fresh and not shares.is_elsewhere(id_, address, me)
            if (is_here or is_not_yet_here) and not shares.is_of_another(id_, address, one.instance):
                yield one
        elif one.is_fresh and claims[address] == 1:
            yield one
