"""WireGuard's netlink messages: what is written here is read by another implementation, and the other way round."""

from __future__ import annotations

import contextlib
import socket
from base64 import b64decode
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.generic.wireguard import wgmsg

from agent.keys import PrivateKey
from agent.plan.peers import BLACKHOLE_PEER, ActualPeer, DropAddresses, DropPeer, PeerStep, SetPeer, StartHandshake
from agent.system.wireguard import messages
from agent.system.wireguard.messages import PEERS_AT_ONCE, TunnelReader
from tests.agent.worlds import address, key
from zones.addresses import Address

PUBLIC, RECEIVED = key(9), 7


def decoded(attributes: bytes) -> Any:
    """``attributes`` as pyroute2 reads them."""
    body = pack("=BBxx", 0, 1) + attributes
    message = wgmsg(pack("=IHHII", 16 + len(body), 0, 0, 0, 0) + body)
    message.decode()
    return message


def peers(steps: list[PeerStep]) -> list[Any]:
    return [
        peer for message in messages.write_peers("wg0", steps) for peer in decoded(message).get_attr("WGDEVICE_A_PEERS")
    ]


def key_of(peer: Any) -> str:
    text: bytes = peer.get_attr("WGPEER_A_PUBLIC_KEY")
    return text.decode()


def allowed(peer: Any) -> list[str]:
    return [one["addr"] for one in peer.get_attr("WGPEER_A_ALLOWEDIPS") or ()]


def test_a_device_is_given_its_key_and_port() -> None:
    private = PrivateKey.generate()
    message = decoded(messages.write_device("wg0", private, 51820))
    assert message.get_attr("WGDEVICE_A_IFNAME") == "wg0"
    assert message.get_attr("WGDEVICE_A_LISTEN_PORT") == 51820
    assert message.get_attr("WGDEVICE_A_PRIVATE_KEY").decode() == private.text


@pytest.mark.parametrize(
    ("endpoint", "host", "family"),
    [("192.0.2.1:51820", "192.0.2.1", socket.AF_INET), ("[2001:db8::7]:51820", "2001:db8::7", socket.AF_INET6)],
)
def test_a_peer_is_set_with_all_that_it_has(endpoint: str, host: str, family: int) -> None:
    [peer] = peers([SetPeer(key(1), endpoint, 25, (address(1, 1), address(1, 2)), replace=True)])
    assert key_of(peer) == key(1)
    assert peer.get_attr("WGPEER_A_FLAGS") == 2  # WGPEER_F_REPLACE_ALLOWEDIPS
    found = peer.get_attr("WGPEER_A_ENDPOINT")
    assert (found["family"], found["addr"], found["port"]) == (
        family,
        host,
        51820,
    )
    assert peer.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") == 25
    assert allowed(peer) == [f"{address(1, 1)}/128", f"{address(1, 2)}/128"]


def test_what_is_not_given_is_not_said() -> None:
    [peer] = peers([SetPeer(key(1))])
    assert [name for name, _ in peer["attrs"]] == ["WGPEER_A_PUBLIC_KEY"]


