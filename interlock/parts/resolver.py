"""The resolver as parts of a process: the watcher that learns the zones, the resolver that answers, the query log."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.lookups import SOCKET as LOOKUPS_SOCKET
from interlock.errors import BadSetting, PartFailed
from interlock.parts.resolv_conf import ResolvConf
from interlock.parts.snapshot import snapshot_keeper, snapshot_parts
from interlock.process.state_dir import TAIL_SOCKET
from interlock.process.supervise import Part
from interlock.settings.table import Settings
from interlock.settings.values import NO_UPSTREAM, Binding, reachable
from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import PORT as DNS_PORT
from resolver.forward.upstream import Routes
from resolver.lookups import LookupGiver
from resolver.server import Resolver
from resolver.tail_server import TailServer
from store.store import Store
from support.endpoints import Endpoint
from support.listening import ListenError
from watcher.feed.follower import Follower
from watcher.feed.protocol import SOCKET as FEED_SOCKET
from watcher.guard import Guard
from watcher.publisher import Publisher
from watcher.watcher import Watcher
from zones.addresses import Platform
from zones.names import EnvironmentId
from zones.zone import Zone, apex_of

GC_WHILE_LOADING = (50_000, 100, 1_000)
"""Thresholds of the garbage collector (``gc.set_threshold``) while the first zones are loaded. Full collections of the
growing zones held up queries for half a second at a million instances. None of the zones is garbage, and short-lived
objects are collected with the youngest generation."""
GC_WHILE_SERVING = (150, 2, 30_000)
"""The same once the zones are loaded, and exempt. What is forwarded takes some hundred objects a question, all freed
without the collector's help; with Python's thresholds it walked through all of them several times a second, and each
time the queries of all clients waited a tenth of a second. The two young generations are small, for all queries wait
while they are collected: 450 objects take a third of a millisecond, and 12,000 took eight."""

RESOLV_CONF = Path("/etc/resolv.conf")
SERVED_DEADLINE = 5.0  # seconds from a commit until it is answered; milliseconds in a healthy process

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ResolverParts:
    """The resolver of one process and everything that feeds it."""

    resolver: Resolver
    """Answers DNS queries from the zones that it is given."""
    watcher: Watcher | Follower
    """Learns the zones: from the store, or from the feed of this host's agent."""
    fan_out: FanOut
    """What the watcher publishes to."""
    loaded: asyncio.Event
    """Set once the resolver has all zones that there are."""
    published: asyncio.Event
    """Set whenever the resolver is given a zone; whoever waits for it clears it."""
    tail_socket: Path
    """Where ``interlock tail`` connects to."""
    resolv_conf: ResolvConf | None
    """The file that names the upstreams; None where they are configured."""
    lookups: LookupGiver | None = None
    """Gives look-ups to the agent of this host while that asks for them; None where there is no agent."""

    @classmethod
    def of(
        cls,
        program: str,
        settings: Settings,
        store: Store | None,
        bindings: Iterable[Binding],
        *,
        awaited: EnvironmentId | None = None,
        watch: Callable[[Publisher], Watcher] | None = None,
    ) -> ResolverParts:
        """The resolver of ``program`` with ``bindings``, set up by ``settings``, that serves the zones in ``store``.

        Without a store it serves the zones that the agent of this host has programmed routes for. The
        environment ``awaited`` is one that this process itself makes when the others are loaded: until `complete` is
        called, the resolver is not ready, and queries of clients that belong to no environment are held. ``watch``
        makes the watcher, where others of this process learn from it too.
        """
        listen = _listen_addresses(settings)
        forwarder, resolv_conf = _forwarder(settings, listen)
        resolver = Resolver(settings.platform, listen, dict(bindings), forwarder, settings.dns_source_rate)
        loaded, published = asyncio.Event(), asyncio.Event()
        fan_out = FanOut(resolver, loaded, published, awaited)
        watcher = watch(fan_out) if watch else _watcher(settings, store, fan_out)
        watcher.snapshots = snapshot_keeper(program, settings)
        giver = None
        if store is None and settings.agent_dir:
            giver = LookupGiver(settings.agent_dir / LOOKUPS_SOCKET, resolver.querylog)
        tail_socket = settings.state_dir / TAIL_SOCKET
        return cls(resolver, watcher, fan_out, loaded, published, tail_socket, resolv_conf, giver)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The resolver comes first: it holds queries until the watcher has loaded."""
        parts = (
            Part("resolver", self._resolve),
            Part("watcher", self._watch),
            *snapshot_parts(self.watcher),
            Part("querylog", self._serve_query_log),
            *([Part("lookups", self._give_lookups)] if self.lookups else []),
        )
        if self.resolver.forwarder and self.resolv_conf:
            return (*parts, Part("upstreams", partial(self.resolv_conf.follow, self.resolver.forwarder)))
        return parts

    @property
    def is_loaded(self) -> bool:
        """Whether the resolver has all zones that there are, or all that a snapshot of them holds."""
        return self.resolver.is_loaded or self.resolver.is_restored

    @property
    def stale_since(self) -> float | None:
        """The Unix time of the snapshot that is served; None while none is."""
        return self.resolver.stale_since

    def complete(self) -> None:
        """The awaited environment is there, or never will be."""
        self.fan_out.complete()

    async def wait_for(self, environment: EnvironmentId, revision: int) -> None:
        """Returns when ``revision`` of ``environment``, or a newer one, is served. Raises ``TimeoutError``."""
        async with asyncio.timeout(SERVED_DEADLINE):
            while self.watcher.revisions.get(environment, 0) < revision:
                self.published.clear()
                await self.published.wait()

    async def _resolve(self, ready: Callable[[], None]) -> None:
        try:
            await self.resolver.start()
        except ListenError as error:
            raise PartFailed(str(error)) from error
        try:
            log.info("dns_listening", extra={"addresses": [str(Endpoint(*a)) for a in self.resolver.addresses]})
            ready()
            await asyncio.Future()
        finally:
            await self.resolver.stop()

    async def _watch(self, ready: Callable[[], None]) -> None:
        if not self.loaded.is_set():
            gc.set_threshold(*GC_WHILE_LOADING)
        # Ready at once: the watcher keeps asking for an absent store by itself; the resolver holds queries meanwhile.
        ready()
        await self.watcher.run()

    async def _serve_query_log(self, ready: Callable[[], None]) -> None:
        ready()
        server = TailServer(self.tail_socket, self.resolver.querylog, lambda: self.resolver.environments)
        try:
            await server.start()
        except OSError as error:
            # A resolver may run without a writable directory; its metrics still show what it does.
            log.warning("no_query_log", extra={"socket": str(self.tail_socket), "reason": error.strerror or str(error)})
            await asyncio.Future()
        try:
            await asyncio.Future()
        finally:
            await server.stop()

    async def _give_lookups(self, ready: Callable[[], None]) -> None:
        ready()
        assert self.lookups
        await self.lookups.run()


@dataclass(slots=True)
class FanOut:
    """Passes what the watcher publishes on to the resolver, and sets the events that others wait for."""

    resolver: Resolver
    """Receives every zone."""
    all_loaded: asyncio.Event
    """Set when the watcher has published all zones that there are."""
    published: asyncio.Event
    """Set with every zone."""
    awaited: EnvironmentId | None
    """The environment that this process is about to make, or to add to; None where there is none, or no longer."""
    withheld: Zone | None = None
    """The zone of the awaited environment while it has no services, for its names would be denied; None otherwise."""

    def announce(self, zone: Zone) -> None:
        self.resolver.announce(zone)

    def publish(self, zone: Zone) -> None:
        is_empty = zone.id == self.awaited and not zone.environment.services
        if zone.id == self.awaited:
            self.withheld = zone if is_empty else None
        if not is_empty:
            self.resolver.publish(zone)
        self.published.set()

    def withdraw(self, environment: EnvironmentId) -> None:
        if environment == self.awaited:
            self.withheld = None
        self.resolver.withdraw(environment)

    def restored(self, as_of: float) -> None:
        self.resolver.restored(as_of)

    def source_away(self) -> None:
        self.resolver.source_away()
        _spare_the_collector()  # as far as a snapshot is, it is loaded

    def loaded(self) -> None:
        if self.awaited is None:
            self.resolver.loaded()
        self.all_loaded.set()
        _spare_the_collector()

    def complete(self) -> None:
        """The awaited environment is there, or never will be: nothing is withheld any more."""
        if self.withheld:
            self.resolver.publish(self.withheld)
        self.awaited = self.withheld = None
        self.resolver.loaded()


def _watcher(settings: Settings, store: Store | None, publisher: FanOut) -> Watcher | Follower:
    if store:
        return Watcher(store, settings.platform, publisher, guard=Guard(settings.guard))
    assert settings.agent_dir
    return Follower(settings.agent_dir / FEED_SOCKET, settings.platform, publisher, guard=Guard(settings.guard))


def _spare_the_collector() -> None:
    """Exempts the loaded zones from garbage collection: they stay, and walking through them takes time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_WHILE_SERVING)


