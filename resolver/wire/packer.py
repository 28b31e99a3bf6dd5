"""Replies, from values to octets.

`pack` writes the question as it was sent, and all else in lower case: so every name finds its suffix in the question to
point to, whatever letters the client chose, and the client gets its own question back (0x20). `_Message` knows where
each name stands, and never points beyond offset 16,383, which a pointer cannot say.

**A new record type** whose data `zones.records` holds as values is written in `_Message._write_data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

from resolver.wire.header import DNSSEC_OK, EXTENDED_ERROR, HEADER, MAXIMUM_UDP, OPT, Flag
from resolver.wire.messages import CLASS_IN, MAX_ERROR_TEXT, TCP, ExtendedError, QueryHeader, Reply, Transport
from zones.addresses import Address
from zones.names import Name
from zones.records import Address4, Opaque, Rdata, RRset, RRType, Soa, Srv, Text

MINIMUM_UDP = 512  # octets that every client takes (RFC 1035 §2.3.4)
MAXIMUM_TCP = 65535
MAXIMUM_POINTER = 0x3FFF  # RFC 1035 §4.1.4: fourteen bits

_REPLY = Flag.QR | Flag.RA
_REPEATED = Flag.OPCODE | Flag.RD  # of a query's flags
_SOA = RRType.SOA
_POINTER = 0xC000  # RFC 1035 §4.1.4: the two bits that make a pointer of an offset
_NUMBER = Struct("!H")
_RECORD = Struct("!HHI")  # type, class and TTL; the length of the data follows
_SOA_NUMBERS = Struct("!5I")
_OPTION = Struct("!HHH")  # code and length of an option, and the code of an extended error


def size_limit(header: QueryHeader, transport: Transport) -> int:
    """How many octets a reply to ``header`` may have."""
    if transport is TCP:
        return MAXIMUM_TCP
    if header.edns is None:
        return MINIMUM_UDP
    return min(max(MINIMUM_UDP, header.edns.payload), MAXIMUM_UDP)  # RFC 6891 §6.2.3: less than 512 means 512


def pack(header: QueryHeader, reply: Reply, limit: int) -> bytes:
    """``reply`` to ``header`` in at most ``limit`` octets.

    Where not all fits, as many whole records as do, and TC (RFC 2181 §9) unless any part is a whole answer. Over TCP
    there is never TC: it could only make the client ask again, for no message is longer (RFC 1035 §4.2.2). A client
    without EDNS for which a chain of CNAMEs is too long gets one that leads to the chain's end at once [20]: what it
    wants to know stands there, and it may have no TCP (musl 1.2.3), or read but 768 octets of it (musl 1.2.4).
    """
    packed, is_whole = _pack(header, reply, limit)
    if header.edns is None and not (is_whole and len(packed) <= MINIMUM_UDP) and _aliases(reply.answer) > 1:
        return _pack(header, _shorten(reply), limit)[0]
    return packed


def _aliases(answer: Sequence[RRset]) -> int:
    """How many CNAMEs ``answer`` begins with."""
    return next((n for n, rrset in enumerate(answer) if rrset.rtype != RRType.CNAME), len(answer))


def _shorten(reply: Reply) -> Reply:
    count = _aliases(reply.answer)
    chain = reply.answer[:count]
    alias = chain[0].changed(ttl=min(rrset.ttl for rrset in chain), rdatas=chain[-1].rdatas)
    return reply.changed(answer=(alias, *reply.answer[count:]))


def _pack(header: QueryHeader, reply: Reply, limit: int) -> tuple[bytes, bool]:
    """The octets, and whether all of ``reply`` is in them."""
    question, edns, rcode = header.question, header.edns, reply.rcode
    opt = _pack_opt(edns.dnssec_ok, rcode >> 4, reply.error) if edns else b""
    room = limit - len(opt)
    octets: bytes | bytearray | None = _pack_denial(question, reply)
    answers, authorities, truncated, cut = 0, 1, False, False
    if octets is None or HEADER.size + len(octets) > room:
        message = _Message.of(question)
        answers, truncated = message.write(reply.answer, room)
        authorities, cut = message.write(reply.authority, room) if not truncated else (0, False)
        octets = message.octets
    flags = _REPLY | header.flags & _REPEATED | rcode & 0xF
    if reply.authoritative:
        flags |= Flag.AA
    if reply.authentic:
        flags |= Flag.AD
    if reply.checking_disabled:
        flags |= Flag.CD
    if (truncated or cut) and limit < MAXIMUM_TCP:
        flags |= Flag.TC
    counts = HEADER.pack(header.id, flags, bool(question), answers, authorities, bool(opt))
    return b"".join((counts, octets, opt)), not (truncated or cut)


def _pack_denial(question: bytes, reply: Reply) -> bytes | None:
    """All but the header and OPT, where ``reply`` is an SOA alone and the question below its owner; else None.

    It is what is made most, for a flood is of names that do not exist. So the SOA is packed once for each place at
    which its owner can stand in a question. Its own names must not stand there too, or they would be pointed to.
    """
    if reply.answer or len(reply.authority) != 1 or reply.authority[0].rtype != _SOA:
        return None
    name, rrset, at = question[:-4].lower(), reply.authority[0], 0
    start = len(name) - len(rrset.name)
    while at < start:
        at += 1 + name[at]
    if at != start or not name.endswith(rrset.name):
        return None  # the question is elsewhere, or the octets of the owner begin within a label
    section, names = _pack_soa(rrset, HEADER.size + start)
    return question + section if section and not name.endswith(names) else None


@lru_cache(maxsize=4096)
def _pack_soa(rrset: RRset, place: int) -> tuple[bytes, tuple[Name, ...]]:
    """The SOA ``rrset``, whose owner stands at ``place``, and the names in it.

    Empty where there are several, or where these names are not right below its owner.
    """
    soa = rrset.rdatas[0] if len(rrset.rdatas) == 1 else None
    if not isinstance(soa, Soa) or not soa.mname.parent == soa.rname.parent == rrset.name:
        return b"", ()
    message = _Message(b"", {rrset.name: place})
    message.write((rrset,), MAXIMUM_TCP)
    return bytes(message.octets), (soa.mname, soa.rname)


class _Message:
    """A message that is written: all of it after the header. ``places`` says where names stand in it already."""

    def __init__(self, octets: bytes, places: dict[bytes, int]) -> None:
        self.octets = bytearray(octets)
        self._places = places

    @classmethod
    def of(cls, question: bytes) -> _Message:
        """A message that begins with ``question``."""
        name, at, places = question[:-4].lower(), 0, dict[bytes, int]()
        while at < len(name) - 1:  # the root is never pointed to
            places[name[at:]] = HEADER.size + at
            at += 1 + name[at]
        return cls(question, places)

    def write(self, rrsets: Sequence[RRset], room: int) -> tuple[int, bool]:
        """Appends as many records as end within ``room`` octets; gives their number and whether some are missed."""
        octets, room, count = self.octets, room - HEADER.size, 0
        for rrset in rrsets:
            fixed = _RECORD.pack(rrset.rtype, CLASS_IN, rrset.ttl)
            for position, rdata in enumerate(rrset.rdatas):
                start = len(octets)
                self._write_name(rrset.name)
                octets += fixed
                self._write_data(rdata)
                if len(octets) > room:
                    del octets[start:]
                    return count, not (rrset.any_part and position)
                count += 1
        return count, False

    def _write_name(self, name: Name) -> None:
        octets, places, at = self.octets, self._places, 0
        while length := name[at]:
            suffix = name[at:]
            if (place := places.get(suffix)) is not None:
                octets += _NUMBER.pack(_POINTER | place)
                return
            here = HEADER.size + len(octets)
            if here <= MAXIMUM_POINTER:
                places[suffix] = here
            octets += name[at : at + 1 + length]
            at += 1 + length
        octets.append(0)

    def _write_data(self, rdata: Rdata) -> None:
        """Appends the length of ``rdata`` and its octets."""
        match rdata:
            case Address():
                self._write_octets(rdata)
            case Address4(octets) | Opaque(octets):
                self._write_octets(octets)
            case Text(strings):
                self._write_octets(b"".join(bytes([len(string)]) + string for string in strings))
            case Srv(priority, weight, port, target):
                # RFC 2782: the target is not compressed.
                self._write_octets(b"".join(map(_NUMBER.pack, (priority, weight, port))) + target)
            case Soa(mname, rname, serial, refresh, retry, expire, minimum):
                numbers = _SOA_NUMBERS.pack(serial, refresh, retry, expire, minimum)
                self._write_names((mname, rname), numbers)
            case Name():
                self._write_names((rdata,))

    def _write_octets(self, octets: bytes) -> None:
        self.octets += _NUMBER.pack(len(octets)) + octets

    def _write_names(self, names: Sequence[Name], rest: bytes = b"") -> None:
        octets, start = self.octets, len(self.octets) + 2
        octets += b"\0\0"  # the length, which is known when the names are written
        for name in names:
            self._write_name(name)
        octets += rest
        _NUMBER.pack_into(octets, start - 2, len(octets) - start)


# There is only a handful of different OPT records in replies: each is packed once.
@lru_cache(maxsize=1024)
def _pack_opt(dnssec_ok: bool, extended_rcode: int, error: ExtendedError | None) -> bytes:
    options = _pack_error(error) if error else b""
    flags = DNSSEC_OK if dnssec_ok else 0
    fixed = _RECORD.pack(OPT, MAXIMUM_UDP, extended_rcode << 24 | flags)
    return b"\0" + fixed + _NUMBER.pack(len(options)) + options


def _pack_error(error: ExtendedError) -> bytes:
    text = error.text.encode()[:MAX_ERROR_TEXT].decode(errors="ignore").encode()
    return _OPTION.pack(EXTENDED_ERROR, 2 + len(text), error.code) + text
