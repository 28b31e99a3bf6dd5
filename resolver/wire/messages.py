"""Queries and their outcomes: `parser` reads queries, `answer` decides on outcomes, `packer` writes replies.

What is made for each query is a `Struct`, which is as immutable as a frozen dataclass and made in a tenth of its time.
None of them can be part of a cycle, so the garbage collector need not look at them (``gc=False``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from resolver.wire.header import Flag
from zones.names import EnvironmentId, Name
from zones.records import Rdata, RRset

CLASS_IN = 1
MAX_ERROR_TEXT = 160  # octets; with the longest name and an SOA a negative reply still fits 512


class Transport(StrEnum):
    """What carried a query, by its name in metrics."""

    UDP = "udp"
    TCP = "tcp"


UDP, TCP = Transport
"""The transports under names of their own, and below the response codes that most replies have, for what each query
goes through: Python 3.11 takes ten times as long to look up a member in its class."""


class Rcode(IntEnum):
    """Response codes (RFC 1035 §4.1.1, RFC 6891 §9)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


NOERROR, NXDOMAIN = Rcode.NOERROR, Rcode.NXDOMAIN


class ErrorCode(IntEnum):
    """Extended DNS error codes (RFC 8914 §4)."""

    OTHER = 0
    STALE_ANSWER = 3
    NOT_READY = 14
    BLOCKED = 15
    PROHIBITED = 18
    STALE_NXDOMAIN_ANSWER = 19
    NOT_AUTHORITATIVE = 20
    NOT_SUPPORTED = 21
    NO_REACHABLE_AUTHORITY = 22


@dataclass(frozen=True, slots=True)
class ExtendedError:
    """Why a reply has no good answer (RFC 8914), in words that a person can act on."""

    code: ErrorCode
    text: str


class Edns(Struct, frozen=True, gc=False):
    """The OPT record of a query (RFC 6891 §6.1.3)."""

    payload: int
    """The largest UDP payload that the client takes, in octets, as it was sent; less than 512 means 512."""

    version: int
    """The EDNS version; there is only 0."""

    dnssec_ok: bool
    """The DO bit."""


class QueryHeader(Struct, frozen=True, gc=False):
    """What a reply repeats of its query."""

    id: int

    flags: int
    """The second word of the header (`Flag`), as it was sent."""

    question: bytes = b""
    """The question section as it was sent, octet for octet; empty if it is not repeated."""

    edns: Edns | None = None
    """None where the query has no OPT record; then the reply has none."""

    @property
    def recursion_desired(self) -> bool:
        """The RD bit."""
        return bool(self.flags & Flag.RD)

    @property
    def authentic_wanted(self) -> bool:
        """The AD bit: the client wants to know whether the answer was validated (RFC 6840 §5.7)."""
        return bool(self.flags & Flag.AD)

    @property
    def checking_disabled(self) -> bool:
        """The CD bit (RFC 4035 §3.2.2)."""
        return bool(self.flags & Flag.CD)


class Query(Struct, frozen=True, gc=False):
    """A well-formed query."""

    header: QueryHeader

    qname: Name
    """In lower case."""

    qtype: int
    qclass: int = CLASS_IN

    repeats: bool = True
    """Whether the same octets may come again. False where the OPT record has options, for a client makes some of them
    up for each query, such as a cookie."""


class Rejected(Struct, frozen=True, gc=False):
    """A message that gets an error code and nothing else."""

    header: QueryHeader
    rcode: Rcode


class Reply(Struct, frozen=True, gc=False):
    """What the client is told."""

    rcode: Rcode

    answer: tuple[RRset, ...] = ()
    """The answer section: CNAMEs first and in order, then the records that were asked for."""

    authority: tuple[RRset, ...] = ()
    """The authority section: the SOA of a negative answer, and DNSSEC proofs that were forwarded."""

    authoritative: bool = False
    """The AA bit."""

    error: ExtendedError | None = None
    """The extended error, for clients with EDNS; None where there is none."""

    rotations: int = 1
    """In how many orders the last RRset can be given: each query gets the next one, in turn."""

    authentic: bool = False
    """The AD bit. It is only set in forwarded replies."""

    checking_disabled: bool = False
    """The CD bit. It is only set in forwarded replies."""

    def changed(self, **changes: Any) -> Reply:
        """The same reply with other values in some fields."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Record:
    """One record as an upstream gave it."""

    name: Name
    rtype: int
    rclass: int

    ttl: int
    """In seconds, as it was received."""

    rdata: Rdata


@dataclass(frozen=True, slots=True)
class Response:
    """What an upstream answered."""

    rcode: int
    """With the upper bits that the OPT record has (RFC 6891 §6.1.3)."""

    answer: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()

    authentic: bool = False
    """The AD bit."""

    recursive: bool = True
    """The RA bit."""

    truncated: bool = False
    """The TC bit; then the sections are empty."""


class Forward(Struct, frozen=True):
    """The upstreams must be asked, because ``qname`` is not the platform's."""

    query: Query

    qname: Name
    """What the upstreams are asked for: the query's name, or the one that the environment's CNAMEs lead to."""

    chain: tuple[RRset, ...] = ()
    """These CNAMEs; they stand first in the answer. Empty where the query's name itself is forwarded."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The reply must wait, for a better answer will be known soon."""

    environment: EnvironmentId | None = None
    """The environment whose pending zone must be published. None: all environments must be loaded, for until then it is
    not known whether the client belongs to one."""


@dataclass(frozen=True, slots=True)
class Drop:
    """No reply is given: a reply could be used to attack a third party, or to make two servers talk for ever."""

    reason: str
    """The value of the label ``reason`` in metrics."""
