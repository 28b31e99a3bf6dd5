"""The listener for agents: TLS 1.3, and a bound on what those can take up who have no session.

A connection is counted before its handshake, by the network that it comes from. One without a session ends after some
seconds, however slow it is and wherever it stands: in its handshake, in a header, in a body, or idle.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from admin.hosts.certificates import Authority
from admin.hosts.counts import HostCounts
from admin.hosts.limits import HostLimits
from admin.http.limits import Buckets, source_network
from admin.http.wrapping import WrappingProtocol
from support.endpoints import Endpoint
from support.listening import ListenError

BACKLOG = 1024  # connections that wait to be accepted, so that all agents can come at once
SHUTDOWN_TIMEOUT = 2.0  # seconds for what is under way
PAUSE = 0.1  # seconds until the next attempt to accept, where one has failed
RENEW_EVERY = 86_400.0  # seconds between two certificates of this control plane

log = logging.getLogger(__name__)


class HostsTls:
    """The TLS of a control plane, with a certificate of its own."""

    def __init__(self, authority: Authority, names: Iterable[str]) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.load_verify_locations(cadata=authority.certificate_pem)
        self.context.num_tickets = 0  # each connection shows its certificate anew
        self._authority = authority
        self._names = tuple(names)
        self.renew()

    def renew(self) -> None:
        """Makes a new certificate, which connections from now on are shown."""
        made = self._authority.certify_control_plane(self._names)
        # The library takes a file only; this one is in memory alone.
        descriptor = os.memfd_create("interlock", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, made)
            self.context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


@dataclass(slots=True)
class Connections:
    """How many connections there are, and how many of them have no session."""

    limits: HostLimits
    """How many there may be."""
    total: int = 0
    """Connections that are open."""
    _strangers: Counter[str] = field(default_factory=Counter)  # without a session, by source network
    _rate: Buckets = field(init=False)

    def __post_init__(self) -> None:
        self._rate = Buckets(self.limits.handshakes, self.limits.handshake_burst, 10_000)

    def refusal(self, network: str, now: float) -> str:
        """Why a connection from ``network`` is turned away; empty if it is not."""
        if self.total >= self.limits.connections:
            return "connections"
        if self._strangers.total() >= self.limits.strangers:
            return "strangers"
        if self._strangers[network] >= self.limits.strangers_of_one:
            return "strangers_of_one"
        return "rate" if self._rate.take(network, now) else ""

    def open(self, network: str) -> None:
        """A connection from ``network`` is open, and has no session."""
        self.total += 1
        self._strangers[network] += 1

    def leave_strangers(self, network: str) -> None:
        """A connection from ``network`` has a session, or is closed."""
        self._strangers[network] -= 1
        if not self._strangers[network]:
            del self._strangers[network]


class AgentConnection(WrappingProtocol):
    """One connection, around the protocol of the HTTP server. It ends after some seconds unless it is promoted."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections, network: str) -> None:
        super().__init__(inner)
        self._connections = connections
        self._network = network
        self._timer: asyncio.TimerHandle | None = None
        self._is_stranger = self._is_open = True
        connections.open(network)

    def promote(self) -> None:
        """The connection has a session."""
        if self._timer:
            self._timer.cancel()
        if self._is_stranger:
            self._is_stranger = False
            self._connections.leave_strangers(self._network)

    def close(self) -> None:
        """The connection is no more."""
        if self._is_open:
            self._is_open = False
            self._connections.total -= 1
            self.promote()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        assert isinstance(transport, asyncio.Transport)
        seconds = self._connections.limits.stranger_seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, transport.abort)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Either side has ended it."""
        self.close()
        self._inner.connection_lost(exc)


def promote(transport: asyncio.Transport | None) -> None:
    """The connection of ``transport`` has a session."""
    connection = transport.get_protocol() if transport else None
    if isinstance(connection, AgentConnection):
        connection.promote()


@asynccontextmanager
async def serve(
    app: web.Application, listen: Endpoint, tls: HostsTls, connections: Connections, counts: HostCounts
) -> AsyncIterator[Endpoint]:
    """Serves ``app`` by TLS on ``listen`` (port 0 takes a free one) inside the ``async with``.

    Gives the address and port on which it listens. Raises `ListenError`.
    """
    listening = _listen(listen)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    accepting = asyncio.create_task(_accept(listening, runner, tls, connections, counts))
    try:
        yield Endpoint(*listening.getsockname()[:2])
    finally:
        accepting.cancel()
        await asyncio.wait({accepting})
        listening.close()
        await runner.cleanup()


def _listen(listen: Endpoint) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((listen.host, listen.port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ListenError(listen.host, listen.port, "HTTPS for agents", error, setting="--hosts-listen") from error
    return listening


async def _accept(
    listening: socket.socket, runner: web.AppRunner, tls: HostsTls, connections: Connections, counts: HostCounts
) -> None:
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    try:
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:  # out of descriptors, or the client has gone already
                log.warning("connection_not_accepted", extra={"reason": error.strerror or str(error)})
                await asyncio.sleep(PAUSE)
                continue
            network = source_network(address[0])
            if reason := connections.refusal(network, time.monotonic()):
                counts.refused[reason] += 1
                accepted.close()
                continue
            assert runner.server
            connection = AgentConnection(runner.server(), connections, network)
            task = asyncio.create_task(_shake_hands(accepted, connection, tls, connections.limits.stranger_seconds))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _shake_hands(accepted: socket.socket, connection: AgentConnection, tls: HostsTls, seconds: float) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection, accepted, ssl=tls.context, ssl_handshake_timeout=seconds, ssl_shutdown_timeout=seconds
        )
    except (OSError, TimeoutError):  # a certificate that the authority has not signed, or no TLS at all
        connection.close()
    except asyncio.CancelledError:
        connection.close()
        accepted.close()
        raise
