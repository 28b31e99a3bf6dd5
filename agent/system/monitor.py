"""Noticing at once that somebody else has changed what is ours: the kernel tells of deletions and of nftables changes.

What it tells is not read, only that it told: what there is now is looked at as a whole. What does not announce itself,
such as a hand at wireguard-go, is found by the regular comparison.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

_NETLINK_NETFILTER = 12
_SO_RCVBUF = 1 << 18  # octets; if more is told than fits, that something was told is known all the same
_NFTABLES_GROUP = 1 << 6  # NFNLGRP_NFTABLES is 7
_DELETIONS = frozenset({17, 21, 25})  # RTM_DELLINK, RTM_DELADDR, RTM_DELROUTE
_LINK_ADDRESS_ROUTE = 1 << 0 | 1 << 8 | 1 << 10  # RTMGRP_LINK, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
_HEADER = struct.Struct("=IHHII")  # nlmsghdr


class NetlinkMonitor:
    """Calls ``raised`` when something was deleted or refiltered in the network namespace that this is made in."""

    def __init__(self, raised: Callable[[], None]) -> None:
        self._raised = raised
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Begins to listen. From the event loop."""
        for family, groups in ((socket.NETLINK_ROUTE, _LINK_ADDRESS_ROUTE), (_NETLINK_NETFILTER, _NFTABLES_GROUP)):
            sock = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, family
            )
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SO_RCVBUF)
            sock.bind((0, groups))
            self._sockets.append(sock)
            asyncio.get_running_loop().add_reader(sock, self._hear, sock, family)

    def stop(self) -> None:
        """Listens no more."""
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def forget(self) -> None:
        """Passes over all that was told so far: it was us."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                while True:
                    sock.recv(65536)

    def _hear(self, sock: socket.socket, family: int) -> None:
        is_alarming = False
        try:
            while told := sock.recv(65536):
                is_alarming |= family == _NETLINK_NETFILTER or bool(_DELETIONS & set(_types(told)))
        except BlockingIOError:
            pass
        except OSError:  # ENOBUFS: more was told than was kept
            is_alarming = True
        if is_alarming:
            self._raised()


def _types(told: bytes) -> list[int]:
    found, offset = [], 0
    while offset + _HEADER.size <= len(told):
        length, kind, *_ = _HEADER.unpack_from(told, offset)
        if length < _HEADER.size:
            break
        found.append(kind)
        offset += (length + 3) & ~3
    return found
