"""Bursts of packets of any kind: the load where dnsperf will not do, for it only sends queries that are sound.

A burst is sent by one system call, so that it does not matter how slowly its packets were made. After it comes a
marker from another socket, a good query: when that is answered, the server, which takes its packets in turn, is done
with all of the burst. So none is lost, and also those that get no reply are known to have been dealt with.
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


class _Message(ctypes.Structure):  # struct mmsghdr, of which only the data is used: the socket is connected
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


def send_bursts(port: int, make: Callable[[], bytes], marker: bytes, seconds: float) -> int:
    """Sends bursts of what ``make`` makes to ``port`` for ``seconds``; gives the number of packets."""
    sent = 0
    end = time.monotonic() + seconds
    with Client(port) as client, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        # Nobody reads the replies: the kernel may throw them away.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.connect((LOOPBACK, port))
        while time.monotonic() < end:
            _send(sock, [make() for _ in range(SIZE)])
            if client.ask(marker) is None:
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
