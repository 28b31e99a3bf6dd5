"""Whose query is it? The zones that are served, and which of them a client belongs to.

Scope first: `place_of` is asked before a packet is looked at, and all that follows (the zone, its memo) hangs on the
place that it gives. There is no default place: a client that belongs nowhere is told so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from resolver.memo import Memo, Memos
from resolver.messages import Transport
from zones.addresses import Platform, resolver_address
from zones.names import EnvironmentId
from zones.zone import Zone

INTERNAL, EXTERNAL, OUTSIDE = "environment", "external", "outside"
"""Scopes, as metrics and the query log tell them: our own names, names of others, clients that belong nowhere."""

REMEMBERED_SOURCES = 65_536  # some 10 MB; a host has far fewer workloads
NETWORK_OCTETS = 6  # of an environment's /48


@dataclass(frozen=True, slots=True)
class Serving:
    """A zone and what has been packed from it. Replaced whole, so the one can never be used with the other's memo.

    ``zone`` is None for clients that are in no environment, and ``reason`` says why they are in none.
    """

    zone: Zone | None
    memos: Mapping[Transport, Memo]
    reason: str = ""

    @property
    def scope(self) -> str:
        """The kind of client, as metrics tell it."""
        return INTERNAL if self.zone else OUTSIDE


class Place:
    """Where a client belongs. It stays for as long as its environment does; what it serves is replaced."""

    __slots__ = ("serving",)

    def __init__(self, serving: Serving) -> None:
        self.serving = serving


class Directory:
    """The zones that are served, by environment, by network and by binding. Used from the event loop only."""

    def __init__(self, platform: Platform, bindings: Mapping[IPv4Network | IPv6Network, EnvironmentId]) -> None:
        self.is_loaded = False
        self._platform = platform
        self._memos = Memos()
        self._places: dict[EnvironmentId, Place] = {}
        self._networks: dict[bytes, Place] = {}
        self._bindings = _sort_bindings(bindings)
        self._remembered: dict[bytes, Place] = {}
        self._nowhere = self._outside("this address belongs to no environment")

    def __len__(self) -> int:
        return len(self._places)

    def publish(self, zone: Zone) -> None:
        """From now on, clients of ``zone``'s environment are answered from it."""
        serving = self._serve(zone)
        place = self._places.get(zone.id)
        if place and place.serving.zone and place.serving.zone.environment.network == zone.environment.network:
            place.serving = serving
            return
        self.withdraw(zone.id)
        self._places[zone.id] = self._networks[_network_key(zone)] = Place(serving)
        self._remembered.clear()

    def withdraw(self, environment: EnvironmentId) -> None:
        """From now on, ``environment`` does not exist."""
        place = self._places.pop(environment, None)
        if place and place.serving.zone:
            del self._networks[_network_key(place.serving.zone)]
            self._remembered.clear()

    def place_of(self, source: bytes, asked: bytes) -> Place:
        """Where the client at ``source`` belongs that sent its query to the address ``asked``; 4 or 16 octets each."""
        key = source + asked
        place = self._remembered.get(key)
        if place is None:
            if len(self._remembered) >= REMEMBERED_SOURCES:
                self._remembered.clear()
            place = self._remembered[key] = self._find_place(source, asked)
        return place

    def _find_place(self, source: bytes, asked: bytes) -> Place:
        by_source = self._networks.get(source[:NETWORK_OCTETS]) if len(source) == 16 else None
        by_source = by_source or self._bound_place(source)
        # Of an environment's network, only its own resolver address says by itself who asks.
        is_resolver = asked[NETWORK_OCTETS:] == self._platform.resolver[NETWORK_OCTETS:]
        by_resolver = self._networks.get(asked[:NETWORK_OCTETS]) if is_resolver else None
        if by_source and by_resolver and by_source is not by_resolver:
            return self._outside("this address belongs to another environment than the resolver that it asked")
        return by_source or by_resolver or self._nowhere

    def _bound_place(self, source: bytes) -> Place | None:
        number = int.from_bytes(source, "big")
        for length, shift, prefix, environment in self._bindings:
            if length == len(source) and number >> shift == prefix:
                missing = f"this address is bound to environment {environment!r}, which does not exist"
                return self._places.get(environment) or self._outside(missing)
        return None

    def _outside(self, reason: str) -> Place:
        return Place(self._serve(None, reason))

    def _serve(self, zone: Zone | None, reason: str = "") -> Serving:
        return Serving(zone, {transport: self._memos.new_memo() for transport in Transport}, reason)


def _network_key(zone: Zone) -> bytes:
    return resolver_address(zone.environment.network)[:NETWORK_OCTETS]


def _sort_bindings(
    bindings: Mapping[IPv4Network | IPv6Network, EnvironmentId],
) -> Sequence[tuple[int, int, int, EnvironmentId]]:
    """Octets of the address, bits to shift away, prefix and environment; the longest prefix first."""
    ordered = sorted(bindings.items(), key=lambda binding: -binding[0].prefixlen)
    return [
        (
            network.max_prefixlen // 8,
            network.max_prefixlen - network.prefixlen,
            int(network.network_address) >> (network.max_prefixlen - network.prefixlen),
            environment,
        )
        for network, environment in ordered
    ]
