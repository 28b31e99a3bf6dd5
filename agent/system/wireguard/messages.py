"""WireGuard's generic netlink messages as octets: changes of a device, and a device's description of itself. Pure.

The attributes are those of Linux's ``include/uapi/linux/wireguard.h``, which is stable. They are read and written here
with ``struct`` because a library that decodes each attribute into an object costs 140 µs an address, and a host may
have 100,000 of them.

    attribute      length u16 · type u16 · value · padding to a multiple of four octets     (linux/netlink.h)
    device         name · private key · port · peers
      peer         public key · flags · endpoint · keepalive · handshake · received · sent · allowed addresses
        allowed    mask · family · address

A message holds some 30 kB of peers. A peer with more addresses than that goes on in the next message, with nothing but
its key and the addresses.
"""

from __future__ import annotations

import socket
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from struct import Struct, pack
from sys import byteorder
from typing import NamedTuple

from agent.keys import PrivateKey
from agent.plan.peers import (
    BLACKHOLE_PEER,
    ActualPeer,
    DropAddresses,
    DropPeer,
    PeerStep,
    SetPeer,
    StartHandshake,
    Tunnel,
)
from agent.system.netlink_socket import attribute, nested, text
from support.endpoints import Endpoint
from zones.addresses import Address
from zones.keys import PublicKey

PEERS_AT_ONCE = 30_000  # octets of peers in one message: the kernel reads a nested attribute of at most 65,535
ADDRESSES_AT_ONCE = 500  # of one peer in one message: each takes 40 octets

# enum wgdevice_attribute, wgpeer_attribute, wgallowedip_attribute, and their flags
_DEVICE_NAME, _DEVICE_PRIVATE_KEY, _DEVICE_PUBLIC_KEY, _DEVICE_PORT, _DEVICE_PEERS = 2, 3, 4, 6, 8
_PEER_KEY, _PEER_FLAGS, _PEER_ENDPOINT, _PEER_KEEPALIVE, _PEER_HANDSHAKE, _PEER_RECEIVED = 1, 3, 4, 5, 6, 7
_PEER_SENT, _PEER_ALLOWED = 8, 9
_ALLOWED_FAMILY, _ALLOWED_ADDRESS, _ALLOWED_MASK = 1, 2, 3
_REMOVE_PEER, _REPLACE_ALLOWED = 1, 2

_TYPE_BITS = 0x3FFF  # NLA_TYPE_MASK
_HEADER = Struct("=HH")
_HOST_BITS = 128

# A single IPv6 address as the kernel writes and takes it: all but the last 16 octets are always the same.
_ALLOWED_LENGTH = 40
_ALLOWED_PREFIX = nested(
    0,
    attribute(_ALLOWED_MASK, bytes([_HOST_BITS])),
    attribute(_ALLOWED_FAMILY, pack("=H", socket.AF_INET6)),
    attribute(_ALLOWED_ADDRESS, bytes(16)),
)[: _ALLOWED_LENGTH - 16]
_PREFIX_LENGTH = len(_ALLOWED_PREFIX)


# Changes of a device


def write_device(name: str, key: PrivateKey | None = None, port: int | None = None) -> bytes:
    """The message that gives the device ``name`` its ``key`` and its ``port``; None leaves either as it is."""
    message = text(_DEVICE_NAME, name)
    if key is not None:
        message += attribute(_DEVICE_PRIVATE_KEY, key.octets)
    if port is not None:
        message += attribute(_DEVICE_PORT, pack("=H", port))
    return message


def write_peers(name: str, steps: Iterable[PeerStep]) -> Iterator[bytes]:
    """The messages that take ``steps`` on the device ``name``, in their order."""
    peers: list[bytes] = []
    octets = 0
    for peer in (peer for step in steps for peer in _peers(step)):
        if peers and octets + len(peer) > PEERS_AT_ONCE:
            yield write_device(name) + nested(_DEVICE_PEERS, *peers)
            peers, octets = [], 0
        peers.append(peer)
        octets += len(peer)
    if peers:
        yield write_device(name) + nested(_DEVICE_PEERS, *peers)


