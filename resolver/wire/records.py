"""The records of an upstream's message, read without trusting it.

dnslib could read most of them, but not all that the Internet holds (labels that are not UTF-8, types it does not know
well), and a record that is only passed on should not change on the way. So data is kept as octets, with the names in
it expanded where its type allows them to be compressed (RFC 3597 §4); the data of all newer types holds no pointers.

**A new record type** needs nothing here, unless its data may hold compressed names: then it has a row in
`_NAMES_IN_DATA`.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

from resolver.wire.messages import Record
from zones.names import MAX_LABEL, MAX_NAME, Name
from zones.records import Opaque, Rdata, RRType, Soa

MAX_JUMPS = 126  # a name has no more labels than this, so an honest one needs no more pointers

_STRING = -1
# What comes before the names of the types whose names may be compressed (octets, or a string with its length before
# it), and how many names there are. RFC 1035 §4.1.4, and those that RFC 3597 §4 asks a reader to be patient with.
_NAMES_IN_DATA: dict[int, tuple[tuple[int, ...], int]] = {
    2: ((), 1),  # NS
    3: ((), 1),  # MD
    4: ((), 1),  # MF
    5: ((), 1),  # CNAME
    7: ((), 1),  # MB
    8: ((), 1),  # MG
    9: ((), 1),  # MR
    12: ((), 1),  # PTR
    14: ((), 2),  # MINFO
    15: ((2,), 1),  # MX
    17: ((), 2),  # RP
    18: ((2,), 1),  # AFSDB
    21: ((2,), 1),  # RT
    26: ((2,), 2),  # PX
    33: ((6,), 1),  # SRV
    35: ((4, _STRING, _STRING, _STRING), 1),  # NAPTR
    36: ((2,), 1),  # KX
    39: ((), 1),  # DNAME
}
_KEPT_AS_NAMES = frozenset({RRType.NS, RRType.CNAME, RRType.PTR})
_LENGTHS: dict[int, int] = {
    RRType.A: 4,
    RRType.AAAA: 16,
}  # octets; some clients would read an address from data of any other length


class MalformedRecord(Exception):
    """A record, or a name in it, does not keep to RFC 1035 §4.1."""


class RecordReader:
    """Reads the records of ``packet`` from ``offset`` on, in time proportional to their octets."""

    def __init__(self, packet: bytes, offset: int) -> None:
        self._packet = packet
        self._offset = offset
        # Names that were pointed to, by their offset. Without it, thousands of records that each point into one long
        # ladder of pointers take a third of a second to read.
        self._known: dict[int, bytes] = {}

    def read(self, count: int) -> list[Record]:
        """The next ``count`` records. Raises `MalformedRecord`."""
        return list(self._read(count))

    def _read(self, count: int) -> Iterator[Record]:
        for _ in range(count):
            name, offset = self._read_name(self._offset)
            if offset + 10 > len(self._packet):
                raise MalformedRecord
            rtype, rclass, ttl, length = unpack_from("!HHIH", self._packet, offset)
            start, self._offset = offset + 10, offset + 10 + length
            if self._offset > len(self._packet):
                raise MalformedRecord
            yield Record(name, rtype, rclass, ttl, self._read_data(rtype, start, self._offset))

    def _read_data(self, rtype: int, start: int, end: int) -> Rdata:
        if rtype == RRType.SOA:
            mname, offset = self._read_name(start)
            rname, offset = self._read_name(offset)
            if offset + 20 != end:
                raise MalformedRecord
            return Soa(mname, rname, *unpack_from("!5I", self._packet, offset))
        if rtype not in _NAMES_IN_DATA:
            if end - start != _LENGTHS.get(rtype, end - start):
                raise MalformedRecord
            return Opaque(self._packet[start:end])
        before, names = _NAMES_IN_DATA[rtype]
        offset = self._skip(before, start, end)
        parts = [self._packet[start:offset]]
        for _ in range(names):
            name, offset = self._read_name(offset)
            parts.append(name)
        if offset != end:
            raise MalformedRecord
        return Name(parts[-1]) if rtype in _KEPT_AS_NAMES else Opaque(b"".join(parts))

    def _skip(self, fields: tuple[int, ...], offset: int, end: int) -> int:
        for field in fields:
            if offset >= end:
                raise MalformedRecord
            offset += 1 + self._packet[offset] if field == _STRING else field
        return offset

    def _read_name(self, offset: int) -> tuple[Name, int]:
        """The name at ``offset``, in lower case, and where what follows it begins."""
        wire, end = bytearray(), 0
        pointed: list[tuple[int, int]] = []
        while len(pointed) <= MAX_JUMPS:
            start = offset
            offset, is_whole = self._read_labels(offset, wire)
            if is_whole:
                break
            if offset + 2 > len(self._packet) or self._packet[offset] < 0xC0:
                raise MalformedRecord
            end = end or offset + 2
            pointer = int.from_bytes(self._packet[offset : offset + 2], "big") & 0x3FFF
            if pointer >= start:
                raise MalformedRecord  # a pointer goes back, or it could be followed for ever
            if pointer in self._known:
                wire += self._known[pointer]
                break
            pointed.append((pointer, len(wire)))
            offset = pointer
        if len(wire) > MAX_NAME or len(pointed) > MAX_JUMPS:
            raise MalformedRecord
        name = Name(wire.lower())
        self._known.update((pointer, name[position:]) for pointer, position in pointed)
        return name, end or offset

    def _read_labels(self, offset: int, wire: bytearray) -> tuple[int, bool]:
        """Appends the labels at ``offset`` to ``wire``; gives where they end, and whether the root was the last."""
        packet = self._packet
        while offset < len(packet) and (length := packet[offset]) <= MAX_LABEL:
            wire += packet[offset : offset + 1 + length]
            offset += 1 + length
            if len(wire) > MAX_NAME or offset > len(packet):
                raise MalformedRecord
            if length == 0:
                return offset, True
        return offset, False
