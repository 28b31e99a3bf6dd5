"""Queries from inside a workload: what gets lost is sent again, soon and then ever more seldom."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from agent.attach.lookup import AAAA, RESEND_FIRST, LookupQuery, exchange
from tests.waiting import DEADLINE
from zones.names import Name

QUERY = LookupQuery(7, Name.parse("api.railway.internal"), AAAA)


@pytest.fixture
def resolver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        sock.setblocking(False)
        yield sock


async def asked(resolver: socket.socket, seconds: float) -> bool:
    """Whether a workload that asks for ``seconds`` gets an answer."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(resolver.getsockname())
        return QUERY in await exchange(sock, [QUERY], seconds, RESEND_FIRST)


async def test_what_gets_lost_is_sent_again(resolver: socket.socket) -> None:
    async def lose_three() -> None:
        for number in range(4):
            query, client = await asyncio.get_running_loop().sock_recvfrom(resolver, 512)
            if number == 3:
                header = query[:2] + b"\x81\x80" + query[4:]
                await asyncio.get_running_loop().sock_sendto(resolver, header, client)

    answering = asyncio.create_task(lose_three())
    assert await asked(resolver, DEADLINE)
    await answering


async def test_who_does_not_answer_is_asked_ever_more_seldom(resolver: socket.socket) -> None:
    assert not await asked(resolver, 1.0)
    sent = 0
    while True:
        try:
            resolver.recv(512)
        except BlockingIOError:
            break
        sent += 1
    assert 1 <= sent <= 7  # at 0, 30, 90, 210, 450 and 930 ms; on a busy machine fewer
