"""Noticing at once that somebody else has changed what the agent made, from the kernel's netlink notifications.

The kernel notifies of deleted links, addresses and routes, and of changes to nftables. Of what a notification says only
the link is used, to pass over those that the agent itself removes: the caller reads the whole system back. A change
that the kernel does not announce, such as ``wg set``, is found by the regular reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable, Iterator

from agent.system.netlink_socket import attributes

_NETLINK_NETFILTER = 12
_SO_RCVBUF = 1 << 18  # octets; where notifications do not fit, the kernel reports the overflow, which counts as one
_NFTABLES_GROUP = 1 << 6  # NFNLGRP_NFTABLES is 7
_DELETED_LINK, _DELETED_ADDRESS, _DELETED_ROUTE = 17, 21, 25  # RTM_DELLINK, RTM_DELADDR, RTM_DELROUTE
_LINK_ADDRESS_ROUTE = 1 << 0 | 1 << 8 | 1 << 10  # RTMGRP_LINK, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_INDEX = struct.Struct("=xxxxI")  # of the link, in struct ifinfomsg and in struct ifaddrmsg
_ROUTE, _OUT = 12, 4  # octets of struct rtmsg, which attributes follow; RTA_OIF, whose value is the link's index


class NetlinkMonitor:
    """Calls ``on_change`` when something was deleted, or nftables changed, in this thread's network namespace."""

    def __init__(self, on_change: Callable[[], None], is_firewall_ours: Callable[[], bool] = lambda: False) -> None:
        """``is_firewall_ours`` says whether all that nftables notifies of is the agent's own doing."""
        self._on_change = on_change
        self._is_firewall_ours = is_firewall_ours
        self._sockets: list[socket.socket] = []
        self._expected: set[int] = set()  # the indices of links that the agent itself is removing

    def start(self) -> None:
        """Begins to listen, in the running event loop."""
        for family, groups in ((socket.NETLINK_ROUTE, _LINK_ADDRESS_ROUTE), (_NETLINK_NETFILTER, _NFTABLES_GROUP)):
            sock = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, family
            )
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SO_RCVBUF)
            sock.bind((0, groups))
            self._sockets.append(sock)
            asyncio.get_running_loop().add_reader(sock, self._receive, sock, family)

    def stop(self) -> None:
        """Ends listening."""
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def discard(self) -> None:
        """Drops the notifications that have arrived so far: they are about the agent's own changes."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                while True:
                    sock.recv(65536)

    @contextlib.contextmanager
    def expecting(self, index: int | None) -> Iterator[None]:
        """The agent removes the link ``index`` meanwhile, of which nobody is to hear; None for no link."""
        if index is None:
            yield
            return
        self._expected.add(index)
        try:
            yield
        finally:
            # What the kernel notifies of has come by now: it notifies before it answers that the link is removed.
            for sock in self._sockets[:1]:
                self._receive(sock, socket.NETLINK_ROUTE)
            self._expected.discard(index)

    def _receive(self, sock: socket.socket, family: int) -> None:
        is_firewall, is_changed = family == _NETLINK_NETFILTER, False
        try:
            while messages := sock.recv(65536):
                is_changed |= is_firewall or not self._expected.issuperset(_links_that_lost(messages))
        except BlockingIOError:
            pass
        except OSError:  # ENOBUFS: some notifications did not fit
            is_changed = True
        if is_changed and not (is_firewall and self._is_firewall_ours()):
            self._on_change()


def _links_that_lost(messages: bytes) -> Iterator[int | None]:
    """The index of the link that each deletion in ``messages`` is about; None where it does not say."""
    offset = 0
    while offset + _HEADER.size <= len(messages):
        length, kind, *_ = _HEADER.unpack_from(messages, offset)
        if length < _HEADER.size:
            break
        body = messages[offset + _HEADER.size : offset + length]
        if kind in (_DELETED_LINK, _DELETED_ADDRESS):
            yield _INDEX.unpack_from(body)[0]
        elif kind == _DELETED_ROUTE:
            out = attributes(body[_ROUTE:]).get(_OUT)
            yield int.from_bytes(out, sys.byteorder) if out else None
        offset += (length + 3) & ~3
