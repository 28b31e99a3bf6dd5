"""Judges what an agent says of its own host."""

from __future__ import annotations

from collections.abc import Iterator

from agent.examine.facts import HostFacts
from interlock.doctor.marks import Mark, broken, ok, unknown, warning
from support.clock import in_words

RESTART_RESOLVER = "systemctl restart interlock-resolver"


def judge_host(facts: HostFacts) -> Iterator[Mark]:
    """The marks of the host itself, without its peers and its workloads."""
    yield ok("agent", f"the agent of host {facts.host} answers")
    yield from _judge_identity(facts)
    yield from _judge_control_plane(facts)
    yield _judge_clock(facts)
    yield from _judge_documents(facts)
    yield from _judge_applied(facts)
    yield from _judge_firewall(facts)
    yield from _judge_resolver(facts)
    yield from _judge_revision(facts)


def _judge_identity(facts: HostFacts) -> Iterator[Mark]:
    for claim in facts.claims:
        yield broken("identity", claim, _last_part(claim))
    doubled = [one for one in facts.rejected if "public key" in one or "address" in one]
    for one in doubled:
        yield broken(
            "identity",
            f"left out on this host: {one}",
            "give each host and each external peer a key of its own: 'interlock host rotate' on one of the two, or"
            " 'interlock peer put' with another key",
        )
    if not facts.claims and not doubled:
        yield ok("identity", f"no other host has the id, the key or the endpoint of {facts.host}")


def _judge_control_plane(facts: HostFacts) -> Iterator[Mark]:
    if facts.store:
        yield broken(
            "store",
            f"the control plane is connected, and does not do what needs its store: {facts.store}; names are answered"
            " as they were, and nothing new is attached",
            "run 'interlock doctor' on the control plane's machine: it says what is wrong with the store",
        )
    if facts.control_plane:
        yield broken(
            "control plane",
            f"{facts.control_plane}; names are answered as they were, and nothing new is attached",
            "start the control plane: systemctl start interlock-admin; or let this host reach it (--hosts-listen)",
        )
    elif not facts.store:
        yield ok("control plane", "the control plane answers, and the lease of this host is renewed")
    if facts.stale is not None:
        yield warning(
            "control plane",
            f"this host goes by a snapshot that is {in_words(facts.stale)} old",
            "bring the control plane back: systemctl start interlock-admin",
        )
    if facts.draining:
        yield warning(
            "host", f"host {facts.host} is being drained: it takes nothing new", f"interlock host undrain {facts.host}"
        )


def _judge_clock(facts: HostFacts) -> Mark:
    if facts.clock:
        return warning("clock", facts.clock, "timedatectl set-ntp true")
    return ok("clock", "this machine's clock agrees with the store's")


def _judge_documents(facts: HostFacts) -> Iterator[Mark]:
    for environment, reason in facts.quarantined.items():
        yield warning(
            "documents",
            f"{environment}: its newest document is not used, and the last good one stays: {reason}",
            "interlock store check",
        )
    for held in facts.held:
        yield warning("documents", held, "interlock guard show; then restore the data, or interlock guard confirm")


def _judge_applied(facts: HostFacts) -> Iterator[Mark]:
    if not facts.is_loaded:
        yield broken(
            "applied",
            "the environments are not known yet, since no control plane has named them since the agent started",
            "start the control plane: systemctl start interlock-admin",
        )
    elif facts.problem:
        yield broken(
            "applied",
            f"the last changes could not be applied to this host: {facts.problem}",
            "journalctl -u interlock-agent -n 50",
        )
    else:
        yield ok("applied", "peers, addresses, routes and rules are as the control plane has them")


def _judge_firewall(facts: HostFacts) -> Iterator[Mark]:
    for text in facts.firewalls:
        yield broken("firewall", text, _last_part(text))
    if facts.unfiltered:
        yield warning("firewall", facts.unfiltered, "load a kernel with the options that are named")
    if not facts.firewalls:
        yield ok("firewall", "no other firewall of this host drops what workloads send or are sent")


def _judge_resolver(facts: HostFacts) -> Iterator[Mark]:
    if not facts.has_resolver:
        yield broken(
            "resolver", f"no resolver runs on host {facts.host}, so its workloads resolve no name", RESTART_RESOLVER
        )
        return
    late = [id_ for id_, revision in facts.environments.items() if facts.served.get(id_, 0) < revision]
    if late and not facts.problem:
        yield warning(
            "resolver",
            f"the resolver of this host does not answer the newest revision of {', '.join(sorted(late))} yet",
            f"if that stays: {RESTART_RESOLVER}",
        )
    else:
        yield ok("resolver", "the resolver is connected, and has all that this host has applied")


def _judge_revision(facts: HostFacts) -> Iterator[Mark]:
    if facts.live is None:
        yield unknown("host", "which other hosts live is not known, since the control plane does not say")
    for environment, hosts in facts.lagging.items():
        names = ", ".join(hosts)
        yield warning(
            "revision",
            f"{environment}: revision {facts.environments.get(environment)} is not yet on {names}",
            f"if that stays, run 'interlock doctor' on {names}",
        )


def _last_part(text: str) -> str:
    """What ``text`` says is to be done: our sentences end with it, after a colon."""
    return text.rpartition(": ")[2]
