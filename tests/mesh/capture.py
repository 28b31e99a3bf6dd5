"""Packets that pass a link: a capture reads all, and keeps those that the test does not expect there."""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

from tests.namespaces import Namespace, capture

# What may be on an underlay, in tcpdump's syntax, where "and" and "or" have the same precedence. A WireGuard packet is
# UDP from or to its port, and begins with an octet of type, from 1 to 4, and three zeros (its paper, §5.4).
_MESSAGE = "({0} >= 1 and {0} <= 4 and {1} = 0 and {2} = 0)"
_MESSAGES = (_MESSAGE.format("udp[8]", "udp[9]", "udp[10:2]"), _MESSAGE.format("ip6[48]", "ip6[49]", "ip6[50:2]"))
WIREGUARD = "(udp port 51820 and ((ip and {}) or (ip6 and {})))".format(*_MESSAGES)
# The sessions of the hosts with the control plane, by TLS.
CONTROL_PLANE = "(tcp port 8443 and (host 192.0.2.253 or host 2001:db8::fd))"
# And what links send by themselves: ARP, neighbour discovery (RFC 4861), multicast listeners (RFC 3810).
_NEIGHBOURS = "(ip6[6] = 58 and ip6[40] >= 133 and ip6[40] <= 137)"
_LISTENERS = "(ip6[6] = 0 and ip6[40] = 58 and ip6[48] = 143)"
LINK = f"(arp or {_NEIGHBOURS} or {_LISTENERS})"

EXPECTED = f"{WIREGUARD} or {CONTROL_PLANE} or {LINK}"

_SOL_PACKET, _SO_ATTACH_FILTER = 263, 26
_PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 6, 23  # <linux/if_packet.h>
_STATISTICS = struct.Struct("II")  # packets received, packets dropped
_INSTRUCTION, _PROGRAM = struct.Struct("HBBI"), struct.Struct("HL")  # <linux/filter.h>
_ETHERNET = 14
_SNAP = 256  # octets that are read of each packet
_POLL_INTERVAL = 0.2  # seconds that a reader waits for a packet before it checks whether it must end
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP, _UDP, _ICMPV6 = 6, 17, 58


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet on ``link``: its protocol, addresses and ports (0 if it has none)."""

    link: str
    kind: str
    source: IPv4Address | IPv6Address | None = None
    destination: IPv4Address | IPv6Address | None = None
    ports: tuple[int, int] = (0, 0)


class Capture:
    """Keeps in ``kept`` the packets that come in at ``link`` of ``space``, or without ``link`` at all of its links.

    Packets that match ``ignored``, an expression of tcpdump's, are left out. ``kept`` is complete once the
    with-statement has ended.
    """

    def __init__(self, space: Namespace, link: str = "", ignored: str = "") -> None:
        self.kept: list[Packet] = []
        self._sock = capture(space, link)
        self._sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        if ignored:
            _filter(self._sock, f"not ({ignored})")
        self._is_over = False
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._drain()
        self.kept.clear()  # these came before the filter was in place
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the capture once all packets so far are read. Fails if the kernel dropped some unread."""
        self._is_over = True
        self._thread.join()
        _, dropped = _STATISTICS.unpack(self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
        self._sock.close()
        assert not dropped, f"{dropped} packets were dropped unread"

    def _read(self) -> None:
        while True:
            is_last = self._is_over
            if select.select([self._sock], [], [], 0 if is_last else _POLL_INTERVAL)[0]:
                self._drain()
            if is_last:
                return

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = self._sock.recvfrom(_SNAP)
                self.kept.append(read(data, address[0]))


def read(frame: bytes, link: str) -> Packet:
    """The packet in the Ethernet ``frame``, of which the beginning is enough."""
    ether_type = int.from_bytes(frame[12:_ETHERNET], "big")
    data = frame[_ETHERNET:]
    if ether_type == _IPV4 and len(data) >= 20:
        is_first = not int.from_bytes(data[6:8], "big") & 0x1FFF
        header = (data[0] & 15) * 4
        return _packet(link, data[9], data[12:16], data[16:20], data[header:] if is_first else b"")
    if ether_type == _IPV6 and len(data) >= 40:
        return _packet(link, data[6], data[8:24], data[24:40], data[40:])
    return Packet(link, f"ethernet {ether_type:#06x}")


def _packet(link: str, protocol: int, source: bytes, destination: bytes, rest: bytes) -> Packet:
    kind, ports = f"protocol {protocol}", (0, 0)
    if protocol == _ICMPV6 and rest:
        kind = f"icmpv6 {rest[0]}"
    elif protocol in (_TCP, _UDP) and len(rest) >= 4:
        kind, ports = "tcp" if protocol == _TCP else "udp", struct.unpack_from("!HH", rest)
    return Packet(link, kind, ip_address(source), ip_address(destination), ports)


def _filter(sock: socket.socket, expression: str) -> None:
    """Makes the kernel pass only packets that match ``expression`` to ``sock``."""
    compiled = subprocess.run(
        ["tcpdump", "-y", "EN10MB", "-ddd", expression], capture_output=True, text=True, check=True
    )
    count, *lines = compiled.stdout.split("\n")
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*map(int, line.split())) for line in lines if line))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(int(count), ctypes.addressof(code)))
