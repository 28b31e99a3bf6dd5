"""The answer to a query, from the zone of its client's environment. Pure: no I/O, no clock, no state.

    answer(query, zone, rotation)    ->  Reply | Forward
    trace_answer(query, zone)        ->  Trace            the same, with the steps by which the answer was found

Rules in brackets are those of docs/clients.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

from msgspec import Struct

from resolver.special import NO_ROUTES, answer_special
from resolver.wire.messages import CLASS_IN, NXDOMAIN, ErrorCode, ExtendedError, Forward, Query, Rcode, Reply
from zones.names import ROOT, Name
from zones.nodes import Node
from zones.records import RRset, RRType
from zones.zone import Zone

MAX_CHAIN = 8  # CNAMEs followed before a chain counts as a loop
FULL_ROTATION = 256  # sets up to this size have each of their records come first in some rotation
SMALLEST_PART = 8  # records that fit even the smallest reply; in steps of it, rotations reach all of a larger set

_TRANSFERS = frozenset({RRType.AXFR, RRType.IXFR})
_ROTATING = frozenset({RRType.A, RRType.AAAA, RRType.SRV})


class Found(Enum):
    """What was found at a name."""

    OUTSIDE = auto()
    """The name is not the platform's."""

    NOTHING = auto()
    """The name does not exist in this environment."""

    NODE = auto()
    """The name exists, and its records (perhaps none of the type that was asked for) are the answer."""

    ALIAS = auto()
    """The name exists and has a CNAME, which was followed."""

    SWITCHED_OFF = auto()
    """The name was not looked up, because private networking is switched off for the environment."""

    LOOP = auto()
    """The name was not looked up, because too many CNAMEs had been followed before."""


class Step(Struct, frozen=True):
    """One name that was looked at on the way to an answer, and what was found there."""

    name: Name
    found: Found

    apex: Name | None = None
    """The apex of the platform's zone that ``name`` lies in; None where it lies outside."""

    node: Node | None = None
    """What exists at ``name``; None where nothing does, or where it was not looked up."""


@dataclass(frozen=True, slots=True)
class Trace:
    """How an answer was found."""

    steps: tuple[Step, ...]
    """The names that were looked at, in order; none where the query was decided without looking at its name."""

    outcome: Reply | Forward


def answer(query: Query, zone: Zone, rotation: int = 0, routed: frozenset[Name] = NO_ROUTES) -> Reply | Forward:
    """The answer to ``query`` for a client of ``zone``'s environment; ``rotation`` chooses among equal orders.

    ``routed`` are suffixes of special names that are forwarded all the same.
    """
    refusal = refuse_unserved(query)
    return refusal or _conclude(query, zone, _look_up(query, zone), rotation, routed)


def trace_answer(query: Query, zone: Zone) -> Trace:
    """What `answer` gives, with the steps by which it was found."""
    if refusal := refuse_unserved(query):
        return Trace((), refusal)
    steps = _look_up(query, zone)
    return Trace(tuple(steps), _conclude(query, zone, steps, 0, NO_ROUTES))


def refuse(code: ErrorCode, text: str) -> Reply:
    """A refusal with its reason."""
    return Reply(Rcode.REFUSED, error=ExtendedError(code, text))


def refuse_unserved(query: Query) -> Reply | None:
    """The refusal of ``query`` if no environment serves its class or its type; else None."""
    if query.qclass != CLASS_IN:
        return refuse(ErrorCode.NOT_SUPPORTED, "only class IN is served")
    if query.qtype in _TRANSFERS:
        return refuse(ErrorCode.PROHIBITED, "zones are not transferred")
    return None


def _look_up(query: Query, zone: Zone) -> Sequence[Step]:
    """The names from the query's to the end of its CNAMEs (RFC 1034 §4.3.2 step 3a); there is always one."""
    steps: list[Step] = []
    name = query.qname
    while True:
        step = _look_at(name, query.qtype, zone, len(steps))
        steps.append(step)
        if step.node is None or step.found is not Found.ALIAS:
            return steps
        name = _target(step)


