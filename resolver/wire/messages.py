"""Queries and what becomes of them, as values: what `wire` reads, `answer` decides and `wire` writes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from zones.names import EnvironmentId, Name
from zones.records import Rdata, RRset

CLASS_IN = 1
MAX_ERROR_TEXT = 160  # octets; with the longest name and an SOA a negative reply still fits 512


class Transport(Enum):
    """How a query came. The value is its name in metrics."""

    UDP = "udp"
    TCP = "tcp"


class Rcode(IntEnum):
    """Response codes (RFC 1035 §4.1.1, RFC 6891 §9)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class ErrorCode(IntEnum):
    """Extended DNS error codes (RFC 8914 §4)."""

    OTHER = 0
    STALE_ANSWER = 3
    NOT_READY = 14
    BLOCKED = 15
    PROHIBITED = 18
    STALE_NXDOMAIN_ANSWER = 19
    NOT_SUPPORTED = 21
    NO_REACHABLE_AUTHORITY = 22


@dataclass(frozen=True, slots=True)
class ExtendedError:
    """Why a reply is not what was hoped for (RFC 8914), in words that a person can act on."""

    code: ErrorCode
    text: str


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT record of a query (RFC 6891 §6.1.3): the UDP payload that the client takes, and the DO bit."""

    payload: int
    version: int
    dnssec_ok: bool


@dataclass(frozen=True, slots=True)
class QueryHeader:
    """What a reply repeats of its query. ``question`` is as it was sent, octet for octet; empty if there is none.

    ``authentic_wanted`` and ``checking_disabled`` are the AD and CD bits (RFC 6840 §5.7, RFC 4035 §3.2.2).
    """

    id: int
    opcode: int
    recursion_desired: bool
    question: bytes = b""
    edns: Edns | None = None
    authentic_wanted: bool = False
    checking_disabled: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A well-formed query. ``repeats`` says that its octets hold nothing made up for this one time, as a cookie is."""

    header: QueryHeader
    qname: Name
    qtype: int
    qclass: int = CLASS_IN
    repeats: bool = True


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that gets an error code and nothing else."""

    header: QueryHeader
    rcode: Rcode


@dataclass(frozen=True, slots=True)
class Reply:
    """What to reply. ``rotations`` is the number of orders that this answer has; each query gets the next one.

    ``authentic`` and ``checking_disabled`` are only ever set on what was forwarded.
    """

    rcode: Rcode
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    authoritative: bool = False
    error: ExtendedError | None = None
    rotations: int = 1
    authentic: bool = False
    checking_disabled: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One record as an upstream gave it; its TTL in seconds."""

    name: Name
    rtype: int
    rclass: int
    ttl: int
    rdata: Rdata


@dataclass(frozen=True, slots=True)
class Response:
    """What an upstream answered. ``recursive`` is its RA bit, ``authentic`` its AD bit."""

    rcode: int
    answer: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    authentic: bool = False
    recursive: bool = True
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """Somebody else must be asked for ``qname``: it is not the platform's.

    ``chain`` holds the CNAME RRsets of the environment that led to it, which stand first in the answer.
    """

    query: Query
    qname: Name
    chain: tuple[RRset, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Not yet: it will be known soon. ``environment`` is the one whose zone is on its way.

    None stands for all of them: until they are loaded, it is not known whether a client belongs to one.
    """

    environment: EnvironmentId | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Say nothing, for the given reason: any reply could be turned against somebody."""

    reason: str
