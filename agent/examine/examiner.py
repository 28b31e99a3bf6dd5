"""Gathers the facts of this host within a second, each source beside the others.

A source that does not answer in time is a fact like any other: it is said, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from agent.attach.attacher import Attacher
from agent.attach.attachment import Attachment
from agent.attach.upkeep import Upkeep
from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import ControlPlaneError
from agent.errors import NotThere
from agent.examine.connections import ConnectionExaminer
from agent.examine.facts import HostFacts
from agent.examine.links import read_links
from agent.examine.peers import PeerExaminer
from agent.examine.question import Question
from agent.examine.workload import WorkloadExaminer
from agent.mesh.mesh import Mesh
from agent.registration import Registrar
from agent.system.namespaces import identify, opened
from support.patience import patience
from watcher.session.protocol import AskState, MeshState
from zones.document import encode
from zones.hosts import hosts_of
from zones.model import Environment
from zones.names import EnvironmentId

STATE_SECONDS = 0.8  # for what only the control plane knows; then the facts go without it
MOST_WORKLOADS = 100  # that are looked at unless one is asked about; each takes some milliseconds
DIFFERS = 2.0  # seconds for which a difference has been there; what is published lags behind what was committed


@dataclass(slots=True)
class Examiner:
    """Gathers the facts of one host. It changes nothing."""

    mesh: Mesh
    """The mesh on this host."""
    attacher: Attacher
    """Has the attachments."""
    registrar: Registrar
    """Knows whether this host is registered, and whether another claims to be it."""
    upkeep: Upkeep
    """Knows what is wrong with workloads and with other firewalls."""
    control_plane: ControlPlane
    """Knows the leases and acknowledgements of the other hosts."""
    quarantined: Callable[[], Mapping[EnvironmentId, str]]
    """Gives the environments whose newest document cannot be used, and why."""
    held: Callable[[], Iterable[str]]
    """Gives what has vanished and stays here, a sentence each."""

    async def examine(self, question: Question) -> HostFacts:
        """The facts that ``question`` is about. Raises `NotThere` where no workload is at the path that it names."""
        if question.attaches or question.links:
            return self._describe_briefly(question)
        chosen = await self._choose(question)
        attachments = self.attacher.attachments
        inside = WorkloadExaminer(self.mesh, self.attacher)
        connections = ConnectionExaminer(self.mesh, attachments)
        state, peers, workloads, connects = await asyncio.gather(
            self._ask_state(),
            PeerExaminer(self.mesh, attachments).examine(question),
            asyncio.gather(*(inside.examine(one) for one in chosen)),
            connections.examine(question),
        )
        facts = self._describe(state, question)
        problem = connections.source_problem(question)
        return replace(facts, peers=peers, workloads=tuple(workloads), connects=connects, source_problem=problem)

    def _describe_briefly(self, question: Question) -> HostFacts:
        """What is in memory: the last attaches, or the links."""
        mesh, identity, attaches, links = self.mesh, self.mesh.identity, None, None
        served: dict[str, int] = {}
        if question.attaches:
            attaches = self.attacher.history.newest(question.attaches, question.environment)
        if question.links:
            links = read_links(mesh)
            served = {str(id_): revision for id_, revision in mesh.notifier.answered.items()}
        return HostFacts(
            host=identity.id,
            endpoint=identity.host.endpoint,
            device=mesh.system.device_name,
            mtu=mesh.system.mtu,
            attaches=attaches,
            links=links,
            served=served,
        )

    def _describe(self, state: MeshState | str, question: Question) -> HostFacts:
        mesh, registrar = self.mesh, self.registrar
        published, identity, status = mesh.published, mesh.identity, mesh.status
        claims = registrar.claims
        others = [one for one in registrar.problems if one not in claims]
        reason = "; ".join(dict.fromkeys([*others, *([state] if isinstance(state, str) else [])]))
        is_connected = self.control_plane.connected
        is_wanted = question.environment is not None and not question.has_document
        document = published.environments.get(question.environment) if question.environment and is_wanted else None
        now = time.monotonic()
        settled = [str(one) for one, since in self.upkeep.comparison.since.items() if now - since >= DIFFERS]
        return HostFacts(
            host=identity.id,
            endpoint=identity.host.endpoint,
            device=mesh.system.device_name,
            mtu=mesh.system.mtu,
            claims=tuple(claims),
            control_plane="" if is_connected else reason,
            store=reason if is_connected else "",
            stale=None if published.stale_since is None else time.time() - published.stale_since,
            is_loaded=published.is_loaded,
            clock=self.control_plane.clock.warning,
            problem=status.problem,
            firewalls=tuple(self.upkeep.firewall_drops),
            unfiltered=mesh.system.filter_problem,
            has_resolver=mesh.has_resolver,
            draining=identity.host.draining,
            rejected=tuple(str(one) for one in status.rejected),
            quarantined={str(id_): reason for id_, reason in self.quarantined().items()},
            held=tuple(self.held()),
            differences=(*settled, *self.upkeep.unsettled),
            live=None if isinstance(state, str) else state.live,
            lagging={} if isinstance(state, str) else _lagging(published.environments, state),
            environments={id_: one.revision for id_, one in published.environments.items()},
            served={str(id_): revision for id_, revision in mesh.notifier.answered.items()},
            attached=len(self.attacher.attachments),
            document=encode(document).decode() if document else None,
        )

    async def _ask_state(self) -> MeshState | str:
        """What the control plane knows of the other hosts; why it does not say so, otherwise."""
        try:
            async with asyncio.timeout(STATE_SECONDS * patience()):
                return await self.control_plane.ask(AskState(0), MeshState)
        except (ControlPlaneError, TimeoutError) as error:
            return str(error) or self.control_plane.reason or f"it has not answered within {STATE_SECONDS:g} s"

    async def _choose(self, question: Question) -> list[Attachment]:
        known = list(self.attacher.attachments)
        if question.netns is not None:
            with opened(question.netns) as namespace:
                id_ = await identify(namespace)
            found = [one for one in known if id_ == one.namespace or one.netns == question.netns]
            if not found:
                raise NotThere(f"no workload is attached from the network namespace {question.netns}")
            return found
        if question.environment is not None and (question.service or question.instance):
            return [one for one in known if _is_asked(one, question, self.mesh.published.environments)]
        if question.environment is not None:
            known = [one for one in known if one.environment == question.environment]
        return known[:MOST_WORKLOADS]


def _is_asked(attachment: Attachment, question: Question, environments: Mapping[EnvironmentId, Environment]) -> bool:
    if attachment.environment != question.environment:
        return False
    if question.instance is not None and attachment.instance != question.instance:
        return False
    environment = environments.get(attachment.environment)
    service = environment.services.get(question.service or "") if environment else None
    at = service.instances.get(attachment.instance) if service else None
    # By its address: the service may have been renamed since the attach.
    return attachment.service == question.service or (at is not None and at.address == attachment.address)


def _lagging(environments: Mapping[EnvironmentId, Environment], state: MeshState) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for id_, environment in environments.items():
        revisions = state.acknowledged.get(id_, {})
        hosts = hosts_of(environment) & set(state.live)
        if late := sorted(host for host in hosts if revisions.get(host, 0) < environment.revision):
            found[id_] = tuple(late)
    return found
