"""The sockets of a server: one for each process on one port, and nobody else's."""

from __future__ import annotations

import asyncio
import socket

import pytest

from resolver.net.socket_filter import packed_filter, set_filter
from resolver.sockets import SocketPair, adopt_pair, open_pairs
from support.listening import ListenError
from tests import worlds
from tests.resolver.messages import query
from tests.resolver.servers import ask_tcp, ask_udp, serving

SENT = 200  # datagrams, each from a port of its own
LISTEN = ["127.0.0.1", "::1", "0.0.0.0", "::"]
REACHED = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def close(opened: list[list[SocketPair]]) -> None:
    for pairs in opened:
        for pair in pairs:
            pair.close()


@pytest.mark.parametrize("host", LISTEN)
def test_each_process_gets_a_share_of_the_clients(host: str) -> None:
    opened = open_pairs([(host, 0)], copies=3)
    try:
        assert len({pair.address for pairs in opened for pair in pairs}) == 1
        target = (REACHED.get(host, host), opened[0][0].address[1])
        for _ in range(SENT):
            with socket.socket(opened[0][0].udp.family, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", target)
        counts = [received(pairs[0].udp) for pairs in opened]
        assert sum(counts) == SENT
        assert min(counts) > SENT / 10
    finally:
        close(opened)


def received(sock: socket.socket) -> int:
    count = 0
    while True:
        try:
            sock.recv(16)
        except BlockingIOError:
            return count
        count += 1


def test_another_server_cannot_join_them() -> None:
    opened = open_pairs([("127.0.0.1", 0)], copies=2)
    try:
        for copies in (1, 2):
            with pytest.raises(ListenError, match="another server listens there"):
                open_pairs([opened[0][0].address], copies)
    finally:
        close(opened)


def test_none_is_left_open_where_one_cannot_be_had() -> None:
    with pytest.raises(ListenError, match="does not have the address"):
        open_pairs([("127.0.0.1", 0), ("192.0.2.1", 53)], copies=2)


def test_what_nobody_has_read_is_there_for_who_has_the_socket_next() -> None:
    (pair,) = open_pairs([("127.0.0.1", 0)])[0]
    first, second = pair.duplicate(), pair.duplicate()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", pair.address)
    first.close()
    inherited = adopt_pair(second.udp.detach(), second.tcp.detach())
    assert received(inherited.udp) == 1
    for each in (inherited, pair):
        each.close()


async def test_a_resolver_that_leaves_answers_what_it_has_and_lets_nobody_wait() -> None:
    zone = worlds.compiled(worlds.build(worlds.PRODUCTION, 1))
    async with serving(zone) as resolver:
        server = resolver.addresses[0]
        reader, writer = await asyncio.open_connection(*server, local_addr=(worlds.PRODUCTION_SOURCE, 0))
        packet = query("api.railway.internal")
        writer.write(len(packet).to_bytes(2, "big") + packet)
        await reader.readexactly(2)
        leaving = asyncio.create_task(resolver.leave(60.0))
        writer.write(len(packet).to_bytes(2, "big") + packet)  # a connection in use is served on
        await reader.readexactly(2)
        await leaving  # and closed when its client has nothing more to ask
        assert await reader.read() is not None
        writer.close()


async def test_a_filter_that_a_killed_process_has_left_keeps_nobody_out() -> None:
    zone = worlds.compiled(worlds.build(worlds.PRODUCTION, 1))
    (pair,) = open_pairs([("127.0.0.1", 0)])[0]
    source = worlds.PRODUCTION_SOURCE
    set_filter(pair.udp, packed_filter({socket.inet_aton(source)}, (), 1))
    async with serving(zone) as resolver:
        await resolver.start([pair])
        assert await ask_udp(pair.address, query("api.railway.internal"), source)
        assert await ask_tcp(pair.address, query("api.railway.internal"), source)
