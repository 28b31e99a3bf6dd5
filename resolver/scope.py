"""Scope: which environment a client belongs to, and what is served to its clients.

A listener calls `ScopeTable.scope_of` before it looks at a packet. All that follows (the zone and its packet caches) is
reached through the `ClientScope` that this gives. There is no default scope: a client that belongs to no environment
is refused, and the reply says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from resolver.packet_cache import PacketCache, PacketCaches
from resolver.wire.messages import UDP, Transport
from zones.addresses import Platform, resolver_address
from zones.names import EnvironmentId
from zones.zone import Zone

INTERNAL, EXTERNAL, OUTSIDE = "environment", "external", "outside"
"""Values of ``scope`` in metrics and the query log: a reply from the client's environment, a forwarded reply,
and a reply to a client that belongs to no environment."""

REMEMBERED_SOURCES = 65_536  # some 10 MB; a host has far fewer workloads
NETWORK_OCTETS = 6  # of an environment's /48

_NOBODY: Mapping[bytes, ClientScope] = {}


@dataclass(frozen=True, slots=True)
class ScopeState:
    """What the clients of one environment are served at this moment.

    It is replaced whole, so a reply that was packed from one zone is never given in the name of another.
    """

    zone: Zone | None
    """The zone that answers; None for a client that belongs to no environment, or to one that is not published yet."""

    udp_cache: PacketCache
    """Replies that were packed from ``zone`` for UDP. It is an attribute of its own because the hot path reads it."""

    tcp_cache: PacketCache
    """Replies that were packed from ``zone`` for TCP."""

    reason: str = ""
    """Why ``zone`` is None, in words for the client; empty where there is a zone."""

    pending: Zone | None = None
    """The zone that was announced and will replace ``zone``; None where none is announced."""

    environment: EnvironmentId | None = None
    """Under which name the forwarder keeps what it forwards for these clients, where ``zone`` is None and they may
    belong to an environment that is not loaded yet; None elsewhere."""

    @property
    def label(self) -> str:
        """The value of the label ``scope`` for what is answered from here."""
        return INTERNAL if self.zone else OUTSIDE

    def cache(self, transport: Transport) -> PacketCache:
        """The packet cache for ``transport``."""
        return self.udp_cache if transport is UDP else self.tcp_cache


class ClientScope:
    """The scope of an environment's clients. It lives as long as the environment; its ``state`` is replaced.

    ``network`` is the first octets of the environment's addresses; empty where there is no environment.
    """

    __slots__ = ("network", "state")

    def __init__(self, state: ScopeState, network: bytes = b"") -> None:
        self.state = state
        self.network = network


class ScopeTable:
    """The scopes by environment, by network and by binding. To be used from the event loop only."""

    def __init__(self, platform: Platform, bindings: Mapping[IPv4Network | IPv6Network, EnvironmentId]) -> None:
        self.platform = platform
        self.is_loaded = False
        self.is_source_away = False  # whether the source of the environments is known not to answer
        self.stale_since: float | None = None  # the Unix time that all zones are of; None: they are followed
        self._prefix = platform.prefix.network_address.packed[: platform.prefix.prefixlen // 8]
        self._infrastructure = platform.resolver[:NETWORK_OCTETS]
        self._caches = PacketCaches()
        self._scopes: dict[EnvironmentId, ClientScope] = {}
        self._networks: dict[bytes, ClientScope] = {}
        self._bindings = _sort_bindings(bindings)
        self._remembered: dict[bytes, dict[bytes, ClientScope]] = {}  # destination → source → scope
        self._number_remembered = 0
        self._no_environment = self._outside("this address belongs to no environment")

    def __len__(self) -> int:
        return len(self._scopes)

    @property
    def environments(self) -> frozenset[str]:
        """The environments that are published or pending."""
        return frozenset(self._scopes)

    def state_of(self, environment: EnvironmentId) -> ScopeState | None:
        """What the clients of ``environment`` are served; None where it is not known."""
        scope = self._scopes.get(environment)
        return scope.state if scope else None

    @property
    def has_several_clients(self) -> bool:
        """Whether queries have come from more than one address lately."""
        return self._number_remembered > 1

    def clear_caches(self) -> None:
        """Has all replies made anew."""
        self._caches.clear()

    def publish(self, zone: Zone) -> None:
        """From now on, clients of ``zone``'s environment are answered from it."""
        scope, network = self._scopes.get(zone.id), _network_key(zone)
        if scope and scope.network == network:
            pending = scope.state.pending
            # The same document may have been compiled again meanwhile, because of a host that is down.
            is_it = pending is not None and pending.environment is zone.environment
            scope.state = self._new_state(zone, pending=None if is_it else pending)
            return
        self.withdraw(zone.id)
        self._add(zone.id, ClientScope(self._new_state(zone), network))

    def announce(self, zone: Zone) -> None:
        """Makes ``zone`` the pending zone of its environment. Nothing is answered from it before it is published."""
        scope, network = self._scopes.get(zone.id), _network_key(zone)
        if scope and scope.network == network:
            # A new state has empty packet caches: a cached reply may deny a name that the pending zone has.
            scope.state = self._new_state(scope.state.zone, scope.state.reason, zone)
        elif scope is None and network not in self._networks:
            reason = f"environment {zone.id!r} is on its way to this host"
            self._add(zone.id, ClientScope(self._new_state(None, reason, zone), network))
        # Else the environment moves to another network: until it is published, all clients are served as before.

    def withdraw(self, environment: EnvironmentId) -> None:
        """From now on, ``environment`` does not exist."""
        if scope := self._scopes.pop(environment, None):
            if self._networks.get(scope.network) is scope:
                del self._networks[scope.network]
            self._forget()

    def _add(self, environment: EnvironmentId, scope: ClientScope) -> None:
        self._scopes[environment] = self._networks[scope.network] = scope
        self._forget()

    def _forget(self) -> None:
        self._remembered = {}
        self._number_remembered = 0

    def scope_of(self, source: bytes, destination: bytes) -> ClientScope:
        """The scope of the client at ``source`` that sent its query to ``destination``; 4 or 16 octets each."""
        scope = self._remembered.get(destination, _NOBODY).get(source)
        if scope is None:
            if self._number_remembered >= REMEMBERED_SOURCES:
                self._forget()
            scope = self._find_scope(source, destination)
            self._remembered.setdefault(destination, {})[source] = scope
            self._number_remembered += 1
        return scope

    def remembered(self, destination: bytes) -> Mapping[bytes, ClientScope]:
        """The scopes of the sources that have sent queries to ``destination`` lately. To be used at once."""
        return self._remembered.get(destination, _NOBODY)

    def _find_scope(self, source: bytes, destination: bytes) -> ClientScope:
        found = self._scope_of_member(source) or self._bound_scope(source)
        # The address that was asked decides nothing by itself: anybody can send to it.
        asked = self._networks.get(destination[:NETWORK_OCTETS]) if self._is_resolver(destination) else None
        if found and asked and found is not asked:
            return self._outside("this address belongs to another environment than the resolver that it asked")
        if found:
            return found
        if not self.is_loaded and len(source) == 16 and self._may_be_environment(source):
            return self._unknown(source[:NETWORK_OCTETS])
        return self._no_environment

    def _scope_of_member(self, source: bytes) -> ClientScope | None:
        """The scope of the environment that has ``source`` in its network; its resolver address is no member's."""
        if len(source) != 16 or self._is_resolver(source):
            return None
        return self._networks.get(source[:NETWORK_OCTETS])

    def _is_resolver(self, address: bytes) -> bool:
        """Whether ``address`` is the resolver address of some environment."""
        return address[NETWORK_OCTETS:] == self.platform.resolver[NETWORK_OCTETS:]

    def _may_be_environment(self, address: bytes) -> bool:
        is_member = address.startswith(self._prefix) and not address.startswith(self._infrastructure)
        return is_member and not self._is_resolver(address)

    def _unknown(self, network: bytes) -> ClientScope:
        """The scope of the clients of a network that no loaded environment has."""
        # The name is no environment's id. Clients of different networks share nothing, as those of environments.
        name = EnvironmentId(f"network {network.hex()}")
        return self._outside("this address belongs to no environment", name)

    def _bound_scope(self, source: bytes) -> ClientScope | None:
        number = int.from_bytes(source, "big")
        for length, shift, prefix, environment in self._bindings:
            if length == len(source) and number >> shift == prefix:
                missing = f"this address is bound to environment {environment!r}, which does not exist"
                return self._scopes.get(environment) or self._outside(missing, environment)
        return None

    def _outside(self, reason: str, environment: EnvironmentId | None = None) -> ClientScope:
        return ClientScope(self._new_state(None, reason, environment=environment))

    def _new_state(
        self,
        zone: Zone | None,
        reason: str = "",
        pending: Zone | None = None,
        environment: EnvironmentId | None = None,
    ) -> ScopeState:
        return ScopeState(zone, self._caches.new_cache(), self._caches.new_cache(), reason, pending, environment)


def _network_key(zone: Zone) -> bytes:
    return resolver_address(zone.environment.network)[:NETWORK_OCTETS]


def _sort_bindings(
    bindings: Mapping[IPv4Network | IPv6Network, EnvironmentId],
) -> Sequence[tuple[int, int, int, EnvironmentId]]:
    """For each binding: octets of the address, bits to shift away, prefix and environment; the longest prefix first."""
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
