"""fuzz-cost: the cost of a malformed packet for the server, and of a query for a name that was never queried before.

A malformed packet must not cost more than a good one, or an attacker could overload the server with few packets. All
packets have random octets wherever their kind leaves any free, so that none is answered from a cache.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import product, worlds
from bench.bursts import send_bursts
from bench.client import AAAA, Client, pack_question, rcode
from bench.options import Options
from bench.processes import Process, cores, pinned
from bench.report import Table, own_command, progress
from bench.servers import started
from bench.worlds import APEX

SERVICES = 100
MOST_SECONDS = 2.0  # of load for each kind: thousands of packets, and the kernel's clock of CPU time ticks every 10 ms
COMPARED = ("knot",)

_rng = random.Random(20260)  # the same packets in each run
_GOOD = "good, queried before"
_NEW = "good, never queried before (NXDOMAIN)"


@dataclass(frozen=True, slots=True)
class _Cost:
    seconds: float
    """Processor time of the server for one packet, in seconds."""
    reply: str
    """The response code of the last packet of the kind, or ``none``."""


def run(options: Options) -> Iterator[Table]:
    """One table: a row for each kind of packet, columns for each server."""
    names = [product.NAME, *(name for name in options.peers if name in COMPARED)]
    costs = {name: _measure(name, options) for name in names}
    columns = ["packet"]
    for name in names:
        columns += [f"{name}, µs", "÷ good", "÷ new", "reply"]
    rows = [[kind, *(cell for name in names for cell in _cells(costs[name], kind))] for kind in KINDS]
    yield Table(
        "Server CPU of a malformed packet, and of a good one",
        own_command(),
        tuple(columns),
        rows,
        (
            f"Bursts of 64 packets on [::1], {min(options.seconds, MOST_SECONDS):g} s a kind;"
            " one core for the server, the other for the sender.",
            f"'good' is {_GOOD!r}, 'new' is {_NEW!r}; 'reply' is the response code of the last packet of the kind.",
            *options.skipped,
        ),
    )


def _measure(name: str, options: Options) -> dict[str, _Cost]:
    server_core, load_core = cores()
    directory = options.directory / f"fuzz-{name}"
    seconds = min(options.seconds, MOST_SECONDS)
    served = worlds.environment(SERVICES, 1)
    with started(name, directory, server_core, served) as (process, port), pinned(load_core):
        send_bursts(port, KINDS[_GOOD], _new_marker, seconds / 2)
        return {kind: _measure_kind(process, port, kind, seconds) for kind in KINDS if _say(name, kind)}


def _measure_kind(process: Process, port: int, kind: str, seconds: float) -> _Cost:
    before = process.cpu()
    sent = send_bursts(port, KINDS[kind], _new_marker, seconds)
    used = (process.cpu() - before).total
    return _Cost(used / sent, _reply(port, KINDS[kind]()))


def _new_marker() -> bytes:
    """A query that no server has the reply to: it is answered after those before it, which must be made as well."""
    return pack_question(f"marker-{_rng.randbytes(8).hex()}")


def _say(name: str, kind: str) -> bool:
    progress(f"fuzz-cost: {name}: {kind}")
    return True


def _reply(port: int, packet: bytes) -> str:
    with Client(port, timeout=0.2) as client:
        client.sock.send(packet)
        try:
            return _RCODES.get(rcode(client.sock.recv(65535)), "other")
        except TimeoutError:
            return "none"


def _cells(costs: dict[str, _Cost], kind: str) -> tuple[str, ...]:
    cost = costs[kind]
    ratios = (f"{cost.seconds / costs[base].seconds:.2f}" for base in (_GOOD, _NEW))
    return (f"{cost.seconds * 1e6:.1f}", *ratios, cost.reply)


_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}

# The packets


def _packet(body: bytes, *, flags: int = 0x0100, questions: int = 1, additional: int = 0) -> bytes:
    id_ = _rng.randbytes(2)
    counts = (flags, questions, 0, 0, additional)
    return id_ + b"".join(count.to_bytes(2, "big") for count in counts) + body


def _new_label() -> bytes:
    return b"\x10" + _rng.randbytes(8).hex().encode()


def _question(label: bytes = b"\x05svc-1") -> bytes:
    apex = b"".join(bytes([len(part)]) + part.encode() for part in APEX.split("."))
    return label + apex + b"\0" + AAAA.to_bytes(2, "big") + b"\0\x01"


def _truncated() -> bytes:
    packet = _packet(_question(_new_label()))
    return packet[: _rng.randrange(13, len(packet) - 1)]


def _mutated() -> bytes:
    packet = bytearray(_packet(_question(_new_label())))
    for _ in range(4):
        packet[_rng.randrange(2, len(packet))] = _rng.randrange(256)
    return bytes(packet)


def _long_chain() -> bytes:
    """Compression pointers, each to the one before it: enough of them to overrun a recursive reader's stack."""
    pointers = b"".join((0xC000 | 12 + 2 * max(at - 1, 0)).to_bytes(2, "big") for at in range(1_100))
    return _packet(pointers + b"\0\x1c\0\x01", questions=1)


def _opt(payload: int = 1232, options: bytes = b"") -> bytes:
    return (
        b"\0"
        + (41).to_bytes(2, "big")
        + payload.to_bytes(2, "big")
        + bytes(4)
        + len(options).to_bytes(2, "big")
        + options
    )


KINDS: dict[str, Callable[[], bytes]] = {
    _GOOD: lambda: _packet(_question()),
    _NEW: lambda: _packet(_question(_new_label())),
    "new, with EDNS": lambda: _packet(_question(_new_label()) + _opt(), additional=1),
    "random octets": lambda: _rng.randbytes(48),
    "shorter than a header": lambda: _rng.randbytes(11),
    "cut short": _truncated,
    "four octets changed": _mutated,
    "no question": lambda: _packet(b"", questions=0),
    "two questions": lambda: _packet(_question(_new_label()) * 2, questions=2),
    "octets after the question": lambda: _packet(_question(_new_label()) + _rng.randbytes(16)),
    "label of 64 octets": lambda: _packet(_question(b"\x40" + _rng.randbytes(64))),
    "pointer to itself": lambda: _packet(_new_label() + b"\xc0\x1d\0\x1c\0\x01"),
    "1,100 pointers in a chain": _long_chain,
    "two OPT records": lambda: _packet(_question(_new_label()) + _opt() * 2, additional=2),
    "option longer than its OPT": lambda: _packet(
        _question(_new_label()) + _opt(options=b"\0\x0a\x01\0" + _rng.randbytes(8)), additional=1
    ),
    "a reply": lambda: _packet(_question(_new_label()), flags=0x8180),
    "UPDATE": lambda: _packet(_question(_new_label()), flags=0x2800),
}
