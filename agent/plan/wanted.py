"""What a host should be like, whole: its tunnel, its addresses, who may pass, and its workloads. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from zones.addresses import Address
from zones.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Peer:
    """A WireGuard peer. ``endpoint`` is None where the peer is the one to call; ``keepalive`` in seconds, 0 for none.

    Each of ``allowed_ips`` is one address: an instance's, or an external peer's.
    """

    endpoint: str | None
    allowed_ips: frozenset[Address]
    keepalive: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that a host should be.

    ``addresses`` are the device's own: the resolver's, and those of the environments that this host is a gateway of.
    ``resolvers`` says who may ask which of them. ``networks`` are the environments that have a way by this host.
    ``workloads`` gives the one address of each workload by the interface that leads to it.
    """

    peers: Mapping[PublicKey, Peer] = field(default_factory=dict)
    addresses: frozenset[Address] = frozenset()
    networks: frozenset[IPv6Network] = frozenset()
    resolvers: frozenset[tuple[IPv6Network, Address]] = frozenset()
    workloads: Mapping[str, Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something that the store holds and that is kept from the system: ``what`` it is, and why."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"
