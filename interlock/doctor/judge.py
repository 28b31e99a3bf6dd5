"""Judges what an agent says of its host, or of what somebody has asked it about."""

from __future__ import annotations

from collections.abc import Iterator

from agent.examine.facts import HostFacts
from interlock.doctor.marks import Mark
from interlock.doctor.workloads import judge_connects, judge_workload
from zones.model import Environment


def judge_workloads(
    facts: HostFacts, environment: Environment | None, resolver: str, *, is_asked: bool, target: str | None = None
) -> Iterator[Mark]:
    """The marks of the workloads in ``facts``, and of the connections that were tried.

    ``environment`` is the one that was asked about, whose services say which ports they have; ``resolver`` is the
    address that every workload is to ask. ``is_asked`` says that somebody wants to connect to them; ``target`` is the
    one alone that somebody wants to connect to: its address, or ``INSTANCE.SERVICE``, or its service.
    """
    for workload in facts.workloads:
        service = environment.services.get(workload.service) if environment else None
        ports = service.ports if service and environment and environment.id == workload.environment else ()
        names = (workload.address, f"{workload.instance}.{workload.service}", workload.service)
        is_server = is_asked or (target is not None and target in names)
        yield from judge_workload(
            workload, resolver, ports, is_asked=is_asked, is_server=is_server, has_resolver=facts.has_resolver
        )
    yield from judge_connects(facts.connects, environment.id if environment else "")
