"""The address plan (RFC 4193): which environment, service or instance has which network, subnet or address.

fd12::/16                   the platform
fd12:0:0::/48               the infrastructure; fd12::10 is the resolver on every host
fd12:EEEE:EEEE::/48         an environment: 32 random bits, never given to another environment
fd12:EEEE:EEEE:0::/64       the environment's own: ...::10 is its resolver address, external peers begin at ...::100
fd12:EEEE:EEEE:SSSS::/64    a service
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from zones.errors import Conflict, Invalid
from zones.names import Name

ENVIRONMENT_BITS = 48  # the prefix length of an environment's network
SERVICE_BITS = 64  # the prefix length of a service's subnet
RESOLVER_HOST_NUMBER = 0x10  # of a resolver address, in the infrastructure and in each environment
FIRST_PEER_NUMBER = 0x100  # lower host numbers are kept for the environment's own addresses
MAX_APEX = 64  # octets; leaves room for the names below it
LAST_SUBNET = 0xFFFF  # sixteen bits lie between the /48 and the /64

_PREFIX_LENGTHS = {str(bits): bits for bits in (ENVIRONMENT_BITS, SERVICE_BITS)}  # of the networks in documents


class Address(bytes):
    """An IPv6 address as its 16 octets: small, hashable, and ready to be sent."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that ``text`` writes (RFC 4291 §2.2). Raises `Invalid`."""
        try:
            return cls(socket.inet_pton(socket.AF_INET6, text))
        except (OSError, ValueError):
            raise Invalid(f"{text!r} is not an IPv6 address") from None

    def __str__(self) -> str:
        return socket.inet_ntop(socket.AF_INET6, self)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __int__(self) -> int:
        return int.from_bytes(self, "big")


@dataclass(frozen=True, slots=True)
class Platform:
    """The settings that all environments share."""

    prefix: IPv6Network = field(default=IPv6Network("fd12::/16"))
    """The network of all addresses, a /16."""
    apex: Name = field(default=Name.parse("railway.internal"))
    """The apex of the internal zone."""

    def __post_init__(self) -> None:
        if self.prefix.prefixlen != 16:
            raise Invalid(f"the platform prefix {self.prefix} is not a /16", field="prefix")
        if len(self.apex.labels) < 2:
            raise Invalid(f"the zone {self.apex} needs at least two labels", field="zone")
        if len(self.apex) > MAX_APEX:
            raise Invalid(f"the zone {self.apex} has {len(self.apex)} octets: use at most {MAX_APEX}", field="zone")

    @property
    def infrastructure(self) -> IPv6Network:
        """The /48 of the platform itself, which no environment gets."""
        return IPv6Network((int(self.prefix.network_address), ENVIRONMENT_BITS))

    @property
    def resolver(self) -> Address:
        """The address of the resolver on every host."""
        return resolver_address(self.infrastructure)

    def environment_network(self, bits: int) -> IPv6Network:
        """The /48 of an environment that drew the 32 random ``bits``. Raises `Invalid` for 0, the infrastructure's."""
        if not 0 < bits < 1 << 32:
            raise Invalid(f"an environment's network takes 32 random bits other than zero, not {bits}")
        base = int(self.prefix.network_address) | bits << (128 - ENVIRONMENT_BITS)
        return IPv6Network((base, ENVIRONMENT_BITS))


def resolver_address(network: IPv6Network) -> Address:
    """The address of the resolver in ``network``, a /48."""
    return _address(int(network.network_address) + RESOLVER_HOST_NUMBER)


def service_subnet(network: IPv6Network, number: int) -> IPv6Network:
    """The ``number``-th /64 (1 to 65535) of an environment's ``network``."""
    return IPv6Network((int(network.network_address) | number << (128 - SERVICE_BITS), SERVICE_BITS))


def subnet_number(subnet: IPv6Network) -> int:
    """The sixteen bits by which a service's ``subnet`` differs from its environment's network."""
    return int(subnet.network_address) >> (128 - SERVICE_BITS) & LAST_SUBNET


def next_subnet_number(last: int, taken: Collection[int]) -> int:
    """The first free number after ``last``, wrapping at the end, so that a freed one stays unused for long."""
    for step in range(1, LAST_SUBNET + 1):
        number = (last + step - 1) % LAST_SUBNET + 1
        if number not in taken:
            return number
    raise Conflict(f"the environment has {LAST_SUBNET} services, all that its network holds: delete one first")


def instance_address(subnet: IPv6Network, number: int) -> Address:
    """The address with host ``number`` (from 1) in a service's ``subnet``."""
    return _address(int(subnet.network_address) + number)


def host_number(subnet: IPv6Network, address: Address) -> int:
    """What `instance_address` makes ``address`` of; a number below 1 or above 64 bits where it is not in ``subnet``."""
    return int(address) - int(subnet.network_address)


def peer_address(network: IPv6Network, number: int) -> Address:
    """The address of the external peer with host ``number`` (from `FIRST_PEER_NUMBER`) in ``network``, a /48."""
    return _address(int(network.network_address) + number)


def next_peer_number(last: int) -> int:
    """The host number after ``last``, the highest one ever given to a peer of the environment (0: there was none)."""
    return max(last + 1, FIRST_PEER_NUMBER)


def is_peer_address(network: IPv6Network, address: Address) -> bool:
    """Whether an external peer of ``network``, a /48, can have ``address``."""
    return FIRST_PEER_NUMBER <= int(address) - int(network.network_address) < 1 << (128 - SERVICE_BITS)


def contains(network: IPv6Network, address: Address) -> bool:
    """Whether ``address`` lies in ``network``."""
    shift = 128 - network.prefixlen
    return int.from_bytes(address, "big") >> shift == int(network.network_address) >> shift


def network_of(address: int | str) -> IPv6Network:
    """The network of the environment that ``address``, a number or text, is in, or would be in."""
    return IPv6Network((address, ENVIRONMENT_BITS), strict=False)


def read_network(value: Any) -> IPv6Network:
    """The same as ``IPv6Network(value)``, in a third of the time where that is text as documents have it."""
    address, _, bits = str(value).partition("/")
    try:
        return IPv6Network((int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big"), _PREFIX_LENGTHS[bits]))
    except (KeyError, OSError, ValueError):
        return IPv6Network(value)  # which says what is wrong with it


def parse_network(text: str, bits: int) -> IPv6Network:
    """The network that ``text`` writes, which must have ``bits`` bits and no host bits. Raises `Invalid`."""
    try:
        network = IPv6Network(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is not an IPv6 network: {error}") from None
    if network.prefixlen != bits:
        raise Invalid(f"{text!r} is a /{network.prefixlen}, not a /{bits}")
    return network


def _address(number: int) -> Address:
    return Address(IPv6Address(number).packed)
