"""How long commits take to reach hosts: from when this control plane hears of one until hosts have acknowledged it.

A host acknowledges a revision when its mesh is programmed for it and its resolvers answer from it. Each control plane
measures the hosts that have their session with it, so the histograms of several add up.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from support.histogram import Histogram

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
LONGEST = 60.0  # seconds after which a commit is not waited for any more: a host has gone in between
MOST_PENDING = 10_000  # environments with commits that are waited for
MOST_OF_ONE = 20  # commits of one environment that are waited for
MOST_RECENT = 100  # commits that are kept of one environment
MOST_ENVIRONMENTS = 1_000  # of which commits are kept


@dataclass(slots=True)
class _Pending:
    """A commit that hosts have not acknowledged yet."""

    revision: int
    began: float
    hosts: set[str]


@dataclass(slots=True)
class Propagation:
    """The times of all commits since the start."""

    each: Histogram = field(default_factory=lambda: Histogram(BOUNDS))
    """Seconds until one host has acknowledged, for each host."""
    all: Histogram = field(default_factory=lambda: Histogram(BOUNDS))
    """Seconds until the last host has."""
    overdue: int = 0
    """Commits that some host has not acknowledged for so long that they are not waited for any more."""
    _pending: OrderedDict[str, list[_Pending]] = field(default_factory=OrderedDict)  # by environment
    _recent: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)  # seconds, by environment

    def published(self, environment: str, revision: int, hosts: Collection[str], now: float) -> None:
        """``revision`` of ``environment`` has become known at ``now``, in monotonic seconds; ``hosts`` are to have it.

        An earlier one that hosts have not acknowledged yet is done when they acknowledge this one.
        """
        if not hosts:
            return
        pending = self._pending.setdefault(environment, [])
        pending.append(_Pending(revision, now, set(hosts)))
        if len(pending) > MOST_OF_ONE:
            pending.pop(0)
            self.overdue += 1
        self._pending.move_to_end(environment)
        if len(self._pending) > MOST_PENDING:
            self.overdue += len(self._pending.popitem(last=False)[1])

    def acknowledged(self, host: str, revisions: Mapping[str, int], now: float) -> None:
        """``host`` has acknowledged ``revisions``, by environment."""
        for environment, revision in revisions.items():
            if environment in self._pending:
                self._note(environment, revision, host, now)

    def missing(self, environment: str, since: float) -> set[str]:
        """The hosts that have a commit of ``environment`` still to acknowledge which became known after ``since``."""
        pending = self._pending.get(environment, ())
        return set().union(*(one.hosts for one in pending if one.began >= since))

    def forget(self, environment: str) -> None:
        """``environment`` was deleted."""
        self._pending.pop(environment, None)
        self._recent.pop(environment, None)

    def recent(self, environment: str) -> Histogram:
        """The last commits of ``environment``, by the seconds until the last host had acknowledged each."""
        found = Histogram(BOUNDS)
        for seconds in self._recent.get(environment, ()):
            found.observe(seconds)
        return found

    def _note(self, environment: str, revision: int, host: str, now: float) -> None:
        rest = []
        for pending in self._pending[environment]:
            if pending.revision <= revision and host in pending.hosts:
                pending.hosts.discard(host)
                self.each.observe(now - pending.began)
                if not pending.hosts:
                    self.all.observe(now - pending.began)
                    self._keep(environment, now - pending.began)
                    continue
            if now - pending.began > LONGEST:
                self.overdue += 1
            else:
                rest.append(pending)
        if rest:
            self._pending[environment] = rest
        else:
            del self._pending[environment]

    def _keep(self, environment: str, seconds: float) -> None:
        self._recent.setdefault(environment, deque(maxlen=MOST_RECENT)).append(seconds)
        self._recent.move_to_end(environment)
        if len(self._recent) > MOST_ENVIRONMENTS:
            self._recent.popitem(last=False)
