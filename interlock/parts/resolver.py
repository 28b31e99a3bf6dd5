"""The resolver as parts of a process: the watcher that learns the zones, the resolver that answers, the query log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from admin.resources.operations import Exposition
from agent.lookups import SOCKET as LOOKUPS_SOCKET
from interlock.errors import BadSetting, PartFailed
from interlock.parts.listening import listen_addresses, worker_processes
from interlock.parts.resolv_conf import ResolvConf
from interlock.parts.snapshot import snapshot_keeper, snapshot_parts
from interlock.process.collector import expect_zones, spare_zones
from interlock.process.scheduling import go_first
from interlock.process.state_dir import TAIL_SOCKET
from interlock.process.supervise import Part
from interlock.settings.table import Settings
from interlock.settings.values import NO_UPSTREAM, Binding, Network, reachable
from interlock.workers.handed import Handed
from interlock.workers.pool import Workers
from resolver.counts import QueryKey
from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import PORT as DNS_PORT
from resolver.forward.upstream import Routes
from resolver.lookups import LookupGiver
from resolver.querylog import GivesLines
from resolver.scope import ScopeTable
from resolver.server import Resolver
from resolver.sockets import SocketPair, open_pairs
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

RESOLV_CONF = Path("/etc/resolv.conf")
SERVED_DEADLINE = 5.0  # seconds from a commit until it is answered; milliseconds in a healthy process

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ResolverParts:
    """The resolver of one process and everything that feeds it."""

    resolver: Resolver
    """Answers DNS queries from the zones that it is given; where there are workers, until they do."""
    workers: Workers | None
    """The processes that answer, where there are several; None where this process alone does."""
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
        handed: Handed | None = None,
    ) -> ResolverParts:
        """The resolver of ``program`` with ``bindings``, set up by ``settings``, that serves the zones in ``store``.

        Without a store it serves the zones that the agent of this host has programmed routes for. The
        environment ``awaited`` is one that this process itself makes when the others are loaded: until `complete` is
        called, the resolver is not ready, and queries of clients that belong to no environment are held. ``watch``
        makes the watcher, where others of this process learn from it too. ``handed`` is what a launcher has
        started this process with; None where none has.
        """
        listen = listen_addresses(settings)
        makes = MakesResolvers(settings, listen, dict(bindings))
        resolver, resolv_conf = makes.make()
        workers = None
        if handed:
            workers = Workers(resolver, makes, partial(_duplicate, handed.sockets), handed.incumbent, handed.line)
        elif (number := worker_processes(settings)) > 1:
            workers = Workers(resolver, makes, partial(open_pairs, listen, number))
        loaded, published = asyncio.Event(), asyncio.Event()
        fan_out = FanOut(workers or resolver, loaded, published, awaited)
        watcher = watch(fan_out) if watch else _watcher(settings, store, fan_out)
        if workers and isinstance(watcher, Follower):
            watcher.settled = workers.settled
        watcher.snapshots = snapshot_keeper(program, settings)
        giver = None
        if store is None and settings.agent_dir:
            giver = LookupGiver(settings.agent_dir / LOOKUPS_SOCKET, (workers or resolver).querylog)
        tail_socket = settings.state_dir / TAIL_SOCKET
        return cls(resolver, workers, watcher, fan_out, loaded, published, tail_socket, resolv_conf, giver)

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

    def ask_before(self, render: Callable[[], Exposition]) -> Callable[[], Exposition | Awaitable[Exposition]]:
        """``render``, before which the workers are asked what they have done; itself where there are none."""
        workers = self.workers
        if workers is None:
            return render

        async def ask() -> Exposition:
            await workers.report()
            return render()

        return ask

    async def wait_for(self, environment: EnvironmentId, revision: int) -> None:
        """Returns when ``revision`` of ``environment``, or a newer one, is served. Raises ``TimeoutError``."""
        async with asyncio.timeout(SERVED_DEADLINE):
            while self.watcher.revisions.get(environment, 0) < revision:
                self.published.clear()
                await self.published.wait()
            if self.workers:
                await self.workers.settled(environment)

    @property
    def querylog(self) -> GivesLines:
        """The look-ups that are answered here."""
        return self.workers.querylog if self.workers else self.resolver.querylog

    @property
    def queries(self) -> Mapping[QueryKey, int]:
        """How many replies of each kind were given, as far as is known at this moment."""
        own = self.resolver.counts.snapshot()
        return self.workers.queries(own) if self.workers else own

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where DNS is served."""
        return self.workers.addresses if self.workers else self.resolver.addresses

    async def _resolve(self, ready: Callable[[], None]) -> None:
        def listening() -> None:
            log.info("dns_listening", extra={"addresses": [str(Endpoint(*a)) for a in self.addresses]})
            ready()

        go_first()
        try:
            if self.workers:
                await self.workers.run(listening)
            await self.resolver.start()
        except ListenError as error:
            raise PartFailed(str(error)) from error
        try:
            listening()
            await asyncio.Future()
        finally:
            await self.resolver.stop()

    async def _watch(self, ready: Callable[[], None]) -> None:
        if not self.loaded.is_set():
            expect_zones()
        # Ready at once: the watcher keeps asking for an absent store by itself; the resolver holds queries meanwhile.
        ready()
        await self.watcher.run()

    async def _serve_query_log(self, ready: Callable[[], None]) -> None:
        ready()
        server = TailServer(self.tail_socket, self.querylog, lambda: self.resolver.environments)
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

    resolver: Resolver | Workers
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
        spare_zones()  # as far as a snapshot is, it is loaded

    def loaded(self) -> None:
        if self.awaited is None:
            self.resolver.loaded()
        self.all_loaded.set()
        spare_zones()

    def complete(self) -> None:
        """The awaited environment is there, or never will be: nothing is withheld any more."""
        if self.withheld:
            self.resolver.publish(self.withheld)
        self.awaited = self.withheld = None
        self.resolver.loaded()


