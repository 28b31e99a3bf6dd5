"""A real server in the test's own event loop, and clients that ask it from any loopback address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from resolver.forward.forwarder import Forwarder
from resolver.net.turns import DEFAULT_RATE
from resolver.server import Resolver
from tests import worlds
from tests.waiting import scaled
from zones.zone import Zone

DEADLINE = scaled(20.0)  # seconds


@asynccontextmanager
async def serving(
    *zones: Zone,
    listen: tuple[str, ...] = ("127.0.0.1",),
    loaded: bool = True,
    forwarder: Forwarder | None = None,
    source_rate: float = DEFAULT_RATE,
) -> AsyncIterator[Resolver]:
    """A resolver on free ports of ``listen`` that serves ``zones`` and asks ``forwarder`` for the rest."""
    resolver = Resolver(worlds.PLATFORM, [(host, 0) for host in listen], worlds.BINDINGS, forwarder, source_rate)
    await resolver.start()
    for zone in zones:
        resolver.publish(zone)
    if loaded:
        resolver.loaded()
    try:
        yield resolver
    finally:
        await resolver.stop()


async def ask_udp(server: tuple[str, int], packet: bytes, source: str, *, deadline: float = DEADLINE) -> bytes:
    """The reply to ``packet`` sent from ``source``; it must come from the address that was asked."""
    loop = asyncio.get_running_loop()
    with _socket(server, socket.SOCK_DGRAM, source) as sock:
        sock.connect(server)  # a reply from elsewhere is then never seen
        await loop.sock_sendall(sock, packet)
        async with asyncio.timeout(deadline):
            return await loop.sock_recv(sock, 65535)


async def ask_tcp(server: tuple[str, int], packet: bytes, source: str, *, deadline: float = DEADLINE) -> bytes:
    """The same over TCP."""
    loop = asyncio.get_running_loop()
    sock = _socket(server, socket.SOCK_STREAM, source)
    async with asyncio.timeout(deadline):
        await loop.sock_connect(sock, server)
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            writer.write(len(packet).to_bytes(2, "big") + packet)
            length = int.from_bytes(await reader.readexactly(2), "big")
            return await reader.readexactly(length)
        finally:
            writer.close()


def _socket(server: tuple[str, int], kind: socket.SocketKind, source: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    sock.bind((source, 0))
    return sock
