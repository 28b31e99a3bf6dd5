"""A mark is what one check says; a report is all of them in the order of causes, and the one that is the cause.

Causes come before what follows from them. A dead agent makes a host look cut off, its names old and its workloads
lost: of all that is broken, the first in `ORDER` is what to mend first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

ORDER = (
    "agent",  # of this host: it runs, and answers
    "identity",  # no other agent or host has the id, the key or the endpoint
    "store",  # it answers the control plane, and takes writes
    "control plane",  # it can be reached, and does what it is asked
    "host",  # the hosts live: their agents renew their leases
    "clock",  # of this machine and of the store
    "documents",  # what the store holds can be used, and nothing of it has vanished
    "applied",  # this host has made what it was told: peers, routes, rules
    "firewall",  # no other firewall drops what the mesh forwards, and the links have their filters
    "resolver",  # it runs, it answers, and it has the newest revision
    "client",  # the client's address belongs to an environment
    "environment",  # it exists, and its private networking is on
    "name",  # it exists in that environment
    "instances",  # some of them are answered
    "revision",  # all hosts have the newest one
    "tunnel",  # each other host answers through the tunnel
    "mtu",  # large packets pass as well
    "attachment",  # the workload is attached, and its namespace is there
    "link",  # its link, address and routes are as they were made
    "lookup",  # its own name is answered from inside
    "sockets",  # a program accepts connections at the instance's address
    "connection",  # a connection from one workload to the other is accepted
    "resolv.conf",  # it names the host's resolver, and no other before it; sockets and connections need none
    "upstreams",  # names of the rest of the world are answered
)
"""The checks, each before those that fail because of it."""


class Standing(Enum):
    """What a check has found."""

    OK = "ok"
    """It is as it should be."""
    UNKNOWN = "unknown"
    """It cannot be known from here, and why."""
    WARNING = "warning"
    """Clients are served, and somebody should look at it."""
    BROKEN = "broken"
    """Something does not work."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What one check says."""

    check: str
    """Which check: one of `ORDER`."""
    standing: Standing
    """What it has found."""
    detail: str
    """That in a sentence that names what it is about."""
    fix: str = ""
    """What to do about it: a command where there is one. Empty where nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Report:
    """All marks of one look, and which of them is the cause."""

    standing: Standing
    """The worst that was found."""
    cause: Mark | None
    """What to mend first; None where all is well."""
    marks: tuple[Mark, ...]
    """All of them, in the order of causes."""

    @classmethod
    def of(cls, marks: Iterable[Mark]) -> Report:
        """The report of ``marks``; of two that are equal it has one."""
        ordered = sorted(dict.fromkeys(marks), key=lambda mark: ORDER.index(mark.check))
        worst = max((mark.standing for mark in ordered), key=_SEVERITIES.index, default=Standing.OK)
        cause = None if worst is Standing.OK else next(mark for mark in ordered if mark.standing is worst)
        return cls(worst, cause, tuple(ordered))

    @property
    def exit_status(self) -> int:
        """0: all is well; 1: clients are served, and something needs attention; 2: something does not work."""
        return {Standing.OK: 0, Standing.BROKEN: 2}.get(self.standing, 1)

    def as_json(self) -> dict[str, Any]:
        """The report, ready for JSON."""
        return {
            "standing": self.standing.value,
            "cause": show(self.cause) if self.cause else None,
            "marks": [show(mark) for mark in self.marks],
        }


def ok(check: str, detail: str) -> Mark:
    """``check`` has found that all is as it should be."""
    return Mark(check, Standing.OK, detail)


def unknown(check: str, detail: str, fix: str = "") -> Mark:
    """``check`` cannot be made from here."""
    return Mark(check, Standing.UNKNOWN, detail, fix)


def warning(check: str, detail: str, fix: str) -> Mark:
    """``check`` has found what somebody should look at."""
    return Mark(check, Standing.WARNING, detail, fix)


def broken(check: str, detail: str, fix: str) -> Mark:
    """``check`` has found what does not work."""
    return Mark(check, Standing.BROKEN, detail, fix)


def show(mark: Mark) -> dict[str, Any]:
    """``mark``, ready for JSON."""
    return {**asdict(mark), "standing": mark.standing.value}


def as_stage(mark: Mark) -> dict[str, Any]:
    """``mark`` as a stage of an explanation."""
    is_ok = mark.standing in (Standing.OK, Standing.UNKNOWN)
    return {"stage": mark.check, "ok": is_ok, "detail": mark.detail, "fix": mark.fix}


_SEVERITIES = (Standing.OK, Standing.UNKNOWN, Standing.WARNING, Standing.BROKEN)
