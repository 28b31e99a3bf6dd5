"""The probe of this host's resolver: any reply to its query will do, and nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from agent.attach import resolver_probe
from agent.attach.resolver_probe import probe_resolver
from zones.addresses import Address

LOOPBACK = Address.parse("::1")
REFUSED = b"\x80\x05"  # flags of a reply

Behaviour = Callable[[bytes], list[bytes]]
"""The packets that a server sends back for one that it receives."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("::1", 0))
        monkeypatch.setattr(resolver_probe, "PORT", sock.getsockname()[1])
        yield sock


async def probed(server: socket.socket, behave: Behaviour) -> str:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        while True:
            packet, client = await loop.sock_recvfrom(server, 512)
            for reply in behave(packet):
                server.sendto(reply, client)

    serving = asyncio.create_task(serve())
    try:
        return await probe_resolver(LOOPBACK)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_any_reply_shows_that_it_lives(server: socket.socket) -> None:
    assert await probed(server, lambda query: [query[:2] + REFUSED + query[4:]]) == ""


async def test_a_late_reply_to_somebody_else_is_none(server: socket.socket) -> None:
    def behave(query: bytes) -> list[bytes]:
        other = bytes([query[0] ^ 1]) + query[1:2]
        return [other + REFUSED + query[4:], query[:2] + REFUSED + query[4:]]

    assert await probed(server, behave) == ""


async def test_one_that_hangs_is_given_a_second(server: socket.socket) -> None:
    asked: list[bytes] = []

    def behave(query: bytes) -> list[bytes]:
        asked.append(query)
        return []

    assert await probed(server, behave) == "no reply in 1 s"
    assert len(asked) > 1  # a lost packet is no dead resolver


async def test_none_that_listens_is_said_at_once(server: socket.socket) -> None:
    server.close()
    assert await probe_resolver(LOOPBACK) == "Connection refused"
