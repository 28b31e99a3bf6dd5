"""Record types, their data, and sets of them (RRsets, RFC 9499 §5)."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal, get_args

from msgspec import Struct
from msgspec.structs import replace

from zones.addresses import Address
from zones.errors import Invalid
from zones.names import Name

MAX_STRING = 255  # RFC 1035 §3.3: a character-string has one length octet
MAX_TEXT = 4096  # keeps one TXT record far below what a TCP message holds


class RRType(IntEnum):
    """The record types that this product makes, or handles in a special way."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    IXFR = 251
    AXFR = 252
    ANY = 255


RecordType = Literal["A", "AAAA", "CNAME", "SRV", "TXT"]
"""The types of the records that users may set."""

RECORD_TYPES: tuple[str, ...] = get_args(RecordType)


class Address4(Struct, frozen=True):
    """The data of an A record (RFC 1035 §3.4.1)."""

    octets: bytes
    """The IPv4 address, four octets."""

    def __str__(self) -> str:
        return socket.inet_ntop(socket.AF_INET, self.octets)


class Text(Struct, frozen=True):
    """The data of a TXT record (RFC 1035 §3.3.14): one or more strings."""

    strings: tuple[bytes, ...]
    """The strings, each of at most 255 octets."""

    @classmethod
    def of(cls, text: str) -> Text:
        """``text`` in UTF-8, cut into as many strings as it needs. Raises `Invalid`."""
        try:
            octets = text.encode()
        except UnicodeEncodeError:
            raise Invalid(f"{text!r} cannot be written in UTF-8: it has half of a surrogate pair") from None
        if len(octets) > MAX_TEXT:
            raise Invalid(f"a TXT value has {len(octets)} octets: use at most {MAX_TEXT}")
        return cls(tuple(octets[at : at + MAX_STRING] for at in range(0, len(octets), MAX_STRING)) or (b"",))

    def __str__(self) -> str:
        return " ".join('"' + _quoted(string) + '"' for string in self.strings)


class Srv(Struct, frozen=True):
    """The data of an SRV record (RFC 2782)."""

    priority: int
    """Clients try the targets of the lowest priority first."""
    weight: int
    """Among targets of one priority, clients choose in proportion to it."""
    port: int
    """The port number."""
    target: Name
    """The name of the host that serves it."""

    def __str__(self) -> str:
        return f"{self.priority} {self.weight} {self.port} {self.target}"


class Soa(Struct, frozen=True):
    """The data of an SOA record (RFC 1035 §3.3.13); times in seconds."""

    mname: Name
    """The primary name server."""
    rname: Name
    """The mailbox of the person who is responsible, as a name."""
    serial: int
    """The version of the zone, 32 bits that wrap (RFC 1982)."""
    refresh: int
    """After which time a secondary looks for a new version."""
    retry: int
    """After which time a secondary tries again to look."""
    expire: int
    """After which time a secondary that cannot look stops to answer."""
    minimum: int
    """The negative TTL (RFC 2308 §4)."""

    def __str__(self) -> str:
        times = f"{self.refresh} {self.retry} {self.expire} {self.minimum}"
        return f"{self.mname} {self.rname} {self.serial} {times}"


class Opaque(Struct, frozen=True):
    """The data of a record that we pass on without reading it (RFC 3597)."""

    octets: bytes
    """The data as on the wire, with the names in it uncompressed."""

    def __str__(self) -> str:
        return rf"\# {len(self.octets)} {self.octets.hex()}"


Rdata = Address | Address4 | Name | Text | Srv | Soa | Opaque


class RRset(Struct, frozen=True):
    """All records of one name and type."""

    name: Name
    """The name."""
    rtype: int
    """The number of the type."""
    ttl: int
    """The TTL in seconds, which is that of all records (RFC 2181 §5.2)."""
    rdatas: Sequence[Rdata]
    """The data of each record."""
    any_part: bool = False
    """Whether any part of the records is a complete answer, as for the instances of a service. Where not all fit into
    a datagram, some of them serve a client better than a truncated reply, after which it must ask again over TCP."""

    one_each: bool = False
    """Whether an answer has only one of the records, and the next answer the next one."""

    def changed(self, **changes: Any) -> RRset:
        """The same RRset with other values in some fields."""
        return replace(self, **changes)

    def __str__(self) -> str:
        rtype = type_name(self.rtype)
        return "\n".join(f"{self.name} {self.ttl} IN {rtype} {rdata}" for rdata in self.rdatas)


def type_name(rtype: int) -> str:
    """The mnemonic of ``rtype``, or ``TYPE<number>`` (RFC 3597 §5)."""
    return RRType(rtype).name if rtype in _KNOWN_TYPES else f"TYPE{rtype}"


_KNOWN_TYPES = frozenset(RRType)


def parse_rdata(rtype: RRType, text: str) -> Rdata:
    """The data that ``text`` writes in presentation form, for the types that users may set. Raises `Invalid`."""
    match rtype:
        case RRType.A:
            return _parse_a(text)
        case RRType.AAAA:
            return _parse_aaaa(text)
        case RRType.CNAME:
            return _parse_target(text)
        case RRType.TXT:
            return Text.of(text)
        case RRType.SRV:
            return _parse_srv(text)
        case _:
            raise Invalid(f"{rtype.name} records cannot be set: use one of {', '.join(RECORD_TYPES)}", field="type")


def _parse_a(text: str) -> Address4:
    try:
        return Address4(socket.inet_pton(socket.AF_INET, text))
    except (OSError, ValueError):
        raise Invalid(f"{text!r} is not an IPv4 address") from None


def _parse_aaaa(text: str) -> Address:
    address = Address.parse(text)
    if address.startswith(bytes(10) + b"\xff\xff"):
        raise Invalid(f"{text!r} is an IPv4 address in IPv6 form: set an A record")
    return address


def _parse_target(text: str) -> Name:
    if not text.endswith("."):
        raise Invalid(
            f"{text!r} is not an absolute name: write it whole, with a final dot, as in 'api.railway.internal.'"
        )
    return Name.parse(text)


def _parse_srv(text: str) -> Srv:
    fields = text.split()
    if len(fields) != 4:
        raise Invalid(f"{text!r} is not an SRV value: write 'priority weight port target.'")
    for what, number in zip(("priority", "weight", "port"), fields, strict=False):
        if not (number.isascii() and number.isdigit() and int(number) <= 65535):
            raise Invalid(f"the {what} {number!r} of {text!r} is not a number from 0 to 65535")
    return Srv(int(fields[0]), int(fields[1]), int(fields[2]), _parse_target(fields[3]))


def _quoted(string: bytes) -> str:
    return "".join(
        f"\\{chr(octet)}" if octet in b'"\\' else chr(octet) if 32 <= octet <= 126 else f"\\{octet:03d}"
        for octet in string
    )
