"""Fragments: none of a forged source is put together with another's, none is kept for the resolver, and each sender has
so many a second. The host has conntrack, which puts fragments together before most of nftables sees them.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from tests.mesh.capture import Capture
from tests.mesh.mesh import Mesh, Node
from tests.security.packets import ethernet, ipv6, send_frames, udp
from tests.security.places import Members, host_mac

FRAGMENT, UDP = 44, 17
PORT = 7000
PATIENCE = 5.0  # seconds for a datagram that must come
RATE, BURST = 10_000, 1_000  # of one sender, as the firewall has them

# As Docker's rules do: a rule that needs conntrack.
_CONNTRACK = "table inet conntracking { chain c { type filter hook forward priority 10; ct state invalid drop; }; }"


@pytest.fixture(scope="module")
def conntracked(mesh: Mesh) -> Iterator[Node]:
    """The host h1, with a firewall beside the agent's that needs conntrack."""
    h1 = mesh.nodes["h1"]
    h1.host.run(["nft", "-f", "-"], text=_CONNTRACK)
    yield h1
    h1.host.run(["nft", "delete", "table", "inet", "conntracking"])


def pieces(source: str, destination: str, payload: bytes, id_: int, port: int = PORT) -> tuple[bytes, bytes]:
    """The two fragments of a datagram."""
    ends = IPv6Address(source).packed, IPv6Address(destination).packed
    whole = udp(*ends, port, payload)
    cut = len(whole) // 2 & ~7
    return (
        ipv6(*ends, FRAGMENT, struct.pack("!BBHI", UDP, 0, 1, id_) + whole[:cut]),
        ipv6(*ends, FRAGMENT, struct.pack("!BBHI", UDP, 0, cut, id_) + whole[cut:]),
    )


def send(members: Members, host: str, packets: list[bytes]) -> None:
    workload = members.on[host]
    frames = [ethernet(host_mac(workload), packet) for packet in packets]
    workload.call(lambda: send_frames("railnet0", frames))


def listener(members: Members, host: str) -> socket.socket:
    def listen() -> socket.socket:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind(("::", PORT))
        sock.settimeout(PATIENCE)
        return sock

    return members.on[host].call(listen)


def test_a_forged_fragment_is_not_put_into_a_datagram_of_another_environment(
    red: Members, blue: Members, mesh: Mesh, conntracked: Node
) -> None:
    """Blue's own datagram comes in two parts; red sends a second part of its own in between, from blue's address."""
    with contextlib.closing(listener(blue, "h2")) as sock:
        for id_ in range(20):
            own = pieces(blue.on["h1"].address, blue.on["h2"].address, b"blue" * 64, id_)
            forged = pieces(blue.on["h1"].address, blue.on["h2"].address, b"evil" * 64, id_)
            send(blue, "h1", [own[0]])
            send(red, "h1", [forged[1]])
            send(blue, "h1", [own[1]])
            assert sock.recv(2048) == b"blue" * 64


def test_fragments_of_any_source_do_not_keep_others_from_having_theirs_passed_on(
    red: Members, blue: Members, mesh: Mesh, conntracked: Node
) -> None:
    """First parts that nobody ever completes: from forged sources, from its own, and to the resolver."""
    mine, here = red.on["h1"].address, IPv6Address(blue.on["h1"].address)
    forged = [str(here + number) for number in range(1, 40)]
    flood = [
        pieces(source, destination, b"x" * 1200, id_)[0]
        for id_ in range(150)
        for source in (mine, *forged)
        for destination in (red.on["h2"].address, "fd12::10")
    ]
    with contextlib.closing(listener(blue, "h2")) as sock:
        send(red, "h1", flood)
        send(blue, "h1", list(pieces(blue.on["h1"].address, blue.on["h2"].address, b"blue" * 64, 99)))
        assert sock.recv(2048) == b"blue" * 64
    # Nothing of it is kept on the host.
    in_use = conntracked.host.run(["cat", "/proc/net/sockstat6"]).stdout
    (fragments,) = [line.split() for line in in_use.splitlines() if line.startswith("FRAG6")]
    assert fragments == ["FRAG6:", "inuse", "0", "memory", "0"]


def test_the_resolver_gets_no_fragment(red: Members, mesh: Mesh, conntracked: Node) -> None:
    """Not even a query in two parts is answered; a whole one is."""
    query = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\x03api\x07railway\x08internal\0" + b"\0\x1c\0\1"
    workload = red.on["h1"]
    ends = IPv6Address(workload.address).packed, IPv6Address("fd12::10").packed
    with Capture(workload.namespace) as answers:
        send(red, "h1", list(pieces(workload.address, "fd12::10", query, 5, 53)))
        send(red, "h1", [ipv6(*ends, UDP, udp(*ends, 53, query))])
        deadline = time.monotonic() + PATIENCE
        while not answers.kept and time.monotonic() < deadline:
            time.sleep(0.01)
    assert [packet.kind for packet in answers.kept if packet.source == IPv6Address("fd12::10")] == ["udp"]


def test_a_sender_has_so_many_fragments_a_second(red: Members, mesh: Mesh, conntracked: Node) -> None:
    one = red.on["h1"]
    packets = itertools.islice(itertools.cycle(pieces(one.address, red.on["h2"].address, b"x" * 200, 3)), 12 * BURST)
    frames = [ethernet(host_mac(one), packet) for packet in packets]
    with Capture(red.on["h2"].namespace) as arrived:
        started = time.monotonic()
        sent = one.call(lambda: send_frames("railnet0", frames))
        seconds = time.monotonic() - started
    assert sent == len(frames)
    passed = sum(packet.kind == "protocol 44" for packet in arrived.kept)
    print(f"{sent} fragments in {seconds:.2f} s, {passed} passed")
    assert 0 < passed <= BURST + RATE * seconds * 1.5 + 100
    assert passed < sent
