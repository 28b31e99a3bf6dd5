"""Asks everything that may know something, all at once, each with its deadline, and puts the marks together.

    agent     its control socket: the host, its peers, its workloads, probes            on a host of the mesh
    API       ``/v1/doctor``: the store, the leases, an environment                     where there is a token for it
    resolver  one query, and the upstreams that its metrics name                        where one serves on this machine

Whatever hangs is named, and holds up nothing: the report comes within two seconds.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from agent.control.client import CONTROL_SOCKET, NoAgent, Refusal, ask
from agent.examine.facts import HostFacts, decode_facts
from interlock.client import Client
from interlock.doctor.clients import find_client, is_address, judge_client, judge_stranger
from interlock.doctor.host import judge_host
from interlock.doctor.judge import judge_workloads
from interlock.doctor.machine import (
    ResolverFacts,
    UpstreamFacts,
    judge_resolver,
    judge_upstreams,
    nothing_here,
    read_listening,
    read_readiness,
    read_upstreams,
)
from interlock.doctor.marks import ORDER, Mark, Report, Standing, broken, ok, unknown, warning
from interlock.doctor.names import HostsKnown, judge_environment, judge_name, meant_name
from interlock.doctor.peers import RESTART_AGENT, judge_peers
from interlock.errors import ApiRefused, BadSetting, InterlockError
from interlock.settings.table import Settings
from interlock.settings.values import reachable
from resolver.client import ask as ask_dns
from resolver.errors import AskError
from resolver.forward.upstream import Upstream
from support.clock import unix_milliseconds
from support.endpoints import Endpoint
from support.patience import patience
from zones.document import decode
from zones.errors import ZonesError
from zones.model import Environment
from zones.names import ROOT, Name
from zones.records import RRType
from zones.zone import Zone, compile_zone

AGENT_SECONDS = 1.5  # the agent's own probes take 0.8 at most
DNS_SECONDS = 0.8
HTTP_SECONDS = 0.5  # of what is on this machine
ALL_SECONDS = 1.6  # for everything; then whoever has not answered is said to hang

_OF_A_NAME = frozenset({"tunnel", "sockets", "connection"})

RESOLVER_DNS = Endpoint("127.0.0.1", 53)  # where 'interlock resolver' listens by default, among other addresses


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be examined; with nothing set, this machine."""

    name: str | None = None
    """A name, as a client would ask for it, or below the zone."""
    netns: str | None = None
    """The path of a workload's network namespace."""
    source: str | None = None
    """A client: an address, or ``INSTANCE.SERVICE``."""
    target: str | None = None
    """What the client connects to, in the same way."""
    port: int | None = None
    """The port that it connects to; None for those of the service."""
    host: str | None = None
    """A host whose agent is asked by the control plane."""

    @property
    def is_machine(self) -> bool:
        """Whether it is this machine as a whole."""
        return not (self.name or self.netns or self.source or self.target)


@dataclass(slots=True)
class _Found:
    """What the sources have said; None where one has not, or was not asked."""

    facts: HostFacts | None = None
    agent: str = ""  # why there are no facts
    agent_refused: str = ""  # why the agent did not answer this question
    api: list[Mark] | None = None
    api_problem: str = ""
    resolver: ResolverFacts | None = None
    is_bound: bool = True  # whether queries of this machine itself are answered
    upstreams: list[UpstreamFacts] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)


def examine(settings: Settings, subject: Subject) -> Report:
    """The report about ``subject``, within two seconds. Raises `BadSetting`."""
    if (subject.name or subject.target) and not settings.environment and not subject.netns:
        raise BadSetting("which environment? give --environment or set INTERLOCK_ENVIRONMENT")
    found = _Found()
    expected = _agent_is_expected(settings)
    sources: dict[str, Callable[[], None]] = {"resolver": lambda: _ask_machine(settings, subject, found, expected)}
    if expected:
        sources["agent"] = lambda: _ask_agent(settings, subject, found)
    client = _client(settings, found)
    if client:
        sources["API"] = lambda: _ask_api(client, settings, subject, found)
    late = _run_all(sources)
    return Report.of(_judge(settings, subject, found, expected=expected, late=late))


