"""A node: what a zone has at a name, and from what in the model the name comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from zones.names import Name
from zones.records import Rdata, RRset, RRType

TTL = 5  # seconds; the zone is on the same host, so a longer TTL saves little and delays every change


class Origin(Enum):
    """From what in the model a name comes. The text explains to a person why the name resolves as it does."""

    APEX = "the zone itself"
    NAMESERVER = "the resolver's own name"
    DIRECTORY = "the directory of services"
    SERVICE = "a service"
    FORMER_NAME = "a former name of a service"
    INSTANCE = "an instance of a service"
    ONE = "one ready instance of a service, with each answer another one"
    ALL = "all instances of a service, ready or not"
    REGION = "the ready instances of a service in one region"
    PORT = "a port of a service"
    INSTANCES = "the directory of a service's instances"
    RECORD = "a custom record"
    WILDCARD = "a wildcard record"
    REVERSE = "the address of an instance"
    EMPTY_NON_TERMINAL = "names that exist below it (an empty non-terminal)"


@dataclass(frozen=True, slots=True)
class Node:
    """A name that exists."""

    origin: Origin
    """From what in the model the name comes."""
    rrsets: Mapping[int, RRset] = field(default_factory=dict)
    """Type → the RRset of that type. A type without an entry is NODATA."""
    service: str | None = None
    """The current name of the service that the name belongs to. None: it belongs to none."""


def make_node(
    origin: Origin,
    qname: Name,
    rtype: RRType,
    rdatas: tuple[Rdata, ...],
    service: str | None = None,
    *,
    any_part: bool = False,
    one_each: bool = False,
) -> Node:
    """The node of ``qname`` with one RRset of ``rdatas``; without an RRset (NODATA) if ``rdatas`` is empty.

    So a service without ready instances still exists.
    """
    return Node(origin, {rtype: RRset(qname, rtype, TTL, rdatas, any_part, one_each)} if rdatas else {}, service)
