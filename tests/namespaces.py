"""Network namespaces for tests: those of `interlock.sandbox`, and all packets of one, captured."""

from __future__ import annotations

import socket

from interlock.sandbox.namespaces import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    NETNS,
    Namespace,
    call_inside,
    make,
    sweep,
    unshare,
)

__all__ = [
    "CLONE_NEWNET", "CLONE_NEWNS", "CLONE_NEWPID", "ETH_P_ALL", "NETNS", "SO_TIMESTAMPNS", "Namespace", "call_inside",
    "capture", "make", "sweep", "unshare",
]  # fmt: skip

ETH_P_ALL = 3  # also what a host sends, which a filter on one protocol would not show
SO_TIMESTAMPNS = 35  # <asm/socket.h>
_SO_RCVBUFFORCE = 33
_CAPTURE_BUFFER = 32 << 20  # octets; 100 look-ups at once, over TCP, are some hundred kB


def capture(space: Namespace, link: str = "", kind: int = socket.SOCK_RAW) -> socket.socket:
    """A socket that keeps all packets, with their time, that pass ``link`` in ``space``, or any link.

    With ``SOCK_DGRAM`` it gives them without their link's header.
    """

    def open_socket() -> socket.socket:
        # One for all links hears them from now on, one for a single link nothing before it is bound to it.
        sock = socket.socket(socket.AF_PACKET, kind, 0 if link else socket.htons(ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _CAPTURE_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if link:
            sock.bind((link, ETH_P_ALL))
        sock.setblocking(False)
        return sock

    return space.call(open_socket)
