"""Packets as they pass a link: all are looked at, and those are kept that have no business there."""

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

from tests.namespaces import Namespace

# What may be on an underlay, as tcpdump(8) takes it. WireGuard is UDP from or to its port with one of its messages in
# it: an octet of type, from 1 to 4, and three that are zero (its paper, §5.4). Of "and" and "or" none binds closer.
_MESSAGE = "({0} >= 1 and {0} <= 4 and {1} = 0 and {2} = 0)"
_MESSAGES = (_MESSAGE.format("udp[8]", "udp[9]", "udp[10:2]"), _MESSAGE.format("ip6[48]", "ip6[49]", "ip6[50:2]"))
WIREGUARD = "(udp port 51820 and ((ip and {}) or (ip6 and {})))".format(*_MESSAGES)
# And what links say for themselves: ARP, neighbour discovery (RFC 4861), multicast listeners (RFC 3810).
_NEIGHBOURS = "(ip6[6] = 58 and ip6[40] >= 133 and ip6[40] <= 137)"
_LISTENERS = "(ip6[6] = 0 and ip6[40] = 58 and ip6[48] = 143)"
LINK = f"(arp or {_NEIGHBOURS} or {_LISTENERS})"

_SOL_PACKET, _SO_ATTACH_FILTER = 263, 26
_PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 6, 23  # <linux/if_packet.h>
_STATISTICS = struct.Struct("II")  # seen, dropped
_INSTRUCTION, _PROGRAM = struct.Struct("HBBI"), struct.Struct("HL")  # <linux/filter.h>
_ETHERNET = 14
_SNAP = 256  # octets of a packet that are looked at
_TURN = 0.2  # seconds that a reader waits for a packet before it looks whether it is to end
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP, _UDP, _ICMPV6 = 6, 17, 58


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet on ``link``: what it is by the number of its protocol, and between whom."""

    link: str
    kind: str
    source: IPv4Address | IPv6Address | None = None
    destination: IPv4Address | IPv6Address | None = None
    ports: tuple[int, int] = (0, 0)


class Capture:
    """Keeps in ``kept`` what comes in at ``link`` of ``space``, or at any of its links, but what is in ``passed_over``.

    ``passed_over`` is an expression of tcpdump's. It ends with its with-statement, and is whole only then.
    """

    def __init__(self, space: Namespace, link: str = "", passed_over: str = "") -> None:
        self.kept: list[Packet] = []
        self._sock = space.capture(link)
        self._sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        if passed_over:
            _filter(self._sock, f"not ({passed_over})")
        self._is_over = False
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._drain()
        self.kept.clear()  # of before the filter was there
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it when all that has passed is read. Fails if that was not all."""
        self._is_over = True
        self._thread.join()
        _, dropped = _STATISTICS.unpack(self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
        self._sock.close()
        assert not dropped, f"{dropped} packets went by unread"

    def _read(self) -> None:
        while True:
            is_last = self._is_over
            if select.select([self._sock], [], [], 0 if is_last else _TURN)[0]:
                self._drain()
            if is_last:
                return

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = self._sock.recvfrom(_SNAP)
                self.kept.append(read(data, address[0]))


def read(frame: bytes, link: str) -> Packet:
    """What the Ethernet ``frame``, or its beginning, is."""
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
    """Has the kernel give ``sock`` nothing but what ``expression`` is about."""
    told = subprocess.run(["tcpdump", "-y", "EN10MB", "-ddd", expression], capture_output=True, text=True, check=True)
    count, *lines = told.stdout.split("\n")
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*map(int, line.split())) for line in lines if line))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(int(count), ctypes.addressof(code)))
