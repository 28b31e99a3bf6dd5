"""Asks all sources at once, and puts the marks about what they have said together.

Whatever hangs is named, and holds up nothing: the report comes within two seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from agent.examine.facts import HostFacts
from interlock.doctor.clients import find_client, is_address, judge_client, judge_stranger
from interlock.doctor.host import judge_host
from interlock.doctor.judge import judge_workloads
from interlock.doctor.machine import (
    judge_resolver,
    judge_upstreams,
    nothing_here,
)
from interlock.doctor.marks import Mark, Report, Standing, broken, ok, unknown, warning
from interlock.doctor.names import HostsKnown, judge_environment, judge_name, meant_name
from interlock.doctor.peers import RESTART_AGENT, judge_peers
from interlock.doctor.sources import Found, ask_agent, ask_api, ask_machine, find_api, is_host_of_mesh
from interlock.doctor.subject import Subject, absolute
from interlock.errors import BadSetting
from interlock.settings.table import Settings
from support.clock import unix_milliseconds
from support.patience import patience
from zones.document import decode
from zones.errors import ZonesError
from zones.model import Environment
from zones.records import RRType
from zones.zone import Zone, compile_zone

ALL_SECONDS = 1.6  # for everything; then whoever has not answered is said to hang

_OF_A_NAME = frozenset({"tunnel", "sockets", "connection"})


def examine(settings: Settings, subject: Subject) -> Report:
    """The report about ``subject``, within two seconds. Raises `BadSetting`."""
    if (subject.name or subject.target) and not settings.environment and not subject.netns:
        raise BadSetting("which environment? give --environment or set INTERLOCK_ENVIRONMENT")
    found = Found()
    expected = is_host_of_mesh(settings)
    sources: dict[str, Callable[[], None]] = {"resolver": lambda: ask_machine(settings, subject, found, expected)}
    if expected:
        sources["agent"] = lambda: ask_agent(settings, subject, found)
    client = find_api(settings, found)
    if client:
        sources["API"] = lambda: ask_api(client, settings, subject, found)
    late = _run_all(sources)
    return Report.of(_judge(settings, subject, found, expected=expected, late=late))


def marks_from_here(settings: Settings, name: str) -> list[Mark]:
    """What is seen of ``name`` from this host, beside what the admin API knows; nothing where no agent runs."""
    if not is_host_of_mesh(settings):
        return []
    subject, found = Subject(name), Found()
    late = _run_all({"agent": lambda: ask_agent(settings, subject, found)})
    if found.facts is not None:
        found.api = []  # the environment is explained already
    marks = _judge(settings, subject, found, expected=True, late=late)
    return [mark for mark in Report.of(marks).marks if mark.standing is not Standing.OK or mark.check in _OF_A_NAME]


def _run_all(sources: dict[str, Callable[[], None]]) -> list[str]:
    """Runs ``sources`` beside each other; gives those that have not ended in time."""
    # Threads that nobody waits for at the end of the process: one may hang in a call.
    threads = {name: threading.Thread(target=run, daemon=True, name=name) for name, run in sources.items()}
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + ALL_SECONDS * patience()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    return [name for name, thread in threads.items() if thread.is_alive()]


def _judge(settings: Settings, subject: Subject, found: Found, *, expected: bool, late: list[str]) -> Iterator[Mark]:
    facts, platform = found.facts, settings.platform
    if "API" in late or found.api_problem:
        reason = found.api_problem or f"it has not answered within {ALL_SECONDS:g} s"
        make = unknown if facts else broken
        detail = reason if reason.startswith("the admin API") else f"the admin API at {settings.api[-1]}: {reason}"
        yield make("control plane", detail, "systemctl restart interlock-admin")
    yield from found.api or ()
    if facts is not None:
        yield from judge_host(facts)
        yield from judge_peers(facts)
        is_asked = subject.name is not None
        yield from judge_workloads(
            facts, _document(facts), str(platform.resolver), is_asked=is_asked, target=subject.target
        )
        yield from _judge_source(facts, subject)
    elif expected:
        reason = found.agent or f"it has not answered within {ALL_SECONDS:g} s, so it hangs"
        if found.agent_refused:
            yield broken("attachment", found.agent_refused, "interlock mesh lists what is attached to this host")
        else:
            yield broken(
                "agent",
                f"the agent of this host does not answer: {reason}; what it has made stays, and nothing is kept up",
                f"{RESTART_AGENT}; journalctl -u interlock-agent -n 50",
            )
    if found.resolver and not (facts and not facts.has_resolver):
        yield from judge_resolver(found.resolver)
        if not found.is_bound and not subject.source and subject.name and not expected:
            yield _judge_own_queries(settings, subject, _own_address(found.resolver.address))
    yield from judge_upstreams(found.upstreams)
    yield from _judge_environment(settings, subject, found)
    if facts is None and not expected and found.api is None and not found.api_problem and found.resolver is None:
        yield nothing_here(found.looked)
    elif facts is None and not expected:
        yield from _judge_unseen(settings, subject, found, is_judged=found.api is not None or "API" in late)


def _judge_own_queries(settings: Settings, subject: Subject, own: str) -> Mark:
    """The mark of a machine that is itself no client: that is no fault of the name that was asked about."""
    environment = settings.environment or "its environment"
    detail = f"this machine's own queries are refused (REFUSED), for {own} belongs to no environment"
    if subject.name and absolute(subject.name, settings).below(settings.zone) is None:
        return ok("client", f"{detail}; the name is judged for clients of {environment}")
    return warning("client", f"{detail}; clients of {environment} are answered", judge_stranger(own).fix)


def _judge_unseen(settings: Settings, subject: Subject, found: Found, *, is_judged: bool) -> Iterator[Mark]:
    """What was asked about and nobody has looked at, where no agent runs: that must not count as well."""
    if subject.netns:
        yield broken(
            "attachment",
            f"no agent runs on this machine, so no workload is attached from {subject.netns}, and it was not looked at",
            "run it on the host of the workload, or name its agent: --agent-dir DIRECTORY",
        )
    if subject.source and subject.target:
        yield unknown(
            "connection",
            "no connection was tried, for no agent runs on this machine",
            f"run it on the host of {subject.source}, which 'interlock instance list' names",
        )
    if not is_judged and not found.api_problem and (settings.environment or subject.host or not subject.is_machine):
        yield unknown(
            "control plane",
            f"the control plane was not asked, so neither environments nor hosts were looked at: {found.looked[-1]}",
            "give --api URL and --token TOKEN",
        )


def _judge_source(facts: HostFacts, subject: Subject) -> Iterator[Mark]:
    if facts.source_problem:
        yield unknown(
            "client",
            f"no connection was tried: {facts.source_problem}",
            f"run it on the host of {subject.source}, which 'interlock instance list' names",
        )


def _judge_environment(settings: Settings, subject: Subject, found: Found) -> Iterator[Mark]:
    """The environment by the document that the agent has, where no admin API has judged it."""
    facts = found.facts
    if facts is None or settings.environment is None or found.api is not None:
        return
    environment = _document(facts)
    if environment is None:
        yield unknown(
            "environment",
            f"{settings.environment} has no member on this host, so nothing of it is known here",
            f"run it where the admin API is: interlock doctor -e {settings.environment}; is the id right?",
        )
        return
    live = None if facts.live is None else frozenset({*facts.live, facts.host})
    known = HostsKnown(None, live, facts.lagging)
    zone = compile_zone(settings.platform, environment, unix_milliseconds())
    if subject.source:
        yield judge_client(subject.source, environment, find_client(environment, subject.source), None)
    if subject.target:
        yield from _judge_target(subject.target, environment, zone, known)
    elif subject.name:
        yield from judge_name(zone, meant_name(subject.name, zone), RRType.AAAA, known)
    elif subject.source is None:
        yield from judge_environment(zone, known)


def _judge_target(target: str, environment: Environment, zone: Zone, known: HostsKnown) -> Iterator[Mark]:
    if not is_address(target):
        yield from judge_name(zone, meant_name(target, zone), RRType.AAAA, known)
    elif (
        mark := judge_client(target, environment, find_client(environment, target), None)
    ).standing is not Standing.OK:
        yield broken(
            "environment",
            f"{target} is the address of no instance and no external peer of {environment.id}, and environments do not"
            " reach each other",
            mark.fix if mark.standing is Standing.WARNING else "connect to an instance of the same environment",
        )


def _document(facts: HostFacts) -> Environment | None:
    if facts.document is None:
        return None
    try:
        return decode(facts.document.encode())
    except ZonesError:
        return None


def _own_address(server: str) -> str:
    return "::1" if server.startswith("[") else "127.0.0.1"