def _peers(step: PeerStep) -> Iterator[bytes]:
    match step:
        case DropPeer(key):
            yield _peer(key, flags=_REMOVE_PEER)
        case DropAddresses(addresses):
            for some in _in_parts(addresses):
                yield _peer(BLACKHOLE_PEER, allowed=some)
            yield _peer(BLACKHOLE_PEER, flags=_REMOVE_PEER)
        case StartHandshake(key, keepalive):
            # The kernel sends a keepalive when the interval changes from none to some, and nothing else makes a device
            # begin a handshake.
            for seconds in (0, 1, keepalive):
                yield _peer(key, keepalive=seconds)
        case SetPeer():
            first, *others = [*_in_parts(step.add)] or [()]
            flags = _REPLACE_ALLOWED if step.replace else 0
            yield _peer(step.key, flags, step.endpoint, step.keepalive, first)
            for some in others:
                yield _peer(step.key, allowed=some)


def _in_parts(addresses: Iterable[Address]) -> Iterator[tuple[Address, ...]]:
    rest = iter(addresses)
    while some := tuple(islice(rest, ADDRESSES_AT_ONCE)):
        yield some


def _peer(
    key: PublicKey,
    flags: int = 0,
    endpoint: str | None = None,
    keepalive: int | None = None,
    allowed: Sequence[Address] = (),
) -> bytes:
    peer = attribute(_PEER_KEY, b64decode(key))
    if flags:
        peer += attribute(_PEER_FLAGS, pack("=I", flags))
    if endpoint is not None:
        peer += attribute(_PEER_ENDPOINT, _write_endpoint(endpoint))
    if keepalive is not None:
        peer += attribute(_PEER_KEEPALIVE, pack("=H", keepalive))
    if allowed:
        peer += nested(_PEER_ALLOWED, _ALLOWED_PREFIX + _ALLOWED_PREFIX.join(allowed))
    return nested(0, peer)


def _write_endpoint(endpoint: str) -> bytes:
    host, port = Endpoint.parse(endpoint)
    if ":" in host:  # struct sockaddr_in6: family, port, flow, address, scope
        address = socket.inet_pton(socket.AF_INET6, host)
        return pack("=H", socket.AF_INET6) + pack(">HI", port, 0) + address + bytes(4)
    address = socket.inet_pton(socket.AF_INET, host)  # struct sockaddr_in: family, port, address, eight octets unused
    return pack("=H", socket.AF_INET) + pack(">H", port) + address + bytes(8)


# The description of a device


class _Decoded(NamedTuple):
    key: PublicKey
    peer: ActualPeer
    allowed: bytes  # what the kernel says of the peer's allowed addresses


