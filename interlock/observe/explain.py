"""Why a name resolves as it does: the answer itself, and the stages by which it was found.

The answer is the resolver's own, made from the newest document in the store. The stages put in words the steps that the
resolver's `answer` took. Names of other environments are never looked at, not even for "did you mean".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, assert_never

from resolver.answer import MAX_CHAIN, Found, Step, trace_answer
from resolver.wire.header import Flag
from resolver.wire.messages import Forward, Query, QueryHeader, Rcode, Reply
from zones.model import Service, State
from zones.names import Name
from zones.nodes import Node, Origin
from zones.placement import HostsAway, Placement, has_path, placement_of
from zones.records import RRType, type_name
from zones.zone import Zone

FORWARDED = "FORWARDED"  # in the place of an rcode: what an upstream will answer cannot be explained here
MOST_CANDIDATES = 2000  # names compared with a misspelt one: a few milliseconds of work

_READY_ONLY = frozenset({Origin.SERVICE, Origin.FORMER_NAME, Origin.REGION, Origin.PORT, Origin.ONE})


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the explanation."""

    stage: str
    """What is decided at this stage: environment, zone, name, alias, instances, type or answer."""

    ok: bool
    """False where this stage is the reason why there is no answer with records."""

    detail: str
    """What was decided, as a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Explained:
    """An answer, and how it comes about."""

    name: str
    """The name that was asked for."""
    type: str
    """The type that was asked for."""
    rcode: str
    """The rcode of the answer, or `FORWARDED`."""
    answer: tuple[str, ...]
    """The records of the answer, a line each."""
    stages: tuple[Stage, ...]
    """How it comes about."""
    service: str | None
    """The service whose instances the answer is about; None where it is about none."""
    instance: str | None
    """The one instance that it is about; None where it is about all of the service."""
    packet: dict[str, Any]
    """The fields of the reply, as a client that speaks EDNS gets it; empty where an upstream is asked."""


def explain_stages(zone: Zone, qname: Name, qtype: int) -> Explained:
    """What a client of the environment of ``zone`` is told about ``qname``, and why."""
    trace = trace_answer(Query(QueryHeader(id=0, flags=Flag.RD), qname, qtype), zone)
    outcome = trace.outcome
    found = outcome.chain if isinstance(outcome, Forward) else outcome.answer
    stages = [_explain_environment(zone)]
    for step in trace.steps:
        stages += _explain_step(step, zone, qtype)
    stages.append(_explain_outcome(outcome))
    node = trace.steps[-1].node if trace.steps else None
    is_one = node is not None and node.origin is Origin.INSTANCE
    return Explained(
        name=str(qname),
        type=type_name(qtype),
        rcode=FORWARDED if isinstance(outcome, Forward) else outcome.rcode.name,
        answer=tuple(line for rrset in found for line in str(rrset).split("\n")),
        stages=tuple(stages),
        service=node.service if node else None,
        instance=trace.steps[-1].name.labels[0].decode("latin-1") if is_one else None,
        packet={} if isinstance(outcome, Forward) else _describe_packet(outcome, qname, qtype),
    )


def explain_answer(zone: Zone, qname: Name, qtype: int) -> dict[str, Any]:
    """The answer from ``zone`` and its stages, ready to be written as JSON."""
    explained = explain_stages(zone, qname, qtype)
    return {
        "environment": zone.id,
        "name": explained.name,
        "type": explained.type,
        "revision": zone.revision,
        "rcode": explained.rcode,
        "answer": list(explained.answer),
        "stages": [{"stage": stage.stage, "ok": stage.ok, "detail": stage.detail} for stage in explained.stages],
        "packet": explained.packet,
    }


def _describe_packet(reply: Reply, qname: Name, qtype: int) -> dict[str, Any]:
    return {
        "flags": ["qr", *(["aa"] if reply.authoritative else []), "rd", "ra"],
        "rcode": reply.rcode.name,
        "question": f"{qname} IN {type_name(qtype)}",
        "answer": sum(len(rrset.rdatas) for rrset in reply.answer),
        "authority": [line for rrset in reply.authority for line in str(rrset).split("\n")],
        "extended_error": f"{reply.error.code.value} {reply.error.text}" if reply.error else "",
        "orders": reply.rotations,
    }


def _explain_environment(zone: Zone) -> Stage:
    enabled = zone.environment.enabled
    state = "private networking is on" if enabled else "private networking is switched off, so nothing resolves"
    return Stage("environment", enabled, f"{zone.id}, revision {zone.revision}: {state}")


def _explain_step(step: Step, zone: Zone, qtype: int) -> Iterator[Stage]:
    name = step.name
    match step.found:
        case Found.OUTSIDE:
            yield Stage("zone", False, f"{name} is outside {zone.apex}{_suggest_inside(zone, name)}")
        case Found.SWITCHED_OFF:
            return  # the stage of the environment says so
        case Found.LOOP:
            yield Stage("alias", False, f"more than {MAX_CHAIN} aliases in a row: is there a loop?")
        case Found.NOTHING:
            yield Stage("zone", True, f"{name} is in {step.apex}")
            yield Stage("name", False, f"nothing in this environment is called {name}{_suggest_near(zone, name)}")
        case Found.NODE | Found.ALIAS:
            assert step.node
            yield Stage("zone", True, f"{name} is in {step.apex}")
            yield from _explain_node(step, step.node, zone, qtype)
        case unreachable:
            assert_never(unreachable)


def _explain_node(step: Step, node: Node, zone: Zone, qtype: int) -> Iterator[Stage]:
    name = step.name
    yield Stage("name", True, f"{name} is {node.origin.value}" + (f": {node.service}" if node.service else ""))
    if step.found is Found.ALIAS:
        yield Stage("alias", True, f"{name} is an alias (CNAME) of {node.rrsets[RRType.CNAME].rdatas[0]}")
        return
    if node.service and node.origin in _READY_ONLY:
        yield _explain_instances(name, node, zone.environment.services[node.service], zone.away)
    yield _explain_type(node, qtype)


def _explain_instances(name: Name, node: Node, service: Service, away: HostsAway) -> Stage:
    region = name.labels[0].decode("latin-1") if node.origin is Origin.REGION else None
    total, ready, unmanaged, left_out = 0, 0, 0, []
    for id_, instance in service.instances.items():
        if region is not None and instance.region != region:
            continue
        total += 1
        placement = placement_of(instance, away)
        if instance.state is not State.READY:
            left_out.append(f"{id_} ({instance.state.value})")
        elif not has_path(instance, away):
            left_out.append(f"{id_} ({placement.value})")
        else:
            ready += 1
            unmanaged += placement is Placement.UNMANAGED
    where = f" in region {region}" if region else ""
    detail = f"{ready} of {total} instances{where} ready"
    if unmanaged:
        detail += f" ({unmanaged} unmanaged)"
    return Stage("instances", ready > 0, detail + (f"; left out: {', '.join(left_out)}" if left_out else ""))


def _explain_type(node: Node, qtype: int) -> Stage:
    held = ", ".join(map(type_name, node.rrsets)) or "none"
    if qtype in node.rrsets or (qtype == RRType.ANY and node.rrsets):
        return Stage("type", True, f"records: {held}")
    return Stage("type", False, f"no {type_name(qtype)} records, so the answer is empty (NODATA); records: {held}")


def _explain_outcome(outcome: Reply | Forward) -> Stage:
    match outcome:
        case Forward(qname=qname):
            return Stage(
                "answer", True, f"{qname} is not the platform's: the resolver asks its upstreams, if it has any"
            )
        case Reply():
            records = sum(len(rrset.rdatas) for rrset in outcome.answer)
            text = f"{outcome.rcode.name}, {records} record{'' if records == 1 else 's'}"
            text += f": {outcome.error.text}" if outcome.error else ""
            return Stage("answer", outcome.rcode is Rcode.NOERROR, text)
        case unreachable:
            assert_never(unreachable)


def _suggest_inside(zone: Zone, qname: Name) -> str:
    """Names what ``qname`` is below the zone, if that exists; else empty."""
    try:
        inside = Name.of((*qname.labels, *zone.apex.labels))
    except ValueError:
        return ""
    return f": did you mean {inside}?" if zone.find(inside) else ""


def _suggest_near(zone: Zone, name: Name) -> str:
    below = name.below(zone.apex)
    if not below:
        return ""
    asked = str(Name.of(below)).rstrip(".")
    known = islice(_names(zone, str(Name.of(below[-1:])).rstrip(".")), MOST_CANDIDATES)
    near = difflib.get_close_matches(asked, known)
    return f"; there is {', '.join(near)}" if near else ""


def _names(zone: Zone, last: str) -> Iterable[str]:
    """Names of this environment, below the zone: those that may be meant by one that ends with the label ``last``."""
    for member in zone.members:
        if member.is_former:
            continue
        yield member.name
        if last == member.name:
            yield from (f"{id_}.{member.name}" for id_ in member.service.instances)
    yield from zone.environment.records
