"""All that a host should have: WireGuard peers, addresses, members of the firewall's sets, workloads. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from weakref import ReferenceType

from zones.addresses import Address
from zones.keys import PublicKey


@dataclass(frozen=True, slots=True)
class AddressChange:
    """What a set of addresses has otherwise than the one before it."""

    before: ReferenceType[frozenset[Address]]
    """The set before, for as long as somebody has it. To others the rest says nothing."""
    after: ReferenceType[frozenset[Address]]
    """The set that has changed so."""
    gone: frozenset[Address]
    """The addresses that the set before has and this one has not."""
    come: frozenset[Address]
    """The addresses that this set has and the one before has not."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A WireGuard peer as it should be."""

    endpoint: str | None
    """Where the peer's host listens, ``address:port``; None where only the peer can begin a handshake."""
    allowed_ips: frozenset[Address]
    """The single addresses behind the peer: its host's instances, or the external peer's own address."""
    keepalive: int = 0
    """Seconds between two keepalives; 0 for none."""
    is_behind_nat: bool = False
    """Whether the peer is a host that begins with all others, and whose endpoint is good on its own site alone."""
    change: AddressChange | None = field(default=None, compare=False, repr=False)
    """What ``allowed_ips`` has otherwise than the set of the plan before; None where nobody knows, or nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that a host should have."""

    peers: Mapping[PublicKey, Peer] = field(default_factory=dict)
    """The WireGuard peers by their public keys."""
    addresses: frozenset[Address] = frozenset()
    """The device's own addresses: the resolver's, and one for each environment that this host is a gateway of."""
    networks: frozenset[IPv6Network] = frozenset()
    """The networks of the environments whose members may reach each other by this host."""
    resolvers: frozenset[tuple[IPv6Network, Address]] = frozenset()
    """Which environment's network may query which of the device's addresses."""
    workloads: Mapping[str, Address] = field(default_factory=dict)
    """The address of each workload of this host, by the host's end of its veth."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something that the store holds and that the plan leaves out, because it could mix up two owners' traffic."""

    what: str
    """The host, instance or external peer that is left out."""
    reason: str
    """The rule that it breaks."""

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"