def marks_from_here(settings: Settings, name: str) -> list[Mark]:
    """What is seen of ``name`` from this host, beside what the admin API knows; nothing where no agent runs."""
    if not _agent_is_expected(settings):
        return []
    subject, found = Subject(name), _Found()
    late = _run_all({"agent": lambda: _ask_agent(settings, subject, found)})
    if found.facts is not None:
        found.api = []  # the environment is explained already
    marks = _judge(settings, subject, found, expected=True, late=late)
    return [mark for mark in Report.of(marks).marks if mark.standing is not Standing.OK or mark.check in _OF_A_NAME]


def _judge(settings: Settings, subject: Subject, found: _Found, *, expected: bool, late: list[str]) -> Iterator[Mark]:
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
    if subject.name and _absolute(subject.name, settings).below(settings.zone) is None:
        return ok("client", f"{detail}; the name is judged for clients of {environment}")
    return warning("client", f"{detail}; clients of {environment} are answered", judge_stranger(own).fix)


def _judge_unseen(settings: Settings, subject: Subject, found: _Found, *, is_judged: bool) -> Iterator[Mark]:
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


def _judge_environment(settings: Settings, subject: Subject, found: _Found) -> Iterator[Mark]:
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


# Asking


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


def _ask_agent(settings: Settings, subject: Subject, found: _Found) -> None:
    assert settings.agent_dir
    service, instance = _labels(subject.name, settings)
    request = {
        "environment": settings.environment,
        "service": service,
        "instance": instance,
        "netns": subject.netns,
        "source": subject.source,
        "target": subject.target,
        "port": subject.port,
    }
    given = {name: value for name, value in request.items() if value is not None}
    try:
        answer = ask(settings.agent_dir, {"op": "examine", **given}, AGENT_SECONDS * patience())
        found.facts = decode_facts(json.dumps(answer["facts"]).encode())
    except NoAgent as error:
        found.agent = str(error)
    except Refusal as error:
        found.agent_refused = str(error)
    except (ValueError, KeyError) as error:
        found.agent = f"its answer cannot be read, so it is of another release: {error}"


def _ask_api(client: Client, settings: Settings, subject: Subject, found: _Found) -> None:
    wanted = {
        "environment": settings.environment,
        "name": subject.name or _named(subject.target),
        "source": subject.source,
        "host": subject.host,
    }
    query = {name: value for name, value in wanted.items() if value is not None}
    try:
        answer = client.get("doctor", query=query)
    except ApiRefused as error:
        found.api_problem = str(error) if error.status != 404 else "it is of an older release, and has no doctor"
    except InterlockError as error:
        found.api_problem = str(error)
    else:
        found.api = [_mark(one) for one in answer["marks"]]


def _ask_machine(settings: Settings, subject: Subject, found: _Found, is_host: bool) -> None:
    """The resolver that serves on this machine, if one does, and its upstreams."""
    metrics, server, is_assumed, is_up = "", None, False, False
    if is_host:
        server = Endpoint(str(settings.platform.resolver), 53)
    if not settings.is_default("dns_listen"):
        server = settings.dns_listen[0]
    for base, default in _operations(settings):
        parts = read_readiness(_fetch(f"{base}/readyz?verbose"))
        if "resolver" in parts:
            metrics = _fetch(f"{base}/metrics")
            is_up = not is_host and "admin" in parts
            if server is None:
                listening = [Endpoint.parse(one) for one in read_listening(metrics)]
                server = reachable(*listening[0]) if listening else default
                is_assumed = not listening or not _is_here(base)  # another machine's loopback is not ours
            break
        found.looked.append(f"no resolver at {base}")
    if server is None:
        return
    qname = settings.zone if subject.name is None else _absolute(subject.name, settings)
    try:
        answer = ask_dns(server, qname, RRType.AAAA, timeout=DNS_SECONDS * patience())
    except AskError as error:
        found.resolver = ResolverFacts(str(server), None, str(error), is_assumed, is_up)
    else:
        found.resolver = ResolverFacts(str(server), answer.rcode)
        found.is_bound = answer.rcode != "REFUSED"
    _ask_upstreams(read_upstreams(metrics), found)


