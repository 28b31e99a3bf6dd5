"""The sockets of a server: opened by whoever owns them, and read by the process that answers.

Several processes answer on one port where each has a socket of its own: the kernel shares the clients out among them
(``SO_REUSEPORT``, socket(7)). The sockets belong to none of these processes but to the one that started them. So what
has arrived for a process that ends stays in its socket, and the next one reads it there.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from support.listening import ListenError

RECEIVE_BUFFER = 4 << 20  # octets; queries that arrive while a large document is read wait there, and are not lost
_RCVBUFFORCE = 33  # <asm-generic/socket.h>; the socket module does not name it
_MEMINFO = 55  # <asm-generic/socket.h>
_RMEM_ALLOC, _DROPS = 0, 8  # <linux/sock_diag.h>
_MEMINFO_FIELDS = struct.Struct("9I")
_PORT_TRIES = 20  # for port 0: a port that is free for both UDP and TCP


class Queue(NamedTuple):
    """What the kernel says about the queue of a socket."""

    octets: int
    """How much memory the datagrams take that wait there."""
    dropped: int
    """How many datagrams the kernel has dropped there since the socket was opened."""


def read_queue(sock: socket.socket) -> Queue:
    """The queue of the UDP socket ``sock`` at this moment."""
    fields = _MEMINFO_FIELDS.unpack(sock.getsockopt(socket.SOL_SOCKET, _MEMINFO, _MEMINFO_FIELDS.size))
    return Queue(fields[_RMEM_ALLOC], fields[_DROPS])


@dataclass(frozen=True, slots=True)
class SocketPair:
    """A UDP and a TCP socket that are bound to one address and port."""

    udp: socket.socket
    """Receives datagrams from the moment when it was bound."""
    tcp: socket.socket
    """Listens as soon as a server has it."""

    @property
    def address(self) -> tuple[str, int]:
        """The address and the port of both."""
        host, port = self.udp.getsockname()[:2]
        return host, port

    @property
    def descriptors(self) -> tuple[int, int]:
        """Those of the UDP and the TCP socket, for `adopt_pair`."""
        return self.udp.fileno(), self.tcp.fileno()

    @property
    def unread(self) -> int:
        """How many datagrams the kernel has dropped at the UDP socket since it was opened."""
        return read_queue(self.udp).dropped

    def duplicate(self) -> SocketPair:
        """The same two sockets by other descriptors, which may be closed while these stay open."""
        return SocketPair(self.udp.dup(), self.tcp.dup())

    def close(self) -> None:
        """Closes both descriptors. The sockets are gone when nobody else has them open."""
        self.udp.close()
        self.tcp.close()


def open_pairs(listen: Sequence[tuple[str, int]], copies: int = 1) -> list[list[SocketPair]]:
    """For each of ``copies`` processes, a pair on each address of ``listen`` (host, port; port 0 takes a free one).

    Raises `ListenError`; then none is open.
    """
    opened: list[list[SocketPair]] = [[] for _ in range(copies)]
    with contextlib.ExitStack() as unless_all:
        for host, port in listen:
            pair = _open_pair(host, port)
            unless_all.callback(pair.close)
            opened[0].append(pair)
            if copies > 1:
                # Only now, so that the port is refused to this server where another one has it, of the same user too.
                _share(pair)
            for others in opened[1:]:
                another = _open_another(pair)
                unless_all.callback(another.close)
                others.append(another)
        unless_all.pop_all()
    return opened


def adopt_pair(udp: int, tcp: int) -> SocketPair:
    """The pair with the descriptors ``udp`` and ``tcp``, which this process was started with."""
    return SocketPair(adopt_socket(udp), adopt_socket(tcp))


def adopt_socket(descriptor: int) -> socket.socket:
    """The socket with this ``descriptor``, which this process was started with and its children are not."""
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def _open_pair(host: str, port: int) -> SocketPair:
    for _ in range(_PORT_TRIES if port == 0 else 1):
        udp = _open(host, port, socket.SOCK_DGRAM)
        try:
            return SocketPair(udp, _open(host, udp.getsockname()[1], socket.SOCK_STREAM))
        except ListenError as error:
            udp.close()
            failure = error
    raise failure


def _open_another(pair: SocketPair) -> SocketPair:
    host, port = pair.address
    udp = _open(host, port, socket.SOCK_DGRAM, is_shared=True)
    try:
        return SocketPair(udp, _open(host, port, socket.SOCK_STREAM, is_shared=True))
    except ListenError:
        udp.close()
        raise


def _share(pair: SocketPair) -> None:
    for sock in (pair.udp, pair.tcp):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _open(host: str, port: int, kind: socket.SocketKind, *, is_shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as unless_bound:
        try:
            sock = unless_bound.enter_context(socket.socket(family, kind))
            sock.setblocking(False)
            _prepare(sock)
            if is_shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
        except OSError as error:
            transport = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
            raise ListenError(host, port, transport, error, setting="--dns-listen") from error
        unless_bound.pop_all()
    return sock


def _prepare(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        # A client's address is then always of the socket's own family, never an IPv4 address mapped into IPv6.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN the system's own limit (rmem_max) holds
            sock.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, RECEIVE_BUFFER)