class TunnelReader:
    """Reads the messages of one device, and remembers what it has decoded.

    Most peers are as they were at the last reading, octet for octet; of most others only the counters have changed. So
    a device of 100,000 addresses with nothing new is read without decoding one of them.
    """

    def __init__(self) -> None:
        self._peers: dict[bytes, _Decoded] = {}  # by all that the kernel says of each
        self._by_allowed: dict[bytes, ActualPeer] = {}

    def read(self, messages: Iterable[bytes]) -> Tunnel:
        """The device that ``messages`` describe. Raises ``ValueError`` where they are malformed."""
        public_key: PublicKey | None = None
        port = 0
        peers: dict[PublicKey, ActualPeer] = {}
        decoded: dict[bytes, _Decoded] = {}
        for message in messages:
            for kind, value in _attributes(message):
                if kind == _DEVICE_PUBLIC_KEY:
                    public_key = _read_key(value)
                elif kind == _DEVICE_PORT:
                    port = int.from_bytes(value, byteorder)
                elif kind == _DEVICE_PEERS:
                    for _, described in _attributes(value):
                        key, peer, _ = decoded[described] = self._peers.get(described) or self._decode(described)
                        peers[key] = _joined(peers[key], peer) if key in peers else peer
        self._peers = decoded
        self._by_allowed = {one.allowed: one.peer for one in decoded.values()}
        return Tunnel(public_key, port, peers)

    def _decode(self, described: bytes) -> _Decoded:
        values = dict(_attributes(described))
        if _PEER_KEY not in values:
            raise ValueError("a peer without a public key")
        block = values.get(_PEER_ALLOWED, b"")
        same = self._by_allowed.get(block)
        allowed_ips, is_foreign = (same.allowed_ips, same.is_foreign) if same else _read_allowed(block)
        handshake = values.get(_PEER_HANDSHAKE)
        seconds, nanoseconds = _TIMESPEC.unpack(handshake) if handshake else (0, 0)
        peer = ActualPeer(
            endpoint=_read_endpoint(values.get(_PEER_ENDPOINT, b"")),
            allowed_ips=allowed_ips,
            keepalive=int.from_bytes(values.get(_PEER_KEEPALIVE, b""), byteorder),
            handshake=seconds + nanoseconds / 1e9,
            received=int.from_bytes(values.get(_PEER_RECEIVED, b""), byteorder),
            sent=int.from_bytes(values.get(_PEER_SENT, b""), byteorder),
            is_foreign=is_foreign,
        )
        return _Decoded(_read_key(values[_PEER_KEY]), peer, block)


_TIMESPEC = Struct("=qq")  # struct __kernel_timespec


def _attributes(octets: bytes) -> Iterator[tuple[int, bytes]]:
    at, end = 0, len(octets)
    while at + 4 <= end:
        length, kind = _HEADER.unpack_from(octets, at)
        if length < 4 or at + length > end:
            raise ValueError(f"an attribute of {length} octets where {end - at} are left")
        yield kind & _TYPE_BITS, octets[at + 4 : at + length]
        at += length + (-length % 4)


def _joined(first: ActualPeer, more: ActualPeer) -> ActualPeer:
    """``first`` with what a later message, which repeats only the key, adds to it."""
    allowed_ips = first.allowed_ips | more.allowed_ips
    return replace(first, allowed_ips=allowed_ips, is_foreign=first.is_foreign or more.is_foreign)


def _read_allowed(block: bytes) -> tuple[frozenset[Address], bool]:
    """The single IPv6 addresses in ``block``, and whether it has anything else: a network, or an IPv4 address."""
    starts = range(0, len(block), _ALLOWED_LENGTH)
    if all(block.startswith(_ALLOWED_PREFIX, at) for at in starts) and len(block) % _ALLOWED_LENGTH == 0:
        return frozenset([Address(block[at + _PREFIX_LENGTH : at + _ALLOWED_LENGTH]) for at in starts]), False
    allowed: set[Address] = set()
    is_foreign = False
    for _, described in _attributes(block):
        values = dict(_attributes(described))
        address, mask = values.get(_ALLOWED_ADDRESS, b""), values.get(_ALLOWED_MASK, b"\0")
        if len(address) == 16:
            allowed.add(Address(address))
        is_foreign |= len(address) != 16 or mask[0] != _HOST_BITS
    return frozenset(allowed), is_foreign


def _read_key(value: bytes) -> PublicKey:
    return PublicKey(b64encode(value).decode())


def _read_endpoint(value: bytes) -> str | None:
    family = int.from_bytes(value[:2], byteorder)
    port = int.from_bytes(value[2:4], "big")
    if family == socket.AF_INET6:
        return str(Endpoint(socket.inet_ntop(socket.AF_INET6, value[8:24]), port))
    if family == socket.AF_INET:
        return str(Endpoint(socket.inet_ntop(socket.AF_INET, value[4:8]), port))
    return None