def _ask_upstreams(upstreams: list[str], found: _Found) -> None:
    results: dict[str, str] = {}

    def ask_one(text: str) -> None:
        upstream = Upstream.parse(text)
        try:
            if upstream.tls_name:
                socket.create_connection((upstream.host, upstream.port), DNS_SECONDS * patience()).close()
            else:
                ask_dns((upstream.host, upstream.port), ROOT, RRType.NS, timeout=DNS_SECONDS * patience())
        except AskError as error:
            results[text] = str(error)
        except OSError as error:
            results[text] = error.strerror or str(error)
        else:
            results[text] = ""

    threads = [threading.Thread(target=ask_one, args=(one,), daemon=True) for one in upstreams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DNS_SECONDS * patience())
    found.upstreams = [UpstreamFacts(one, results.get(one, "it has not answered in time")) for one in upstreams]


def _operations(settings: Settings) -> Iterator[tuple[str, Endpoint]]:
    """Where a resolver of this machine may serve its health, and where it then serves DNS by default."""
    if settings.ops_listen:
        yield f"http://{settings.ops_listen}", RESOLVER_DNS
    if settings.api and settings.api[-1].startswith("http://"):
        yield settings.api[-1], settings.dns_listen[0]


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def _fetch(url: str) -> str:
    try:
        with _opener.open(url, timeout=HTTP_SECONDS * patience()) as response:
            text: str = response.read().decode(errors="replace")
            return text
    except URLError as error:
        body = getattr(error, "read", None)  # of an HTTPError: what is not ready says so with 503
        return body().decode(errors="replace") if body else ""
    except (OSError, ValueError):
        return ""


def _client(settings: Settings, found: _Found) -> Client | None:
    """The client of the admin API; None where there is no token for it."""
    try:
        return Client.of(settings)
    except BadSetting as error:
        found.looked.append(str(error))
        return None


def _agent_is_expected(settings: Settings) -> bool:
    """Whether this machine is a host of the mesh, also while its agent is dead."""
    if settings.agent_dir is None:
        return False
    has_device = Path("/sys/class/net", settings.device).exists()
    return not settings.is_default("agent_dir") or (settings.agent_dir / CONTROL_SOCKET).exists() or has_device


def _document(facts: HostFacts) -> Environment | None:
    if facts.document is None:
        return None
    try:
        return decode(facts.document.encode())
    except ZonesError:
        return None


def _labels(name: str | None, settings: Settings) -> tuple[str | None, str | None]:
    """The service, and the instance if one is named, that ``name`` is about."""
    if name is None:
        return None, None
    whole = _absolute(name, settings)
    below = whole.below(settings.zone)
    labels = [one.decode("latin-1") for one in (whole.labels if below is None else below)]
    if not labels:
        return None, None
    is_instance = len(labels) == 2 and not labels[0].startswith("_") and labels[0] not in ("all", "one")
    return labels[-1], labels[0] if is_instance else None


def _absolute(name: str, settings: Settings) -> Name:
    try:
        written = Name.parse(name)
        if written.below(settings.zone) is not None or name.endswith(".") or "." in name:
            return written
        return settings.zone.child(name)
    except ValueError as error:
        raise BadSetting(str(error)) from None


def _named(target: str | None) -> str | None:
    return target if target and not is_address(target) else None


def _own_address(server: str) -> str:
    return "::1" if server.startswith("[") else "127.0.0.1"


def _mark(shown: dict[str, Any]) -> Mark:
    check = shown["check"] if shown["check"] in ORDER else "control plane"  # of a later release
    return Mark(check, Standing(shown["standing"]), shown["detail"], shown.get("fix", ""))


_opener = build_opener(ProxyHandler({}))  # no proxy: it is all on this machine
