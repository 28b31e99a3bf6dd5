"""The server: listens on its addresses and answers from the zones that are published to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network

from resolver.counts import QueryCounts
from resolver.forward.forwarder import Forwarder
from resolver.net.connections import Connections
from resolver.net.context import ListenerContext
from resolver.net.held import HeldQueries, ReplyTasks
from resolver.net.tcp import TcpListener
from resolver.net.turns import DEFAULT_RATE, Turns
from resolver.net.udp import UdpListener
from resolver.querylog import QueryLog
from resolver.responder import Responder
from resolver.scope import ScopeTable
from resolver.sockets import SocketPair, open_pairs
from resolver.wire.messages import Hold
from zones.addresses import Platform
from zones.names import EnvironmentId
from zones.zone import Zone

AGE_EVERY = 30.0  # seconds; how far behind the age in a stale reply can be, so it is right to the minute
LEAVING_EVERY = 0.02  # seconds between two looks at what is not answered yet


class Resolver:
    """Answers DNS queries over UDP and TCP on the addresses of ``listen`` (host, port; port 0 takes a free one).

    Its owner gives it zones by `publish` and takes them away by `withdraw`; it may `announce` a zone before, and calls
    `loaded` when all environments were published. Before that, it may say that they are `restored` from a snapshot, and
    that their `source_away` does not answer. ``bindings`` gives the environment of clients whose address is in no
    environment's network. ``forwarder`` answers queries for names that are not the platform's; without one they are
    refused. ``source_rate`` is how many replies a second are made for one source, beside those from the packet cache.
    ``scopes`` has the zones of another resolver, whose place this one takes; None: it begins without any.
    """

    def __init__(
        self,
        platform: Platform,
        listen: Sequence[tuple[str, int]],
        bindings: Mapping[IPv4Network | IPv6Network, EnvironmentId],
        forwarder: Forwarder | None = None,
        source_rate: float = DEFAULT_RATE,
        scopes: ScopeTable | None = None,
    ) -> None:
        counts, scopes = QueryCounts(), scopes or ScopeTable(platform, bindings)
        responder = Responder(scopes, counts, forwarder)
        turns = Turns(source_rate)
        turns.read_sockets = self._read_sockets
        self._context = ListenerContext(
            scopes=scopes,
            responder=responder,
            turns=turns,
            connections=Connections(),
            held=HeldQueries(counts),
            reply_tasks=ReplyTasks(turns.between_steps),
            querylog=QueryLog(responder.reasons),
            counts=counts,
        )
        if forwarder:
            forwarder.let_in_between(turns.between_steps)
        self._listen = listen
        self._listeners: list[tuple[UdpListener, TcpListener]] = []
        self._unread_before = 0  # packets that were dropped at sockets which are closed now
        self.forwarder = forwarder
        self.addresses: list[tuple[str, int]] = []

    async def start(self, sockets: Sequence[SocketPair] | None = None) -> None:
        """Answers what comes to ``sockets``, which it owns from now on; without any, it opens one on each address.

        Raises `ListenError`; then it listens on none.
        """
        for pair in open_pairs(self._listen)[0] if sockets is None else sockets:
            await self._start_listening(pair)
        self._renew_age()

    async def leave(self, seconds: float) -> None:
        """Stops as `stop` does, for another process to go on with the same sockets: nobody is to notice.

        What is held is answered first, and TCP connections are served until they have been idle for a moment; all that
        for at most ``seconds``.
        """
        self._pause()
        self._context.turns.take_all()
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while clock() < deadline and (self._context.held or self._close_idle()):  # noqa: ASYNC110
            await asyncio.sleep(LEAVING_EVERY)  # that a connection has become idle is no event
        await self.stop()

    async def stop(self) -> None:
        """Receives no more queries; those that were received are answered."""
        self._pause()
        listeners, self._listeners = self._listeners, []
        self._context.turns.take_all()
        await self._context.reply_tasks.drain()
        for udp, tcp in listeners:
            self._unread_before += udp.unread
            udp.close()
            tcp.close()
        if self.forwarder:
            await self.forwarder.close()

    def _pause(self) -> None:
        self.addresses.clear()
        for udp, tcp in self._listeners:
            udp.pause()
            tcp.pause()

    def _close_idle(self) -> bool:
        """Closes the TCP connections that are not used; whether there are others."""
        in_use = [connection for connection in self._context.connections if not connection.close_if_idle()]
        return bool(in_use)

    @property
    def scopes(self) -> ScopeTable:
        """What it serves to whom; for a resolver that takes its place."""
        return self._context.scopes

    @property
    def counts(self) -> QueryCounts:
        """What it has done since it started."""
        self._note_unread()
        return self._context.counts

    @property
    def tcp_connections(self) -> Connections:
        """Its open TCP connections."""
        return self._context.connections

    @property
    def querylog(self) -> QueryLog:
        """Its query log."""
        return self._context.querylog

    @property
    def environments(self) -> frozenset[str] | None:
        """The environments whose clients it answers; None while not all of them are known."""
        scopes = self._context.scopes
        return scopes.environments if scopes.is_loaded else None

    @property
    def is_loaded(self) -> bool:
        """Whether `loaded` was called."""
        return self._context.scopes.is_loaded

    def publish(self, zone: Zone) -> None:
        """Answers clients of ``zone``'s environment from it, from now on."""
        self._context.scopes.publish(zone)
        self._context.held.release(Hold(zone.id))

    def announce(self, zone: Zone) -> None:
        """Makes ``zone`` pending: queries that it has a better answer to wait, for a moment, until it is published."""
        self._context.scopes.announce(zone)

    def withdraw(self, environment: EnvironmentId) -> None:
        """From now on, ``environment`` does not exist."""
        self._context.scopes.withdraw(environment)
        self._context.held.release(Hold(environment))

    def restored(self, as_of: float) -> None:
        """What is published from now on until `loaded` is from a snapshot of the Unix time ``as_of``."""
        self._context.scopes.stale_since = as_of
        self._renew_age()

    def source_away(self) -> None:
        """The source of the environments does not answer: answers what needs none, and holds the rest as before."""
        self._context.scopes.is_source_away = True
        self._context.held.release(Hold())

    def loaded(self) -> None:
        """All environments are published: answers the queries that were held for that."""
        scopes = self._context.scopes
        scopes.is_loaded, scopes.is_source_away = True, False
        if scopes.stale_since is not None:
            scopes.stale_since = None
            scopes.clear_caches()
        self._context.held.release(Hold())

    @property
    def is_restored(self) -> bool:
        """Whether all that a snapshot holds is served, because the source does not answer."""
        return self._context.scopes.is_source_away and self.stale_since is not None

    @property
    def stale_since(self) -> float | None:
        """The Unix time of the snapshot that is served; None while none is."""
        return self._context.scopes.stale_since

    def _note_unread(self) -> None:
        unread = sum(udp.unread for udp, _ in self._listeners)
        self._context.counts.dropped["socket"] = self._unread_before + unread

    def _read_sockets(self) -> None:
        for udp, _ in self._listeners:
            udp.read()

    def _renew_age(self) -> None:
        """Has replies from a snapshot made anew from time to time, for they say how old they are."""
        if self._context.scopes.stale_since is not None:
            self._context.scopes.clear_caches()
            asyncio.get_running_loop().call_later(AGE_EVERY, self._renew_age)

    async def _start_listening(self, pair: SocketPair) -> None:
        tcp = TcpListener(pair.tcp, self._context)
        await tcp.start()
        self._listeners.append((UdpListener(pair.udp, self._context), tcp))
        if pair.address not in self.addresses:  # of several processes on one port, each has a pair
            self.addresses.append(pair.address)