def test_steps_are_taken_in_their_order() -> None:
    found = peers([DropPeer(key(1)), DropAddresses((address(1, 1),)), StartHandshake(key(2), 0), SetPeer(key(3))])
    written = [(key_of(peer), peer.get_attr("WGPEER_A_FLAGS") or 0, allowed(peer)) for peer in found]
    assert written == [
        (key(1), 1, []),
        (BLACKHOLE_PEER, 0, [f"{address(1, 1)}/128"]),
        (BLACKHOLE_PEER, 1, []),
        *[(key(2), 0, [])] * 3,
        (key(3), 0, []),
    ]
    keepalives = [peer.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") for peer in found[3:6]]
    assert keepalives == [0, 1, 0]


@pytest.mark.parametrize(("count", "each"), [(1, 3_000), (2_000, 1), (100, 100), (1, 501)])
def test_many_addresses_are_said_in_messages_that_the_kernel_can_read(count: int, each: int) -> None:
    wanted = {key(one): {address(one, at) for at in range(1, each + 1)} for one in range(1, count + 1)}
    steps: list[PeerStep] = [SetPeer(key_, add=tuple(some)) for key_, some in wanted.items()]
    found: dict[str, set[str]] = {}
    for message in messages.write_peers("wg0", steps):
        assert len(message) <= PEERS_AT_ONCE + 100
        for peer in decoded(message).get_attr("WGDEVICE_A_PEERS"):
            found.setdefault(key_of(peer), set()).update(allowed(peer))
    assert found == {key_: {f"{one}/128" for one in some} for key_, some in wanted.items()}


# Reading: the kernel's own form of each attribute, written here by hand


def attribute(kind: int, value: bytes) -> bytes:
    return pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def allowed_attribute(one: bytes, mask: int = 128, family: int = socket.AF_INET6) -> bytes:
    return attribute(0, attribute(3, bytes([mask])) + attribute(1, pack("=H", family)) + attribute(2, one))


def peer_attribute(number: int, *blocks: bytes, **more: bytes) -> bytes:
    return attribute(0, attribute(1, raw(number)) + b"".join(more.values()) + attribute(9 | 0x8000, b"".join(blocks)))


def raw(number: int) -> bytes:
    return b64decode(key(number))


def device(*peers_: bytes) -> bytes:
    return attribute(4, raw(9)) + attribute(6, pack("=H", 51820)) + attribute(8 | 0x8000, b"".join(peers_))


def test_a_device_is_read_with_its_peers() -> None:
    one = peer_attribute(
        1,
        allowed_attribute(address(1, 1)),
        allowed_attribute(address(1, 2)),
        endpoint=attribute(
            4, pack("=H", socket.AF_INET) + pack(">H", 51820) + socket.inet_aton("192.0.2.1") + bytes(8)
        ),
        keepalive=attribute(5, pack("=H", 25)),
        handshake=attribute(6, pack("=qq", 1_700_000_000, 500_000_000)),
        received=attribute(7, pack("=Q", 10)),
        sent=attribute(8, pack("=Q", 20)),
    )
    tunnel = TunnelReader().read([device(one, peer_attribute(2))])
    assert (tunnel.public_key, tunnel.port) == (PUBLIC, 51820)
    both = frozenset({address(1, 1), address(1, 2)})
    assert tunnel.peers[key(1)] == ActualPeer("192.0.2.1:51820", both, 25, 1_700_000_000.5, 10, 20)
    assert tunnel.peers[key(2)] == ActualPeer(None, frozenset())


def test_a_peer_goes_on_in_the_next_message() -> None:
    reader = TunnelReader()
    written = [device(peer_attribute(1, allowed_attribute(address(1, 1)), sent=attribute(8, pack("=Q", 20))))]
    written.append(attribute(8, peer_attribute(1, allowed_attribute(address(1, 2)))))
    for _ in range(2):  # the second time from what is remembered
        assert reader.read(written).peers == {
            key(1): ActualPeer(None, frozenset({address(1, 1), address(1, 2)}), sent=20)
        }


@pytest.mark.parametrize(
    "more",
    [
        allowed_attribute(bytes(address(1, 2)), mask=64),
        allowed_attribute(socket.inet_aton("192.0.2.1"), mask=32, family=socket.AF_INET),
    ],
    ids=["a network", "IPv4"],
)
def test_what_we_never_allow_is_foreign(more: bytes) -> None:
    found = TunnelReader().read([device(peer_attribute(1, allowed_attribute(address(1, 1)), more))]).peers[key(1)]
    assert found.is_foreign
    assert address(1, 1) in found.allowed_ips


def test_an_address_that_comes_or_goes_is_seen() -> None:
    reader, seen = TunnelReader(), []
    for at in ([1, 2], [1, 2], [2], [2, 3], []):
        written = peer_attribute(1, *(allowed_attribute(address(1, one)) for one in at))
        seen.append((reader.read([device(written)]).peers[key(1)].allowed_ips, {address(1, one) for one in at}))
    assert [found for found, _ in seen] == [expected for _, expected in seen]


@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    with contextlib.suppress(ValueError):
        TunnelReader().read([octets])


@given(st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=50))
def test_any_addresses_are_read_as_they_were_said(some: list[bytes]) -> None:
    found = TunnelReader().read([device(peer_attribute(1, *map(allowed_attribute, some)))]).peers[key(1)]
    assert found == ActualPeer(None, frozenset(map(Address, some)))
