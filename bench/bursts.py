"""Bursts of packets of any kind, since dnsperf sends well-formed queries alone.

A burst is sent by one system call, so that it does not matter how slowly its packets were made. After it comes a
marker: a good query from another socket of the same address. A server takes what it must make for one address in its
order, so when it answers a marker that it must make, it is done with the whole burst. So no packet is lost, and packets
that get no reply are known to have been handled.
"""

from __future__ import annotations

import ctypes
import socket
import time
from collections.abc import Callable, Sequence

from bench.client import Client
from bench.processes import LOOPBACK, BenchError

SIZE = 64  # packets a burst; far below what a server's receive buffer holds

_libc = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):  # struct iovec
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):  # struct mmsghdr without addresses: the socket is connected
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_size_t),  # an int, and the padding of struct msghdr
        ("sent", ctypes.c_size_t),  # an unsigned int, and padding
    )


def send_bursts(port: int, make: Callable[[], bytes], mark: Callable[[], bytes], seconds: float) -> int:
    """Sends bursts of packets that ``make`` makes to ``port`` for ``seconds``; gives the number of packets.

    ``mark`` makes the markers, each without its ID.
    """
    sent = 0
    end = time.monotonic() + seconds
    with Client(port) as client, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        # The replies are not read, so the kernel may discard them.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.connect((LOOPBACK, port))
        while time.monotonic() < end:
            _send(sock, [make() for _ in range(SIZE)])
            if client.ask(mark()) is None:
                raise BenchError("the server did not answer a good query after a burst of others")
            sent += SIZE
    return sent


def _send(sock: socket.socket, packets: Sequence[bytes]) -> None:
    vectors = (_Vector * len(packets))(*(_Vector(packet, len(packet)) for packet in packets))
    messages = (_Message * len(packets))()
    for at in range(len(packets)):
        messages[at].vectors = ctypes.pointer(vectors[at])
        messages[at].vector_count = 1
    count = _libc.sendmmsg(sock.fileno(), messages, len(packets), 0)
    if count != len(packets):
        raise BenchError(f"{count} of {len(packets)} packets were sent")