def _listen_addresses(settings: Settings) -> list[Endpoint]:
    """Where to serve DNS. Default addresses that this machine does not have are left out; configured ones never are."""
    if not settings.is_default("dns_listen"):
        return list(settings.dns_listen)
    usable = [endpoint for endpoint in settings.dns_listen if _has_address(endpoint.host)]
    for endpoint in settings.dns_listen:
        if endpoint not in usable:
            log.warning("address_left_out", extra={"address": str(endpoint), "reason": "this machine does not have it"})
    return usable or list(settings.dns_listen)


def _forwarder(settings: Settings, listen: Iterable[Endpoint]) -> tuple[Forwarder | None, ResolvConf | None]:
    """What forwards, if anything is to; and the file that its upstreams are in, unless they are configured."""
    if settings.upstream == (NO_UPSTREAM,):
        return None, None
    if settings.upstream:
        return Forwarder(_check_routes(Routes.parse(settings.upstream), settings.platform), settings.platform), None
    resolv_conf = ResolvConf(RESOLV_CONF, _own_nameservers(settings, listen))
    return Forwarder(resolv_conf.read() or Routes(()), settings.platform), resolv_conf


def _check_routes(routes: Routes, platform: Platform) -> Routes:
    """``routes``. Raises `BadSetting` where one is for names of the platform, which no upstream is asked for."""
    for suffix in routes.suffixes:
        if apex := apex_of(platform, suffix):
            text = f"{suffix} would never be used: this resolver itself answers names at and below {apex}"
            raise BadSetting(f"the upstream for {text}")
    return routes


def _own_nameservers(settings: Settings, listen: Iterable[Endpoint]) -> frozenset[str]:
    """Addresses in a ``resolv.conf`` that are this resolver itself: forwarding to them would be a loop."""
    hosts = {endpoint.host for endpoint in listen if endpoint.port == DNS_PORT}
    hosts |= {reachable(host, DNS_PORT).host for host in hosts}
    return frozenset({*hosts, str(settings.platform.resolver)})


def _has_address(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True
