"""Judges what the machine itself shows: the resolver's port, its upstreams, and whether anything of ours runs here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from interlock.doctor.host import RESTART_RESOLVER
from interlock.doctor.marks import Mark, broken, ok, unknown, warning
from resolver.forward.upstream import Upstream

_UPSTREAM = re.compile(r'^interlock_upstream_queries_total\{upstream="([^"]*)"\}', re.MULTILINE)
_LISTENING = re.compile(r'^interlock_dns_listening_info\{address="([^"]*)"\}', re.MULTILINE)
_LINE = re.compile(r"\[(?P<sign>[+-])\](?P<name>\S+) (?:ok(?:: )?)?(?P<text>.*)")


@dataclass(frozen=True, slots=True)
class ResolverFacts:
    """What came of one query to the resolver of this machine."""

    address: str
    """Where it was asked, as ADDRESS:PORT."""
    rcode: str | None
    """The rcode of its answer; None if there was none."""
    problem: str = ""
    """Why there was no answer; empty if there was one."""
    is_assumed: bool = False
    """Whether nobody has said that it listens there: it is where one does by default."""
    is_up: bool = False
    """Whether it is a part of `interlock up`, and no service of its own."""


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """What came of one query to an upstream."""

    upstream: str
    """The upstream, as it is configured."""
    problem: str = ""
    """Why it gave no answer; empty if it did."""


def judge_resolver(facts: ResolverFacts) -> Iterator[Mark]:
    """Whether the resolver of this machine answers at all; what it answers is judged with the client."""
    if facts.rcode is None and facts.is_assumed:
        yield unknown(
            "resolver",
            f"where the resolver of this machine listens is not known; at {facts.address}, where one does by default,"
            f" none answers: {facts.problem}",
            "name the address: --dns-listen ADDRESS:PORT",
        )
    elif facts.rcode is None:
        restart = "stop 'interlock up', and start it again; its log says what fails"
        yield broken(
            "resolver",
            f"the resolver of this machine does not answer at {facts.address}: {facts.problem}",
            restart if facts.is_up else f"{RESTART_RESOLVER}; journalctl -u interlock-resolver -n 50",
        )
    else:
        yield ok("resolver", f"the resolver answers at {facts.address}")


def judge_upstreams(facts: Sequence[UpstreamFacts]) -> Iterator[Mark]:
    """Whether the upstreams answer. Some dead ones are a warning, for the others are asked; all dead ones are none."""
    dead = [one for one in facts if one.problem]
    if not dead:
        if facts:
            yield ok("upstreams", f"{', '.join(one.upstream for one in facts)} answers")
        return
    reasons = "; ".join(f"{one.upstream}: {one.problem}" for one in dead)
    fix = (
        f"let this machine reach them (dig @{_host(dead[0].upstream)} . NS), or name others: --upstream ADDRESS, or"
        " /etc/resolv.conf"
    )
    if len(dead) == len(facts):
        yield broken(
            "upstreams",
            f"no upstream resolver answers, so that names of the rest of the world fail (SERVFAIL): {reasons}",
            fix,
        )
    else:
        yield warning("upstreams", f"{len(dead)} of {len(facts)} upstream resolvers do not answer: {reasons}", fix)


def read_upstreams(metrics: str) -> list[str]:
    """The upstreams that a resolver's ``metrics`` name."""
    return _UPSTREAM.findall(metrics)


def read_listening(metrics: str) -> list[str]:
    """Where a resolver listens, as its ``metrics`` say: each as ADDRESS:PORT."""
    return _LISTENING.findall(metrics)


def read_readiness(text: str) -> dict[str, tuple[bool, str]]:
    """Each part that ``/readyz?verbose`` lists, whether it is ready, and what is said of it."""
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return {one["name"]: (one["sign"] == "+", one["text"]) for one in found if one}


def nothing_here(looked: Sequence[str]) -> Mark:
    """The mark of a machine on which nothing of Interlock was found."""
    return broken(
        "agent",
        f"nothing of Interlock was found on this machine: {'; '.join(looked)}",
        "run it on a host of the mesh or where the control plane runs, or name one: --agent-dir DIRECTORY, --api URL"
        " --token TOKEN",
    )


def _host(upstream: str) -> str:
    return Upstream.parse(upstream).host
