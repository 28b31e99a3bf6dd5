"""The filters of sockets: they have the shape that the kernel takes, and drop the packets of whom they name."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from resolver.net.socket_filter import packed_filter, set_filter
from tests.resolver.net.test_shield import receive, send


def packed(address: str) -> bytes:
    return ip_address(address).packed


@pytest.mark.parametrize(("pattern", "instructions"), [("127.0.0.{}", 2), ("fd12::{}", 8)], ids=["IPv4", "IPv6"])
def test_many_sources_fit(pattern: str, instructions: int) -> None:
    sources = [packed(pattern.format(number)) for number in range(64)]
    assert len(packed_filter(sources, (), 2)) == 8 * (64 * (instructions + 1) + 1)
    assert len(packed_filter((), sources, 2)) == 8 * (64 * (instructions + 4) + 1)
    family = socket.AF_INET6 if ":" in pattern else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        set_filter(sock, packed_filter((), sources, 2))
        set_filter(sock, b"")


def test_each_source_has_what_was_said_of_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        dropped, thinned = [packed("127.0.0.2"), packed("127.0.0.3")], [packed("127.0.0.4"), packed("127.0.0.5")]
        set_filter(sock, packed_filter(dropped, thinned, 2))
        for _ in range(40):
            for number in range(1, 7):
                send(f"127.0.0.{number}", sock)
        found = receive(sock)
        seen = {number: found.count(f"127.0.0.{number}") for number in range(1, 7)}
        assert (seen[1], seen[2], seen[3], seen[6]) == (40, 0, 0, 40)
        assert 0 < seen[4] < 40
        assert 0 < seen[5] < 40
        set_filter(sock, b"")
        send("127.0.0.2", sock)
        assert receive(sock) == ["127.0.0.2"]
