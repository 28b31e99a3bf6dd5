"""The shield: has the kernel drop the packets of a source that floods a UDP socket, before they fill its queue.

Each packet that is read costs a microsecond or more, whatever is done with it, and a workload can send more of them
than that. Those that are not read in time fill the socket's queue, and then the packets of all other clients are lost.
So, while the queue is long, the source that has most of a batch is shut out for some milliseconds, and for twice as
many if it goes on: a filter of the socket (classic BPF, socket(7) ``SO_ATTACH_FILTER``, which needs no privilege) drops
its packets where they are sent. What other sources send is read all the while. A client that is alone is never shut
out, for it takes nothing from anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

LONG_QUEUE = 1 << 20  # octets of memory, of which a packet takes 768 or more: more than clients wait for at once
SHARE_OF_QUEUE = 0.5  # of the room that the socket has, where that is small
MOST_OF_BATCH = 8  # packets of a batch of 64; one source of many that are equally busy is not to blame
FIRST = 0.005  # seconds that a source is shut out: no longer than a burst takes to be answered
LAST = 0.32  # seconds; what a flood gets through in between is then below a hundredth of the time
FORGIVEN_AFTER = 2.0  # seconds after which a source that was shut out begins with `FIRST` again
MOST_SHUT_OUT = 64  # sources; the filter looks at each packet once for each of them
MOST_REMEMBERED = 4096  # sources that were shut out lately

_ATTACH_FILTER, _DETACH_FILTER, _MEMINFO = 26, 27, 55  # <asm-generic/socket.h>
_RMEM_ALLOC, _DROPS, _MEMINFO_FIELDS = 0, 8, 9  # <linux/sock_diag.h>
_NETWORK_HEADER = 0xFFF00000  # <linux/filter.h>, SKF_NET_OFF
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # <linux/bpf_common.h>: LD|W|ABS, JMP|JEQ|K, RET|K

log = logging.getLogger(__name__)


class Shield:
    """The shield of ``sock``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._shut_out: set[bytes] = set()
        self._times: dict[bytes, tuple[float, float]] = {}  # source → for how long it was shut out last, and until when
        self._is_possible = True
        self._long = min(LONG_QUEUE, int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) * SHARE_OF_QUEUE))

    @property
    def dropped(self) -> int:
        """How many packets the kernel has dropped here: of sources that are shut out, or because the queue was full."""
        return self._meminfo()[_DROPS]

    def look(self, sources: Sequence[memoryview]) -> None:
        """Looks at the queue after a full batch was read from it, whose packets came from ``sources``.

        Not to be called while there is one client only.
        """
        if self._meminfo()[_RMEM_ALLOC] < self._long or not self._is_possible:
            return
        by_source = Counter(map(bytes, sources))
        source, number = by_source.most_common(1)[0]
        if number >= MOST_OF_BATCH and source not in self._shut_out and len(self._shut_out) < MOST_SHUT_OUT:
            self._shut(source)

    @property
    def is_shutting_out(self) -> bool:
        """Whether the packets of some source are dropped now."""
        return bool(self._shut_out)

    def next_time(self, source: bytes, now: float) -> float:
        """For how many seconds ``source`` would be shut out at ``now``."""
        seconds, until = self._times.get(source, (0.0, 0.0))
        return FIRST if now - until > FORGIVEN_AFTER else min(seconds * 2, LAST)

    def _shut(self, source: bytes) -> None:
        loop = asyncio.get_running_loop()
        seconds = self.next_time(source, loop.time())
        if len(self._times) >= MOST_REMEMBERED:
            self._times.clear()
        self._times[source] = seconds, loop.time() + seconds
        self._shut_out.add(source)
        self._attach()
        loop.call_later(seconds, self._open, source)

    def _open(self, source: bytes) -> None:
        self._shut_out.discard(source)
        self._attach()

    def _attach(self) -> None:
        with contextlib.suppress(ValueError):  # the socket is closed
            try:
                self._set_filter()
            except OSError as error:
                self._is_possible = False
                log.warning("no_socket_filter", extra={"reason": error.strerror})

    def _set_filter(self) -> None:
        if self._sock.fileno() < 0:
            return
        if not self._shut_out:
            self._sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
            return
        program = array("B", packed_filter(self._shut_out))
        address, octets = program.buffer_info()
        self._sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", octets // 8, address))

    def _meminfo(self) -> tuple[int, ...]:
        return struct.unpack(f"{_MEMINFO_FIELDS}I", self._sock.getsockopt(socket.SOL_SOCKET, _MEMINFO, 36))


def packed_filter(sources: Iterable[bytes]) -> bytes:
    """The instructions that drop the packets of ``sources``, all of them IPv4 or all IPv6, and let all others pass."""
    return b"".join(map(_drop, sources)) + _instruction(_RETURN, 0xFFFFFFFF)


def _drop(source: bytes) -> bytes:
    words = struct.unpack(f"!{len(source) // 4}I", source)
    first = _NETWORK_HEADER + (8 if len(source) == 16 else 12)  # where the header has the source (RFC 8200, RFC 791)
    instructions = b""
    for number, word in enumerate(words):
        left = 2 * (len(words) - number - 1) + 1  # instructions until the next source's
        instructions += _instruction(_LOAD, first + 4 * number) + _instruction(_JUMP_IF_EQUAL, word, otherwise=left)
    return instructions + _instruction(_RETURN, 0)


def _instruction(code: int, operand: int, *, otherwise: int = 0) -> bytes:
    """A struct sock_filter: a jump goes on with the next instruction, or skips as many as ``otherwise`` says."""
    return struct.pack("=HBBI", code, 0, otherwise, operand)
