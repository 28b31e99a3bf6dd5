"""Each source that may know something, asked with a deadline of its own, and what all of them have said.

    agent     its control socket: the host, its peers, its workloads, probes            on a host of the mesh
    API       ``/v1/doctor``: the store, the leases, an environment                     where there is a token for it
    resolver  one query, and the upstreams that its metrics name                        where one serves on this machine

They are asked beside each other, so each writes what it has heard into one `Found`.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
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
from interlock.doctor.clients import is_address
from interlock.doctor.machine import (
    ResolverFacts,
    UpstreamFacts,
    read_listening,
    read_readiness,
    read_upstreams,
)
from interlock.doctor.marks import ORDER, Mark, Standing
from interlock.doctor.subject import Subject, absolute, labels_of
from interlock.errors import ApiRefused, BadSetting, InterlockError
from interlock.settings.table import Settings
from interlock.settings.values import reachable
from resolver.client import ask as ask_dns
from resolver.errors import AskError
from resolver.forward.upstream import Upstream
from support.endpoints import Endpoint
from support.patience import patience
from zones.names import ROOT
from zones.records import RRType

AGENT_SECONDS = 1.5  # the agent's own probes take 0.8 at most
DNS_SECONDS = 0.8
HTTP_SECONDS = 0.5  # of what is on this machine

RESOLVER_DNS = Endpoint("127.0.0.1", 53)  # where 'interlock resolver' listens by default, among other addresses


@dataclass(slots=True)
class Found:
    """What the sources have said; None where one has not, or was not asked."""

    facts: HostFacts | None = None
    """What the agent says."""
    agent: str = ""
    """Why there are no facts."""
    agent_refused: str = ""
    """Why the agent did not answer this question."""
    api: list[Mark] | None = None
    """What the admin API says."""
    api_problem: str = ""
    """Why it says nothing."""
    resolver: ResolverFacts | None = None
    """How the resolver of this machine has answered one query."""
    is_bound: bool = True
    """Whether queries of this machine itself are answered."""
    upstreams: list[UpstreamFacts] = field(default_factory=list)
    """How the resolver's upstreams have answered."""
    looked: list[str] = field(default_factory=list)
    """Where nothing was found, or asked for want of a token; a sentence each."""


def ask_agent(settings: Settings, subject: Subject, found: Found) -> None:
    """Asks the agent of this host for the facts about ``subject``."""
    assert settings.agent_dir
    service, instance = labels_of(subject.name, settings)
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


def ask_api(client: Client, settings: Settings, subject: Subject, found: Found) -> None:
    """Asks the admin API what it knows of ``subject``."""
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


def ask_machine(settings: Settings, subject: Subject, found: Found, is_host: bool) -> None:
    """Asks the resolver that serves on this machine, if one does, and its upstreams."""
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
    qname = settings.zone if subject.name is None else absolute(subject.name, settings)
    try:
        answer = ask_dns(server, qname, RRType.AAAA, timeout=DNS_SECONDS * patience())
    except AskError as error:
        found.resolver = ResolverFacts(str(server), None, str(error), is_assumed, is_up)
    else:
        found.resolver = ResolverFacts(str(server), answer.rcode)
        found.is_bound = answer.rcode != "REFUSED"
    _ask_upstreams(read_upstreams(metrics), found)


def _ask_upstreams(upstreams: list[str], found: Found) -> None:
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


def find_api(settings: Settings, found: Found) -> Client | None:
    """The client of the admin API; None where there is no token for it."""
    try:
        return Client.of(settings)
    except BadSetting as error:
        found.looked.append(str(error))
        return None


def is_host_of_mesh(settings: Settings) -> bool:
    """Whether this machine is a host of the mesh, also while its agent is dead."""
    if settings.agent_dir is None:
        return False
    has_device = Path("/sys/class/net", settings.device).exists()
    return not settings.is_default("agent_dir") or (settings.agent_dir / CONTROL_SOCKET).exists() or has_device


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


def _named(target: str | None) -> str | None:
    return target if target and not is_address(target) else None


def _mark(shown: dict[str, Any]) -> Mark:
    check = shown["check"] if shown["check"] in ORDER else "control plane"  # of a later release
    return Mark(check, Standing(shown["standing"]), shown["detail"], shown.get("fix", ""))


_opener = build_opener(ProxyHandler({}))  # no proxy: it is all on this machine
