"""Packets that nobody honest sends: from every source to every destination, of every kind that a link carries.

A matrix is all `KINDS` from all sources to all destinations; `FRAMES` are those that are no IPv6 at all. The payload of
each has `MARK`, so that one that arrives is told from others.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv6Address

MARK = b"interlock-probe!"
_IPV6, _HOP_BY_HOP, _TCP, _UDP, _ROUTING, _FRAGMENT = 0x86DD, 0, 6, 17, 43, 44
_GRE, _ESP, _AH, _ICMPV6, _NOTHING, _OPTIONS, _IN_IPV6, _IN_IPV4 = 47, 50, 51, 58, 59, 60, 41, 4

Kind = Callable[[bytes, bytes], bytes]
"""A packet from a source to a destination, of sixteen octets each."""


def ipv6(source: bytes, destination: bytes, protocol: int, payload: bytes, hops: int = 64) -> bytes:
    """An IPv6 packet."""
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + source + destination + payload


def udp(source: bytes, destination: bytes, port: int = 7000, payload: bytes = MARK) -> bytes:
    """A UDP datagram with its checksum."""
    return _checked(source, destination, _UDP, struct.pack("!HHHH", 4000, port, 8 + len(payload), 0) + payload, 6)


def tcp(source: bytes, destination: bytes) -> bytes:
    """A TCP segment that asks for a connection."""
    header = struct.pack("!HHIIBBHHH", 4000, 7000, 1, 0, 5 << 4, 2, 1024, 0, 0)
    return _checked(source, destination, _TCP, header, 16)


def icmp(source: bytes, destination: bytes, kind: int, body: bytes, code: int = 0) -> bytes:
    """An ICMPv6 message."""
    return _checked(source, destination, _ICMPV6, struct.pack("!BBH", kind, code, 0) + body, 2)


def _checked(source: bytes, destination: bytes, protocol: int, segment: bytes, at: int) -> bytes:
    total = source + destination + struct.pack("!II", len(segment), protocol) + segment + b"\0" * (len(segment) % 2)
    value = sum(struct.unpack(f"!{len(total) // 2}H", total))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return segment[:at] + struct.pack("!H", ~value & 0xFFFF or 0xFFFF) + segment[at + 2 :]


def _behind(header: int, octets: bytes) -> Kind:
    """UDP behind an extension header, whose first octet (the next header) is put before ``octets``."""
    return lambda s, d: ipv6(s, d, header, bytes([_UDP]) + octets + udp(s, d))


def _fragment(offset: int, *, more: bool) -> Kind:
    field = offset | more
    return lambda s, d: ipv6(s, d, _FRAGMENT, struct.pack("!BBHI", _UDP, 0, field, 77) + udp(s, d))


def _neighbour(kind: int, body: Callable[[bytes, bytes], bytes]) -> Kind:
    return lambda s, d: ipv6(s, d, _ICMPV6, icmp(s, d, kind, body(s, d)), hops=255)


_LINK_ADDRESS = bytes([2, 1, 2, 0, 0, 0, 0, 66])  # an option: my link-layer address (RFC 4861 §4.6.1)
_PREFIX_OPTION = (
    bytes([3, 4, 64, 0xC0]) + b"\0\0\xff\xff\0\0\xff\xff\0\0\0\0" + bytes.fromhex("20010db8666600000000000000000000")
)

KINDS: Mapping[str, Kind] = {
    "udp": lambda s, d: ipv6(s, d, _UDP, udp(s, d)),
    "dns": lambda s, d: ipv6(s, d, _UDP, udp(s, d, 53)),
    "ssh": lambda s, d: ipv6(s, d, _UDP, udp(s, d, 22)),
    "tcp": lambda s, d: ipv6(s, d, _TCP, tcp(s, d)),
    "echo": lambda s, d: ipv6(s, d, _ICMPV6, icmp(s, d, 128, struct.pack("!HH", 1, 1) + MARK)),
    "unreachable": lambda s, d: ipv6(s, d, _ICMPV6, icmp(s, d, 1, bytes(4) + ipv6(d, s, _UDP, udp(d, s)))),
    "hop-by-hop": _behind(_HOP_BY_HOP, bytes([0, 1, 4, 0, 0, 0, 0])),
    "router alert": _behind(_HOP_BY_HOP, bytes([0, 5, 2, 0, 0, 1, 0])),
    "destination options": _behind(_OPTIONS, bytes([0, 1, 4, 0, 0, 0, 0])),
    "routing header 0": lambda s, d: ipv6(s, d, _ROUTING, bytes([_UDP, 2, 0, 1, 0, 0, 0, 0]) + d + udp(s, d)),
    "segment routing": lambda s, d: ipv6(s, d, _ROUTING, bytes([_UDP, 2, 4, 0, 0, 0, 0, 0]) + d + udp(s, d)),
    "first fragment": _fragment(0, more=True),
    "later fragment": _fragment(64, more=False),
    "whole fragment": _fragment(0, more=False),
    "fragment behind options": lambda s, d: ipv6(
        s, d, _OPTIONS, bytes([_FRAGMENT, 0, 1, 4, 0, 0, 0, 0]) + struct.pack("!BBHI", _UDP, 0, 1, 78) + udp(s, d)
    ),
    "authentication header": _behind(_AH, bytes([1, 0, 0]) + bytes(8)),
    "esp": lambda s, d: ipv6(s, d, _ESP, bytes(8) + MARK),
    "ipv6 in ipv6": lambda s, d: ipv6(s, d, _IN_IPV6, ipv6(d, s, _UDP, udp(d, s))),
    "ipv4 in ipv6": lambda s, d: ipv6(s, d, _IN_IPV4, ipv4("192.0.2.66", "192.0.2.1")),
    "gre": lambda s, d: ipv6(s, d, _GRE, struct.pack("!HH", 0, _IPV6) + ipv6(d, s, _UDP, udp(d, s))),
    "nothing": lambda s, d: ipv6(s, d, _NOTHING, MARK),
    "neighbour solicitation": _neighbour(135, lambda _, d: bytes(4) + d + _LINK_ADDRESS),
    "neighbour advertisement": _neighbour(136, lambda s, _: b"\x60\0\0\0" + s + b"\2" + _LINK_ADDRESS[1:]),
    "router solicitation": _neighbour(133, lambda _s, _d: bytes(4) + _LINK_ADDRESS),
    "router advertisement": _neighbour(134, lambda _s, _d: struct.pack("!BBHII", 64, 0, 1800, 0, 0) + _PREFIX_OPTION),
    "redirect": _neighbour(137, lambda s, d: bytes(4) + s + d),
    "listener report": _neighbour(143, lambda _, d: struct.pack("!HHBBH", 0, 1, 4, 0, 0) + d),
}


# A host that gets the first part of a datagram writes to its sender after a minute that it has waited long enough.
WHOLE_KINDS = {name: kind for name, kind in KINDS.items() if "fragment" not in name}


def ipv4(source: str, destination: str) -> bytes:
    """An IPv4 packet with UDP in it."""
    segment = struct.pack("!HHHH", 4000, 7000, 8 + len(MARK), 0) + MARK
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0, 64, _UDP, 0) + ends
    value = sum(struct.unpack("!10H", header))
    value = (value & 0xFFFF) + (value >> 16)
    return header[:10] + struct.pack("!H", ~(value + (value >> 16)) & 0xFFFF) + header[12:] + segment


def matrix(sources: Iterable[str], destinations: Iterable[str], kinds: Mapping[str, Kind] = KINDS) -> Iterator[bytes]:
    """All ``kinds`` from all ``sources`` to all ``destinations``."""
    for source in sources:
        for destination in destinations:
            ends = IPv6Address(source).packed, IPv6Address(destination).packed
            for kind in kinds.values():
                yield kind(*ends)


def ethernet(frame_to: str, packet: bytes, ether_type: int = _IPV6) -> bytes:
    """``packet`` in an Ethernet frame to the MAC address ``frame_to``."""
    return bytes.fromhex(frame_to.replace(":", "")) + b"\2\0\0\0\0\x66" + struct.pack("!H", ether_type) + packet


def other_frames(frame_to: str, inner: bytes, ipv4_hosts: Iterable[str]) -> Iterator[bytes]:
    """Frames that are no plain IPv6: ``inner``, an IPv6 packet, with tags; ARP and IPv4 to ``ipv4_hosts``."""
    tagged = struct.pack("!HH", 5, _IPV6) + inner
    for to in (frame_to, "ff:ff:ff:ff:ff:ff"):
        yield ethernet(to, tagged, 0x8100)  # VLAN 5
        yield ethernet(to, struct.pack("!HH", 0, _IPV6) + inner, 0x8100)  # priority alone: a kernel takes off the tag
        yield ethernet(to, struct.pack("!HH", 7, 0x8100) + tagged, 0x88A8)  # QinQ
        yield ethernet(to, struct.pack("!I", 16 << 12 | 1 << 8 | 64) + inner, 0x8847)  # MPLS
        yield ethernet(to, b"\x11\0\0\1" + struct.pack("!HH", len(inner) + 2, 0x57) + inner, 0x8864)  # PPPoE
        yield ethernet(to, MARK, 0x88CC)  # LLDP
        yield ethernet(to, b"\1\1\0\0", 0x888E)  # 802.1X
        yield ethernet(to, ipv4("0.0.0.0", "255.255.255.255"), 0x0800)  # as DHCP begins
        for host in ipv4_hosts:
            yield ethernet(to, ipv4("192.0.2.66", host), 0x0800)
            yield ethernet(to, arp(1, "192.0.2.66", host), 0x0806)
            yield ethernet(to, arp(2, host, "192.0.2.66"), 0x0806)


def arp(operation: int, source: str, target: str) -> bytes:
    """An ARP request (1) or reply (2)."""
    ends = b"\2\0\0\0\0\x66" + socket.inet_aton(source), bytes(6) + socket.inet_aton(target)
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + ends[0] + ends[1]


def send_frames(link: str, frames: Iterable[bytes]) -> int:
    """Sends ``frames`` on ``link`` of the namespace that this thread is in, as they are; gives how many.

    On a link without Ethernet, such as a tunnel, a frame is an IPv6 packet.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((link, _IPV6))
        count = 0
        for frame in frames:
            sock.send(frame)
            count += 1
    return count
