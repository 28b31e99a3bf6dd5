"""The last attaches, as the agents of hosts keep them, and how long commits took to reach hosts.

Behind ``GET /v1/deploys``. The agents are asked over their sessions, all at once, and their answers are good for a
second: however many people look at them, each agent is asked once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from admin.hosts.service import HostsService
from agent.attach.ended import AttachFacts
from agent.examine.facts import decode_facts
from agent.examine.question import Question, encode_question
from support.histogram import Histogram
from support.patience import patience
from zones.names import EnvironmentId

HOST_SECONDS = 1.0  # for a host's answer, which it has in memory
GOOD_FOR = 1.0  # seconds
AT_ONCE = 64  # hosts that are asked at once
MOST_CACHED = 1_000  # environments

HostAttaches = Mapping[str, tuple[AttachFacts, ...] | str]
"""The last attaches of each host that was asked, the newest first; for one that gave none, why."""


@dataclass(slots=True)
class DeployService:
    """Asks for the last attaches."""

    hosts: HostsService | None
    """The sessions with agents; None where this process serves none."""
    _asked: dict[EnvironmentId | None, tuple[float, asyncio.Future[HostAttaches]]] = field(default_factory=dict)

    async def show(self, environment: EnvironmentId | None, number: int) -> dict[str, Any]:
        """The last ``number`` attaches, of ``environment`` if one is given, and the propagation, fit for JSON."""
        if self.hosts is None:
            return {"deploys": [], "unheard": [], "propagation": []}
        found = await self._attaches(environment)
        attaches = [(host, one) for host, given in found.items() if not isinstance(given, str) for one in given]
        attaches.sort(key=lambda one: one[1].began, reverse=True)
        unheard = [{"host": host, "reason": given} for host, given in sorted(found.items()) if isinstance(given, str)]
        deploys = [_describe(host, one) for host, one in attaches[:number]]
        return {"deploys": deploys, "unheard": unheard, "propagation": self._propagation(environment)}

    def _propagation(self, environment: EnvironmentId | None) -> list[dict[str, Any]]:
        assert self.hosts
        measured = self.hosts.state.propagation
        if environment is not None:
            return [_distribution("all", measured.recent(environment))]
        return [_distribution("each", measured.each), _distribution("all", measured.all)]

    async def _attaches(self, environment: EnvironmentId | None) -> HostAttaches:
        """What the hosts say, from a second ago at most."""
        asked, now = self._asked.get(environment), time.monotonic()
        if asked is None or (now - asked[0] > GOOD_FOR and asked[1].done()):
            future = asyncio.ensure_future(self._ask(environment))
            asked = self._asked[environment] = (now, future)
            if len(self._asked) > MOST_CACHED:
                del self._asked[next(iter(self._asked))]
        return await asyncio.shield(asked[1])

    async def _ask(self, environment: EnvironmentId | None) -> HostAttaches:
        assert self.hosts
        asked = sorted(self.hosts.live_hosts(environment))
        turn = asyncio.Semaphore(AT_ONCE)
        question = encode_question(Question(environment=environment, attaches=_most(asked)))

        async def ask_one(host: str) -> tuple[AttachFacts, ...] | str:
            assert self.hosts
            async with turn:
                try:
                    async with asyncio.timeout(HOST_SECONDS * patience()):
                        answer = await self.hosts.sessions.examine(host, question)
                    attaches = decode_facts(answer.encode()).attaches if answer else None
                except TimeoutError:
                    return f"its agent has not answered within {HOST_SECONDS:g} s"
                except ValueError as error:
                    return f"its agent is of another release: {error}"
            if answer is None:
                return "its agent has no session with this control plane"
            if attaches is None:
                return "its agent is of an older release, and keeps none"
            return tuple(one for one in attaches if environment in (None, one.environment))

        return dict(zip(asked, await asyncio.gather(*map(ask_one, asked)), strict=True))


def _most(hosts: Collection[str]) -> int:
    """How many attaches one host is asked for: all together, a megabyte at most."""
    return max(5, min(100, 2_000 // max(1, len(hosts))))


def _describe(host: str, attach: AttachFacts) -> dict[str, Any]:
    return {
        "environment": attach.environment,
        "service": attach.service,
        "instance": attach.instance,
        "host": host,
        "address": attach.address,
        "began": attach.began,
        "milliseconds": attach.milliseconds,
        "problem": attach.problem,
        "failed": attach.failed,
        "steps": [
            {
                "step": one.step,
                "begins_ms": one.begins_ms,
                "milliseconds": one.milliseconds,
                "lagging": list(one.lagging),
            }
            for one in attach.steps
        ],
    }


def _distribution(hosts: str, histogram: Histogram) -> dict[str, Any]:
    counted, bars = 0, []
    for bound, until in histogram.buckets:
        bars.append({"seconds": None if bound == "+Inf" else float(bound), "commits": int(until) - counted})
        counted = int(until)
    return {"hosts": hosts, "commits": histogram.count, "seconds": round(histogram.total, 3), "bars": bars}
