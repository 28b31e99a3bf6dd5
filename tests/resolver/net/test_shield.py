"""The filter of the shield, in real sockets: it drops the packets of the sources that it names, and no others."""

from __future__ import annotations

import asyncio
import socket

import pytest

from resolver.net import shield
from resolver.net.shield import Shield, packed_filter
from tests.waiting import until

ASKED = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def test_a_filter_of_many_sources_has_the_shape_that_the_kernel_takes() -> None:
    assert len(packed_filter(packed(f"127.0.0.{number}") for number in range(64))) == 8 * (64 * 3 + 1)
    assert len(packed_filter(packed(f"fd12::{number}") for number in range(64))) == 8 * (64 * 9 + 1)


@pytest.mark.parametrize(
    ("source", "others"),
    [("127.0.0.2", ("127.0.0.1", "127.0.0.3", "127.0.1.2")), ("::1", ())],
    ids=["IPv4", "IPv6"],
)
async def test_a_source_that_fills_the_queue_is_shut_out_for_a_while(
    source: str, others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shield, "LONG_QUEUE", 1)
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((ASKED[family], 0))
        made = Shield(sock)
        send(source, sock)
        made.look([memoryview(packed(source))] * 64)
        assert receive(sock) == [source]
        send(source, sock)
        for other in others:
            send(other, sock)
        assert receive(sock) == list(others)
        assert made.dropped == 1

        def is_open() -> bool:
            send(source, sock)
            return receive(sock) == [source]

        await until(is_open)


async def test_it_is_shut_out_for_longer_each_time_and_forgiven_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shield, "LONG_QUEUE", 1)
    monkeypatch.setattr(shield, "FORGIVEN_AFTER", 0.05)
    loop, waits = asyncio.get_running_loop(), list[float]()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        made = Shield(sock)
        send("127.0.0.2", sock)
        for _ in range(3):
            began = loop.time()
            made.look([memoryview(packed("127.0.0.2"))] * 64)
            await until(lambda: not made.is_shutting_out)
            waits.append(loop.time() - began)
        assert waits[0] < waits[1] < waits[2]
        forgiven = loop.time() + 0.05
        await until(lambda: loop.time() > forgiven)
        assert made.next_time(packed("127.0.0.2"), loop.time()) == shield.FIRST


async def test_sources_that_are_equally_busy_are_not_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shield, "LONG_QUEUE", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        made = Shield(sock)
        send("127.0.0.2", sock)
        made.look([memoryview(bytes([127, 0, 0, number])) for number in range(64)])
        assert not made.is_shutting_out


def send(source: str, to: socket.socket) -> None:
    with socket.socket(to.family, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.sendto(b"x", to.getsockname())


def receive(sock: socket.socket) -> list[str]:
    """The sources of the packets that have arrived: those of this machine arrive before `send` returns."""
    found = []
    while True:
        try:
            found.append(sock.recvfrom(16)[1][0])
        except BlockingIOError:
            return found
