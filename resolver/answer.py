"""What to say to a query, given the zone of its client's environment. Pure: no I/O, no clock, nothing remembered.

    answer(query, zone, rotation)  ->  Reply | Forward

Rules in brackets are those of docs/clients.md.
"""

from __future__ import annotations

from dataclasses import replace

from resolver.special import answer_special
from resolver.wire.messages import CLASS_IN, ErrorCode, ExtendedError, Forward, Query, Rcode, Reply
from zones.names import ROOT, Name
from zones.nodes import Node
from zones.records import RRset, RRType
from zones.zone import Zone

MAX_CHAIN = 8  # CNAMEs followed before a chain counts as a loop
FULL_ROTATION = 256  # sets up to this size have each of their records come first in rotation
SMALLEST_PART = 8  # addresses that fit even the smallest reply; in steps of it, rotations reach all of a larger set

_ROTATING = frozenset({RRType.A, RRType.AAAA})


def answer(query: Query, zone: Zone, rotation: int = 0) -> Reply | Forward:
    """The answer to ``query`` for a client of ``zone``'s environment; ``rotation`` chooses among equal orders."""
    if query.qclass != CLASS_IN:
        return refuse(ErrorCode.NOT_SUPPORTED, "only class IN is served")
    if query.qtype == RRType.AXFR:
        return refuse(ErrorCode.PROHIBITED, "zones are not transferred")
    apex = zone.apex_of(query.qname)
    if apex is None:
        return _elsewhere(query, zone, query.qname, [])
    if not zone.environment.enabled:
        error = ExtendedError(ErrorCode.BLOCKED, f"private networking is switched off for environment {zone.id!r}")
        return _negative(zone, apex, Rcode.NXDOMAIN, error=error)
    return _follow(query, zone, apex, rotation)


def refuse(code: ErrorCode, text: str) -> Reply:
    """A refusal with its reason."""
    return Reply(Rcode.REFUSED, error=ExtendedError(code, text))


def _follow(query: Query, zone: Zone, apex: Name, rotation: int) -> Reply | Forward:
    # RFC 1034 §4.3.2 step 3a: each CNAME goes into the answer, then its target is looked up [14].
    chain: list[RRset] = []
    name = query.qname
    while len(chain) <= MAX_CHAIN:
        node = zone.find(name)
        if node is None:
            return _negative(zone, apex, Rcode.NXDOMAIN, chain)  # RFC 6604 §3: the rcode is that of the last name
        alias = node.rrsets.get(RRType.CNAME)
        if alias is None or query.qtype in (RRType.CNAME, RRType.ANY):
            return _final(query, zone, apex, node, chain, rotation)
        chain.append(alias)
        target = alias.rdatas[0]
        assert isinstance(target, Name)
        name = target
        inside = zone.apex_of(name)
        if inside is None:
            return _elsewhere(query, zone, name, chain)
        apex = inside
    error = ExtendedError(ErrorCode.OTHER, f"more than {MAX_CHAIN} CNAME records in a row: is there a loop?")
    return Reply(Rcode.SERVFAIL, error=error)


def _elsewhere(query: Query, zone: Zone, qname: Name, chain: list[RRset]) -> Reply | Forward:
    if reply := answer_special(query, qname):
        return replace(reply, answer=(*chain, *reply.answer))
    if zone.environment.isolated:
        error = ExtendedError(ErrorCode.BLOCKED, f"environment {zone.id!r} is isolated: it asks nobody outside")
        return _negative(zone, ROOT, Rcode.NXDOMAIN, chain, error)
    return Forward(query, qname, tuple(chain))


def _final(query: Query, zone: Zone, apex: Name, node: Node, chain: list[RRset], rotation: int) -> Reply:
    # RFC 8482 §4.1: to ANY, one RRset of those that are there.
    rrset = next(iter(node.rrsets.values()), None) if query.qtype == RRType.ANY else node.rrsets.get(query.qtype)
    if rrset is None:
        return _negative(zone, apex, Rcode.NOERROR, chain)  # NODATA [1]: the name exists, the type does not
    rotations = _rotations(rrset)
    return Reply(Rcode.NOERROR, (*chain, _rotate(rrset, rotation, rotations)), authoritative=True, rotations=rotations)


def _negative(
    zone: Zone, apex: Name, rcode: Rcode, chain: list[RRset] | None = None, error: ExtendedError | None = None
) -> Reply:
    # RFC 2308 §2: the SOA alone in authority [16], so that the client knows how long not to ask again.
    return Reply(rcode, tuple(chain or ()), (zone.soa(apex),), authoritative=True, error=error)


def _rotations(rrset: RRset) -> int:
    count = len(rrset.rdatas)
    if rrset.rtype not in _ROTATING:
        return 1
    return count if count <= FULL_ROTATION else max(FULL_ROTATION, -(-count // SMALLEST_PART))


def _rotate(rrset: RRset, rotation: int, rotations: int) -> RRset:
    start = rotation % rotations * len(rrset.rdatas) // rotations
    return replace(rrset, rdatas=(*rrset.rdatas[start:], *rrset.rdatas[:start])) if start else rrset
