"""What a client really sent: DNS messages read from the packets on its veth, however the server is made."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import defaultdict
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

_UDP, _TCP = 17, 6
_IPV6_HEADER = 40
_DNS = 53
_SYN, _ACK = 0x02, 0x10
_TIMESPEC = struct.Struct("qq")

Question = tuple[str, str]
"""Name in lower case, and type."""


@dataclass(slots=True)
class Traffic:
    """The queries of one look-up. ``repeated`` are questions asked again though no truncated reply asked for it.

    ``slowest`` is the longest that a UDP query waited for its reply, in milliseconds; ``waiting`` holds those that have
    none, with the time they were sent.
    """

    udp: list[Question] = field(default_factory=list)
    tcp: list[Question] = field(default_factory=list)
    connections: int = 0
    truncated: int = 0
    repeated: list[Question] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    slowest: float = 0.0
    waiting: dict[tuple[int, bytes], float] = field(default_factory=dict)

    @property
    def queries(self) -> int:
        """How many, over UDP and TCP."""
        return len(self.udp) + len(self.tcp)


class Capture:
    """Reads ``sock``, a packet socket on the host's end of a client's veth; the server is at ``server``."""

    def __init__(self, sock: socket.socket, server: str) -> None:
        self._sock = sock
        self._server = socket.inet_pton(socket.AF_INET6, server)
        self._streams: dict[int, _Stream] = defaultdict(_Stream)

    def close(self) -> None:
        self._sock.close()

    def drain(self) -> Traffic:
        """What was seen since the last time."""
        traffic = Traffic()
        truncated: set[Question] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, control, _, _ = self._sock.recvmsg(65535, 64)
                seconds, nanoseconds = _TIMESPEC.unpack(control[0][2][: _TIMESPEC.size])
                self._read(packet, seconds + nanoseconds / 1e9, traffic, truncated)
        return traffic

    def _read(self, packet: bytes, when: float, traffic: Traffic, truncated: set[Question]) -> None:
        if len(packet) < _IPV6_HEADER + 8 or packet[0] >> 4 != 6:
            return
        source, destination, payload = packet[8:24], packet[24:40], packet[_IPV6_HEADER:]
        source_port, destination_port = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")
        is_query = destination == self._server and destination_port == _DNS
        if packet[6] == _UDP and is_query:
            traffic.waiting.setdefault((source_port, payload[8:10]), when)
            _note_query(payload[8:], traffic, traffic.udp, truncated)
        elif packet[6] == _UDP and source == self._server and source_port == _DNS:
            asked = traffic.waiting.pop((destination_port, payload[8:10]), when)
            traffic.slowest = max(traffic.slowest, (when - asked) * 1000)
            _note_reply(payload[8:], traffic, truncated)
        elif packet[6] == _TCP and is_query:
            self._read_segment(source_port, payload, traffic, truncated)

    def _read_segment(self, port: int, segment: bytes, traffic: Traffic, truncated: set[Question]) -> None:
        flags = segment[13]
        if flags & _SYN and not flags & _ACK:
            traffic.connections += 1
            self._streams[port] = _Stream()
            return
        data = segment[(segment[12] >> 4) * 4 :]
        for message in self._streams[port].take(int.from_bytes(segment[4:8], "big"), data):
            _note_query(message, traffic, traffic.tcp, truncated)


class _Stream:
    """One direction of a TCP connection on a link that neither loses nor reorders."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._data = bytearray()

    def take(self, sequence: int, data: bytes) -> list[bytes]:
        if not data or (self._next is not None and sequence != self._next):
            return []
        self._next = (sequence + len(data)) & 0xFFFFFFFF
        self._data += data
        messages = []
        while len(self._data) >= 2 and len(self._data) >= 2 + int.from_bytes(self._data[:2], "big"):
            end = 2 + int.from_bytes(self._data[:2], "big")
            messages.append(bytes(self._data[2:end]))
            del self._data[:end]
        return messages


def _note_query(message: bytes, traffic: Traffic, queries: list[Question], truncated: set[Question]) -> None:
    question = _question(message)
    if queries is traffic.tcp and truncated:
        # TC asks for TCP, once for each question; glibc then asks both of its pair there.
        is_repeated = question in traffic.tcp
    else:
        is_repeated = question in traffic.udp or question in traffic.tcp
    if is_repeated:
        traffic.repeated.append(question)
    queries.append(question)


def _note_reply(message: bytes, traffic: Traffic, truncated: set[Question]) -> None:
    if len(message) < 12:
        return
    flags = int.from_bytes(message[2:4], "big")
    traffic.replies.append(dns.rcode.to_text(dns.rcode.Rcode(flags & 0xF)))
    if flags & dns.flags.TC:
        traffic.truncated += 1
        truncated.add(_question(message))


def _question(message: bytes) -> Question:
    try:
        parsed = dns.message.from_wire(message, question_only=True, ignore_trailing=True)
    except dns.exception.DNSException:
        return ("?", "?")
    if not parsed.question:
        return ("?", "?")
    question = parsed.question[0]
    return question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
