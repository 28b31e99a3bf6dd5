"""What exists at a name, and why: the answer of a zone to a look-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from zones.names import Name
from zones.records import Rdata, RRset, RRType

TTL = 5  # seconds; the source of truth is local, so a longer one would only be wrong for longer


class Origin(Enum):
    """What in the model a name comes from; told to a person who asks why a name resolves as it does."""

    APEX = "the zone itself"
    NAMESERVER = "the resolver's own name"
    DIRECTORY = "the directory of services"
    SERVICE = "a service"
    FORMER_NAME = "a former name of a service"
    INSTANCE = "an instance of a service"
    ALL = "all instances of a service, ready or not"
    REGION = "the ready instances of a service in one region"
    PORT = "a port of a service"
    INSTANCES = "the directory of a service's instances"
    RECORD = "a custom record"
    WILDCARD = "a wildcard record"
    REVERSE = "the address of an instance"
    BETWEEN = "names that exist below it (an empty non-terminal)"


@dataclass(frozen=True, slots=True)
class Node:
    """A name that exists. ``service`` is the current name of the service it belongs to, if it belongs to one."""

    origin: Origin
    rrsets: Mapping[int, RRset] = field(default_factory=dict)
    service: str | None = None


def make_node(
    origin: Origin,
    qname: Name,
    rtype: RRType,
    rdatas: tuple[Rdata, ...],
    service: str | None = None,
    *,
    any_part: bool = False,
) -> Node:
    """The node of ``qname`` with one RRset of ``rdatas``, or with none (NODATA) where there is no data."""
    # A service without ready instances still exists: a node without RRsets is NODATA.
    return Node(origin, {rtype: RRset(qname, rtype, TTL, rdatas, any_part)} if rdatas else {}, service)
