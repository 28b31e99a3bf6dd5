"""Sends queries from one address as fast as it may, until it is ended: ``flood SOURCE PORT NAMES RATE``.

``NAMES`` is ``same`` for one name of the environment, ``made-up`` for names below the zone that do not exist, each
once, and ``outside`` for names of the outside world. A ``RATE`` of 0 is as fast as the machine sends.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import time
from dataclasses import dataclass

import dns.message

AT_ONCE = 20  # queries between two looks at the clock
PATTERNS = {"same": "api.railway.internal.", "made-up": "{:09d}.railway.internal.", "outside": "{:09d}.example."}


@dataclass(frozen=True, slots=True)
class Flood:
    """Who sends what."""

    sources: int
    """How many workloads of one environment take part."""
    names: str
    """What they ask for, of `PATTERNS`."""
    rate: int
    """Queries a second of each; 0 for as many as it can send."""


FLOODS = {
    "12,000 made-up names a second": Flood(1, "made-up", 12_000),
    "made-up names as fast as they can be sent": Flood(1, "made-up", 0),
    "the same of four workloads": Flood(4, "made-up", 0),
    "one name as fast as it can be sent": Flood(1, "same", 0),
    "four that ask for names that never answer, 500 a second each": Flood(4, "outside", 500),
    "such names as fast as they can be sent": Flood(1, "outside", 0),
}


def flood(source: str, port: int, names: str, rate: int) -> None:
    """Sends for ever."""
    pattern = PATTERNS[names]
    first = dns.message.make_query(pattern.format(0), "AAAA", use_edns=False).to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
        print("sends", flush=True)
        began = time.monotonic()
        for number in itertools.count():
            if rate and number % AT_ONCE == 0 and (ahead := began + number / rate - time.monotonic()) > 0:
                time.sleep(ahead)
            with contextlib.suppress(OSError):
                sock.send(first if names == "same" else b"%s%09d%s" % (first[:13], number, first[22:]))


if __name__ == "__main__":
    flood(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
