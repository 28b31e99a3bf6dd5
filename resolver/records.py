"""Reading the records of a message that somebody else made, without trusting it.

dnslib could read most of them, but not all that the Internet holds (labels that are not UTF-8, types it does not know
well), and a record that is only passed on should not change on the way. So data is kept as octets, with the names in
it spelt out where its type allows them to be compressed (RFC 3597 §4); all newer types are self-contained.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

from resolver.messages import Record
from zones.names import MAX_LABEL, MAX_NAME, Name
from zones.records import Opaque, Rdata, RRType, Soa

MAX_JUMPS = 126  # a name has no more labels than this, so an honest one needs no more pointers

# Octets before the first name, and the number of names, of the types whose names may be compressed.
_NAMES_IN_DATA = {
    2: (0, 1),  # NS
    3: (0, 1),  # MD
    4: (0, 1),  # MF
    5: (0, 1),  # CNAME
    7: (0, 1),  # MB
    8: (0, 1),  # MG
    9: (0, 1),  # MR
    12: (0, 1),  # PTR
    14: (0, 2),  # MINFO
    15: (2, 1),  # MX
    17: (0, 2),  # RP
    18: (2, 1),  # AFSDB
    21: (2, 1),  # RT
    26: (2, 2),  # PX
    33: (6, 1),  # SRV
    36: (2, 1),  # KX
    39: (0, 1),  # DNAME
}
_KEPT_AS_NAMES = frozenset({RRType.NS, RRType.CNAME, RRType.PTR})


class MalformedRecord(Exception):
    """A record, or a name in it, does not keep to RFC 1035 §4.1."""


class RecordReader:
    """Reads the records of ``packet`` from ``offset`` on."""

    def __init__(self, packet: bytes, offset: int) -> None:
        self._packet = packet
        self._offset = offset

    def read(self, count: int) -> list[Record]:
        """The next ``count`` records. Raises `MalformedRecord`."""
        return list(self._read(count))

    def _read(self, count: int) -> Iterator[Record]:
        for _ in range(count):
            name, offset = read_name(self._packet, self._offset)
            if offset + 10 > len(self._packet):
                raise MalformedRecord
            rtype, rclass, ttl, length = unpack_from("!HHIH", self._packet, offset)
            start, self._offset = offset + 10, offset + 10 + length
            if self._offset > len(self._packet):
                raise MalformedRecord
            yield Record(name, rtype, rclass, ttl, self._read_data(rtype, start, self._offset))

    def _read_data(self, rtype: int, start: int, end: int) -> Rdata:
        if rtype == RRType.SOA:
            mname, offset = read_name(self._packet, start)
            rname, offset = read_name(self._packet, offset)
            if offset + 20 != end:
                raise MalformedRecord
            return Soa(mname, rname, *unpack_from("!5I", self._packet, offset))
        if rtype not in _NAMES_IN_DATA:
            return Opaque(self._packet[start:end])
        fixed, names = _NAMES_IN_DATA[rtype]
        parts = [self._packet[start : start + fixed]]
        offset = start + fixed
        for _ in range(names):
            name, offset = read_name(self._packet, offset)
            parts.append(name)
        if offset != end:
            raise MalformedRecord
        return Name(parts[-1]) if rtype in _KEPT_AS_NAMES else Opaque(b"".join(parts))


def read_name(packet: bytes, offset: int) -> tuple[Name, int]:
    """The name at ``offset``, in lower case, and where what follows it begins. Raises `MalformedRecord`."""
    wire = bytearray()
    end = None
    for _ in range(MAX_JUMPS):
        start = offset
        while offset < len(packet) and (length := packet[offset]) <= MAX_LABEL:
            wire += packet[offset : offset + 1 + length]
            offset += 1 + length
            if len(wire) > MAX_NAME or offset > len(packet):
                raise MalformedRecord
            if length == 0:
                return Name(wire.lower()), end or offset
        if offset + 2 > len(packet) or packet[offset] < 0xC0:
            raise MalformedRecord
        end = end or offset + 2
        pointer = int.from_bytes(packet[offset : offset + 2], "big") & 0x3FFF
        if pointer >= start:
            raise MalformedRecord  # a pointer goes back, or it could go round for ever
        offset = pointer
    raise MalformedRecord