def _look_at(name: Name, qtype: int, zone: Zone, followed: int) -> Step:
    place = zone.place_of(name)
    if place is None:
        return Step(name, Found.OUTSIDE)
    apex = place.apex
    if not zone.environment.enabled:
        return Step(name, Found.SWITCHED_OFF, apex)
    if followed > MAX_CHAIN:
        return Step(name, Found.LOOP, apex)
    node = zone.find_at(name, place)
    if node is None:
        return Step(name, Found.NOTHING, apex)
    is_followed = RRType.CNAME in node.rrsets and qtype not in (RRType.CNAME, RRType.ANY)
    return Step(name, Found.ALIAS if is_followed else Found.NODE, apex, node)


def _target(step: Step) -> Name:
    assert step.node
    target = step.node.rrsets[RRType.CNAME].rdatas[0]
    assert isinstance(target, Name)
    return target


def _conclude(
    query: Query, zone: Zone, steps: Sequence[Step], rotation: int, routed: frozenset[Name]
) -> Reply | Forward:
    last = steps[-1]
    # Each CNAME that was followed goes into the answer [14].
    chain = [step.node.rrsets[RRType.CNAME] for step in steps[:-1] if step.node] if len(steps) > 1 else []
    match last.found:
        case Found.NOTHING:  # first, for it is what a flood asks for
            assert last.apex
            return _negative(zone, last.apex, NXDOMAIN, chain)  # RFC 6604 §3: the rcode is that of the last name
        case Found.NODE | Found.ALIAS:  # the last step is never an alias that was followed
            assert last.apex
            assert last.node
            return _positive(query, zone, last.apex, last.node, chain, rotation)
        case Found.OUTSIDE:
            return _answer_outside(query, zone, last.name, chain, routed)
        case Found.SWITCHED_OFF:
            assert last.apex
            text = f"private networking is switched off for environment {zone.id!r}"
            return _negative(zone, last.apex, Rcode.NXDOMAIN, chain, ExtendedError(ErrorCode.BLOCKED, text))
        case Found.LOOP:
            error = ExtendedError(ErrorCode.OTHER, f"more than {MAX_CHAIN} CNAME records in a row: is there a loop?")
            return Reply(Rcode.SERVFAIL, error=error)
        case unreachable:
            assert_never(unreachable)


def _answer_outside(
    query: Query, zone: Zone, qname: Name, chain: list[RRset], routed: frozenset[Name]
) -> Reply | Forward:
    if reply := answer_special(query, qname, routed):
        return reply.changed(answer=(*chain, *reply.answer)) if chain else reply
    if zone.environment.isolated:
        error = ExtendedError(ErrorCode.BLOCKED, f"environment {zone.id!r} is isolated: it forwards nothing")
        return _negative(zone, ROOT, Rcode.NXDOMAIN, chain, error)
    return Forward(query, qname, tuple(chain))


def _positive(query: Query, zone: Zone, apex: Name, node: Node, chain: list[RRset], rotation: int) -> Reply:
    # RFC 8482 §4.1: to ANY, one RRset of those that are there.
    rrset = next(iter(node.rrsets.values()), None) if query.qtype == RRType.ANY else node.rrsets.get(query.qtype)
    if rrset is None:
        return _negative(zone, apex, Rcode.NOERROR, chain)  # NODATA [1]: the name exists, the type does not
    rotations = _rotations(rrset)
    rotated = _rotate(rrset, rotation, rotations)
    return Reply(Rcode.NOERROR, (*chain, rotated), authoritative=True, rotations=rotations)


def _negative(zone: Zone, apex: Name, rcode: Rcode, chain: list[RRset], error: ExtendedError | None = None) -> Reply:
    # RFC 2308 §2: the SOA alone in authority [16], so that the client knows how long not to ask again.
    return Reply(rcode, tuple(chain), (zone.soa(apex),), authoritative=True, error=error)


def _rotations(rrset: RRset) -> int:
    count = len(rrset.rdatas)
    if rrset.rtype not in _ROTATING:
        return 1
    if rrset.one_each:
        return count
    return count if count <= FULL_ROTATION else max(FULL_ROTATION, -(-count // SMALLEST_PART))


def _rotate(rrset: RRset, rotation: int, rotations: int) -> RRset:
    start = rotation % rotations * len(rrset.rdatas) // rotations
    if rrset.one_each:
        return rrset.changed(rdatas=rrset.rdatas[start : start + 1])
    return rrset.changed(rdatas=(*rrset.rdatas[start:], *rrset.rdatas[:start])) if start else rrset
