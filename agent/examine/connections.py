"""Connections over TCP from a workload of this host, to a name or to one workload: what a client there would see."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from agent.attach.attachment import Attachment, Phase
from agent.attach.attachments import Attachments
from agent.errors import BadRequest, NotThere
from agent.examine.facts import Connect
from agent.examine.probe import connect
from agent.examine.question import Question
from agent.mesh.mesh import Mesh
from agent.system.namespaces import opened
from zones.model import State

MOST_CONNECTS = 32  # connections that are tried for one question


@dataclass(frozen=True, slots=True)
class ConnectionExaminer:
    """Tries the connections that a question is about; each is closed as soon as it is accepted."""

    mesh: Mesh
    """The addresses and ports of the environments."""
    attachments: Attachments
    """The workloads that can connect."""

    async def examine(self, question: Question) -> tuple[Connect, ...]:
        """What came of each connection; none where nobody asked for any, or no workload can try them."""
        source, targets = self._source(question), self._targets(question)
        if source is None or not targets:
            return ()
        try:
            with opened(source.netns) as namespace:
                outcomes = await asyncio.gather(
                    *(connect(namespace, target.address, target.port) for target in targets)
                )
        except (NotThere, BadRequest, OSError):
            return ()
        name = f"{source.instance}.{source.service}"
        return tuple(
            Connect(name, target.name, target.host, target.address, target.port, outcome)
            for target, outcome in zip(targets, outcomes, strict=True)
        )

    def _source(self, question: Question) -> Attachment | None:
        """The workload that connects; None where there is none, or nobody asked about a connection."""
        attached = [one for one in self.attachments if one.phase is Phase.ATTACHED]
        if question.source is not None:
            wanted = question.source
            named = [
                one for one in attached if wanted in (str(one.address), f"{one.instance}.{one.service}", one.service)
            ]
            return next((one for one in named if question.environment in (None, one.environment)), None)
        if question.service is None or question.environment is None:
            return None
        inside = [one for one in attached if one.environment == question.environment]
        # Another service's workload, if there is one: it is a client, as whoever asks has one.
        return min(inside, key=lambda one: one.service == question.service, default=None)

    def source_problem(self, question: Question) -> str:
        """Why no connection can be tried from the workload that was named; empty if it can, or none was."""
        if question.source is None or self._source(question):
            return ""
        return f"{question.source} is not attached to this host"

    def _targets(self, question: Question) -> list[_Target]:
        source = self._source(question)
        environment = self.mesh.published.environments.get(source.environment) if source else None
        wanted = question.target or _joined(question)
        if environment is None or wanted is None:
            return []
        found = []
        for name, service in environment.services.items():
            ports = [port.number for port in service.ports if port.protocol == "tcp"]
            for id_, instance in service.instances.items():
                if wanted not in (str(instance.address), f"{id_}.{name}", name) or instance.state is State.STARTING:
                    continue
                at = f"{id_}.{name}", instance.host, str(instance.address)
                found += [_Target(*at, port) for port in ([question.port] if question.port else ports)]
        if not found and question.port and question.target and ":" in question.target:
            found.append(_Target(question.target, None, question.target, question.port))
        return found[:MOST_CONNECTS]


@dataclass(frozen=True, slots=True)
class _Target:
    """Something to connect to."""

    name: str
    host: str | None
    address: str
    port: int


def _joined(question: Question) -> str | None:
    return f"{question.instance}.{question.service}" if question.instance else question.service