@dataclass(frozen=True, slots=True)
class MakesResolvers:
    """Makes the resolver of this process, and those of its workers."""

    settings: Settings
    """What they are set up by."""
    listen: Sequence[Endpoint]
    """Where they listen."""
    bindings: Mapping[Network, EnvironmentId]
    """The environments of clients that are in no environment's network."""

    def make(self, scopes: ScopeTable | None = None) -> tuple[Resolver, ResolvConf | None]:
        """A resolver, with the file that its upstreams are in, unless they are configured."""
        forwarder, resolv_conf = _forwarder(self.settings, self.listen)
        rate, platform = self.settings.dns_source_rate, self.settings.platform
        return Resolver(platform, self.listen, self.bindings, forwarder, rate, scopes), resolv_conf

    def make_worker(self, scopes: ScopeTable) -> tuple[Resolver, Coroutine[Any, Any, None]]:
        """See `interlock.workers.pool.MakesWorkers`."""
        resolver, resolv_conf = self.make(scopes)
        if resolver.forwarder and resolv_conf:
            return resolver, resolv_conf.follow(resolver.forwarder, lambda: None)
        return resolver, asyncio.sleep(0)


def _duplicate(sockets: Sequence[Sequence[SocketPair]]) -> Sequence[Sequence[SocketPair]]:
    """The ``sockets`` of each worker by other descriptors."""
    return [[pair.duplicate() for pair in pairs] for pairs in sockets]


def _watcher(settings: Settings, store: Store | None, publisher: FanOut) -> Watcher | Follower:
    if store:
        return Watcher(store, settings.platform, publisher, guard=Guard(settings.guard))
    assert settings.agent_dir
    return Follower(settings.agent_dir / FEED_SOCKET, settings.platform, publisher, guard=Guard(settings.guard))


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
