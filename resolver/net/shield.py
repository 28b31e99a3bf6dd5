"""The shield: has the kernel drop the packets of a source that floods a UDP socket, before they fill its queue.

Each packet that is read costs a microsecond or more, whatever is done with it, and a workload can send more of them
than that. Those that are not read in time fill the socket's queue, and then the packets of all other clients are lost.
So the source that has most of a batch is shut out for some milliseconds while the queue is long, or when it goes on
filling whole batches; and for twice as many if it does so again, also beside others that do so. A filter of the socket
(`socket_filter`) drops its packets where they are sent. What other sources send is read all the while. A client that is
alone is never shut out, for it takes nothing from anybody.

    open          all packets of the source pass
    shut out      none of them
    on probation  one of `THINNED`: has it stopped? Before a source that was shut out more than once is let in again

Without the probation a flood would fill the queue, and hold up everybody, each time that its source is let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from resolver.net.socket_filter import packed_filter, set_filter
from resolver.sockets import read_queue

LONG_QUEUE = 1 << 20  # octets of memory, of which a packet takes 768 or more: more than clients wait for at once
SHARE_OF_QUEUE = 0.5  # of the room that the socket has, where that is small
SHARE_OF_KNOWN = 0.125  # of a long queue: so much is enough where the source was shut out lately
RATE = 20_000.0  # packets a second of one source that fills batches; a host of the mesh lets no more of a member pass
BURST = 2_000.0  # packets of such a source above that rate, which is as many as a long queue has
MOST_OF_BATCH = 8  # packets of a batch of 64; one source of many that are equally busy is not to blame
FIRST = 0.005  # seconds that a source is shut out: no longer than a burst takes to be answered
LAST = 0.32  # seconds; a source that has stopped is answered again soon after that
FORGIVEN_AFTER = 2.0  # seconds after which a source that was shut out begins with `FIRST` again
PROBATION = 0.04  # seconds
THINNED = 32  # of so many packets of a source on probation one passes, so that even a flood fills no queue
MOST_ON_PROBATION = 32  # packets that pass: the source has sent a thousand, 25,000 a second; reading them costs little
MOST_SHUT_OUT = 64  # sources; the filter looks at each packet once for each of them
MOST_REMEMBERED = 4096  # sources that were shut out lately, or have filled batches

log = logging.getLogger(__name__)


class Shield:
    """The shield of ``sock``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._shut_out: set[bytes] = set()
        self._on_probation: dict[bytes, int] = {}  # source → packets that have passed
        self._timers: dict[bytes, asyncio.TimerHandle] = {}  # of the sources that are not open
        self._level: dict[bytes, float] = {}  # source → when what it has filled batches with is forgotten, at `RATE`
        self._times: dict[bytes, tuple[float, float]] = {}  # source → for how long it was shut out last, and until when
        self._is_possible = True
        self._clear()  # of what a process that had the socket before, and was killed, may have left
        self._long = min(LONG_QUEUE, int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) * SHARE_OF_QUEUE))

    def end(self) -> None:
        """Lets all sources in again, and shuts out no more."""
        self._is_possible = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._shut_out.clear()
        self._on_probation.clear()
        self._clear()

    @property
    def dropped(self) -> int:
        """How many packets the kernel has dropped here: of sources that are shut out, or because the queue was full."""
        return read_queue(self._sock).dropped

    def look(self, sources: Sequence[bytes]) -> None:
        """Looks at the queue after a full batch was read from it, whose packets came from ``sources``.

        Not to be called while there is one client only.
        """
        if not self._is_possible:
            return
        now, length = asyncio.get_running_loop().time(), read_queue(self._sock).octets
        for place, (source, number) in enumerate(Counter(sources).most_common()):
            if number < MOST_OF_BATCH or len(self._timers) >= MOST_SHUT_OUT:
                break
            if source in self._shut_out:
                continue
            is_known = self.next_time(source, now) > FIRST
            # Of sources that are new the busiest alone is to blame: the queue may be short again without it.
            is_long = length >= self._long * (SHARE_OF_KNOWN if is_known else 1) and (is_known or place == 0)
            if self._is_above_rate(source, number, now) or is_long:
                self._shut(source)

    def note(self, sources: Iterable[bytes]) -> None:
        """Notes that packets from ``sources`` were read. To be called with all that are, while `is_probing`."""
        for source, number in Counter(sources).items():
            if source in self._on_probation:
                self._on_probation[source] += number
                if self._on_probation[source] >= MOST_ON_PROBATION:
                    self._shut(source)

    @property
    def is_shutting_out(self) -> bool:
        """Whether packets of some source are dropped now."""
        return bool(self._timers)

    @property
    def is_probing(self) -> bool:
        """Whether some source is on probation."""
        return bool(self._on_probation)

    def next_time(self, source: bytes, now: float) -> float:
        """For how many seconds ``source`` would be shut out at ``now``."""
        seconds, until = self._times.get(source, (0.0, 0.0))
        return FIRST if now - until > FORGIVEN_AFTER else min(seconds * 2, LAST)

    def _is_above_rate(self, source: bytes, number: int, now: float) -> bool:
        """Whether ``source``, which has filled a batch with ``number`` packets, has sent too many by now."""
        level = max(self._level.get(source, now), now) + number / RATE
        if len(self._level) >= MOST_REMEMBERED:
            self._level.clear()
        self._level[source] = level
        return level > now + BURST / RATE

    def _shut(self, source: bytes) -> None:
        now = asyncio.get_running_loop().time()
        seconds = self.next_time(source, now)
        if len(self._times) >= MOST_REMEMBERED:
            self._times.clear()
        self._times[source] = seconds, now + seconds
        self._on_probation.pop(source, None)
        self._level.pop(source, None)
        self._shut_out.add(source)
        self._then(seconds, self._open if seconds == FIRST else self._probe, source)

    def _probe(self, source: bytes) -> None:
        self._shut_out.discard(source)
        self._on_probation[source] = 0
        self._then(PROBATION, self._open, source)

    def _open(self, source: bytes) -> None:
        self._shut_out.discard(source)
        self._on_probation.pop(source, None)
        del self._timers[source]
        self._attach()

    def _then(self, seconds: float, then: Callable[[bytes], None], source: bytes) -> None:
        """Tells the kernel what has changed; calls ``then`` after ``seconds``."""
        if timer := self._timers.get(source):
            timer.cancel()
        self._timers[source] = asyncio.get_running_loop().call_later(seconds, then, source)
        self._attach()

    def _attach(self) -> None:
        if self._sock.fileno() < 0:
            return  # it is closed
        program = packed_filter(self._shut_out, self._on_probation, THINNED) if self._timers else b""
        try:
            set_filter(self._sock, program)
        except OSError as error:
            self._is_possible = False
            log.warning("no_socket_filter", extra={"reason": error.strerror})

    def _clear(self) -> None:
        if self._sock.fileno() >= 0:
            with contextlib.suppress(OSError):  # there is no filter
                set_filter(self._sock, b"")
