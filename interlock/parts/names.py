"""The way of a name: who learns it, from the store or from this host's agent, and the resolver that says it."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from interlock.errors import PartFailed
from interlock.process.state_dir import TAIL_SOCKET
from interlock.process.supervise import Part
from interlock.settings.table import Settings
from interlock.settings.values import NO_UPSTREAM, Binding, Endpoint
from interlock.welcome import reachable
from resolver.errors import ListenError
from resolver.forward.forwarder import Forwarder
from resolver.forward.upstream import PORT as DNS_PORT
from resolver.forward.upstream import Route, Routes, read_resolv_conf
from resolver.querylog import TailServer
from resolver.server import Resolver
from store.store import Store
from watcher.feed.follower import Follower
from watcher.feed.server import SOCKET as FEED_SOCKET
from watcher.watcher import Watcher
from zones.names import ROOT, EnvironmentId
from zones.zone import Zone

USUAL = gc.get_threshold()
WHILE_LOADING = (50_000, 100, 1_000)
"""Of the garbage collector (``gc.set_threshold``). Full collections of what is still growing held up queries for half a
second at a million instances; none of it is garbage, and what is short-lived goes with the youngest generation."""

RESOLV_CONF = Path("/etc/resolv.conf")
SOON = 5.0  # seconds from a commit to its answers; it takes milliseconds while all is well

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Names:
    """``loaded`` is set once the resolver has all that there is, ``published`` whenever it is given a zone."""

    resolver: Resolver
    watcher: Watcher | Follower
    loaded: asyncio.Event
    published: asyncio.Event
    tail_socket: Path

    @classmethod
    def of(cls, settings: Settings, store: Store | None, bindings: Iterable[Binding]) -> Names:
        """A resolver with ``bindings``, as ``settings`` say, that learns what ``store`` holds.

        Without a store it learns what the agent of this host has a way to.
        """
        listen = _listen_addresses(settings)
        resolver = Resolver(settings.platform, listen, dict(bindings), _forwarder(settings, listen))
        loaded, published = asyncio.Event(), asyncio.Event()
        watcher = _watcher(settings, store, _Audience(resolver, loaded, published))
        return cls(resolver, watcher, loaded, published, settings.state_dir / TAIL_SOCKET)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The resolver first: it holds queries until the watcher has loaded."""
        return Part("resolver", self._resolve), Part("watcher", self._watch), Part("querylog", self._tell)

    async def wait_for(self, environment: EnvironmentId, revision: int) -> None:
        """Returns when ``revision`` of ``environment``, or a newer one, is served. Raises ``TimeoutError``."""
        async with asyncio.timeout(SOON):
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
            gc.set_threshold(*WHILE_LOADING)
        # Ready at once: it goes on asking for a store that is away, and until then the resolver has its own way.
        ready()
        await self.watcher.run()

    async def _tell(self, ready: Callable[[], None]) -> None:
        ready()
        server = TailServer(self.tail_socket, self.resolver.querylog)
        try:
            await server.start()
        except OSError as error:
            # A resolver may well run where there is nothing to write to; it can be watched by its metrics.
            log.warning("no_query_log", extra={"socket": str(self.tail_socket), "reason": error.strerror or str(error)})
            await asyncio.Future()
        try:
            await asyncio.Future()
        finally:
            await server.stop()


@dataclass(frozen=True, slots=True)
class _Audience:
    """Passes on what the watcher publishes, and tells who waits for it."""

    resolver: Resolver
    everything: asyncio.Event
    something: asyncio.Event

    def announce(self, zone: Zone) -> None:
        self.resolver.announce(zone)

    def publish(self, zone: Zone) -> None:
        self.resolver.publish(zone)
        self.something.set()

    def withdraw(self, environment: EnvironmentId) -> None:
        self.resolver.withdraw(environment)

    def loaded(self) -> None:
        self.resolver.loaded()
        self.everything.set()
        _spare_the_collector()


def _watcher(settings: Settings, store: Store | None, audience: _Audience) -> Watcher | Follower:
    if store:
        return Watcher(store, settings.platform, audience)
    assert settings.agent_dir
    return Follower(settings.agent_dir / FEED_SOCKET, settings.platform, audience)


def _spare_the_collector() -> None:
    """What is here now stays, so the garbage collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*USUAL)


def _listen_addresses(settings: Settings) -> list[Endpoint]:
    """Where to serve DNS. Of addresses that nobody asked for, those are left out that this machine does not have."""
    if not settings.is_default("dns_listen"):
        return list(settings.dns_listen)
    there = [endpoint for endpoint in settings.dns_listen if _has_address(endpoint.host)]
    for endpoint in settings.dns_listen:
        if endpoint not in there:
            log.warning("address_left_out", extra={"address": str(endpoint), "reason": "this machine does not have it"})
    return there or list(settings.dns_listen)


def _forwarder(settings: Settings, listen: Iterable[Endpoint]) -> Forwarder | None:
    if settings.upstream == (NO_UPSTREAM,):
        return None
    if settings.upstream:
        return Forwarder(Routes.parse(settings.upstream))
    try:
        text = RESOLV_CONF.read_text()
    except (OSError, UnicodeDecodeError) as error:
        log.warning("no_upstreams", extra={"reason": str(error)})
        return None
    upstreams = read_resolv_conf(text, _own_nameservers(settings, listen))
    return Forwarder(Routes((Route(ROOT, upstreams),))) if upstreams else None


def _own_nameservers(settings: Settings, listen: Iterable[Endpoint]) -> frozenset[str]:
    """Addresses by which a ``resolv.conf`` may mean ourselves: to ask those would be to go round in circles."""
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
