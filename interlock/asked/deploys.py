"""The last attaches, as the agents of hosts keep them, and how long commits took to reach hosts.

Behind ``GET /v1/deploys``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from admin.hosts.propagation import Propagation
from agent.attach.ended import AttachFacts
from agent.examine.question import Question
from interlock.asked.hosts import HostsAsked
from support.histogram import Histogram
from zones.names import EnvironmentId

OLDER = "its agent is of an older release, and keeps none"


@dataclass(slots=True)
class DeployService:
    """Asks for the last attaches."""

    asked: HostsAsked | None
    """Asks the hosts; None where this process serves none."""

    async def show(self, environment: EnvironmentId | None, number: int) -> dict[str, Any]:
        """The last ``number`` attaches, of ``environment`` if one is given, and the propagation, fit for JSON."""
        if self.asked is None:
            return {"deploys": [], "unheard": [], "propagation": []}
        service = self.asked.service
        most = _most(service.live_hosts(environment))
        found, deploys, unheard = await self.asked.ask(Question(environment=environment, attaches=most)), [], []
        for host, facts in sorted(found.items()):
            if isinstance(facts, str) or facts.attaches is None:
                unheard.append({"host": host, "reason": facts if isinstance(facts, str) else OLDER})
            else:
                deploys += [(host, one) for one in facts.attaches if environment in (None, one.environment)]
        deploys.sort(key=lambda one: one[1].began, reverse=True)
        shown = [_describe(host, one) for host, one in deploys[:number]]
        propagation = self._propagation(service.state.propagation, environment)
        return {"deploys": shown, "unheard": unheard, "propagation": propagation}

    @staticmethod
    def _propagation(measured: Propagation, environment: EnvironmentId | None) -> list[dict[str, Any]]:
        if environment is not None:
            return [_distribution("all", measured.recent(environment))]
        return [_distribution("each", measured.each), _distribution("all", measured.all)]


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
