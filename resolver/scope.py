"""Whose query is it? The zones that are served, and which of them a client belongs to.

Scope first: `place_of` is asked before a packet is looked at, and all that follows (the zone, its memo) hangs on the
place that it gives. There is no default place: a client that belongs nowhere is told so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from resolver.packet_cache import Memo, Memos
from resolver.wire.messages import Transport
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

    ``zone`` is None for clients that are in no environment, and ``reason`` says why they are in none. ``coming`` is the
    zone that is on its way to take its place.
    """

    zone: Zone | None
    memos: Mapping[Transport, Memo]
    reason: str = ""
    coming: Zone | None = None

    @property
    def scope(self) -> str:
        """The kind of client, as metrics tell it."""
        return INTERNAL if self.zone else OUTSIDE


class Place:
    """Where a client belongs. It stays for as long as its environment does; what it serves is replaced.

    ``network`` is what the addresses of the environment begin with; empty where there is no environment.
    """

    __slots__ = ("network", "serving")

    def __init__(self, serving: Serving, network: bytes = b"") -> None:
        self.serving = serving
        self.network = network


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
        place, network = self._places.get(zone.id), _network_key(zone)
        if place and place.network == network:
            coming = place.serving.coming
            place.serving = self._serve(zone, coming=None if coming is zone else coming)
            return
        self.withdraw(zone.id)
        self._add(zone.id, Place(self._serve(zone), network))

    def announce(self, zone: Zone) -> None:
        """``zone`` is on its way. Nothing is answered from it before it is published."""
        place, network = self._places.get(zone.id), _network_key(zone)
        if place and place.network == network:
            # What was packed before may say "no" to what is coming.
            place.serving = self._serve(place.serving.zone, place.serving.reason, zone)
        elif place is None and network not in self._networks:
            reason = f"environment {zone.id!r} is on its way to this host"
            self._add(zone.id, Place(self._serve(None, reason, zone), network))
        # Else it moves to another network: until it is published, all are served as they were.

    def withdraw(self, environment: EnvironmentId) -> None:
        """From now on, ``environment`` does not exist."""
        if place := self._places.pop(environment, None):
            if self._networks.get(place.network) is place:
                del self._networks[place.network]
            self._remembered.clear()

    def _add(self, environment: EnvironmentId, place: Place) -> None:
        self._places[environment] = self._networks[place.network] = place
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

    def _serve(self, zone: Zone | None, reason: str = "", coming: Zone | None = None) -> Serving:
        return Serving(zone, {transport: self._memos.new_memo() for transport in Transport}, reason, coming)


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
