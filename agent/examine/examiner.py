"""Gathers the facts of this host within a second, each source beside the others.

A source that does not answer in time is a fact like any other: it is said, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from agent.attach.attacher import Attacher
from agent.attach.attachment import Attachment, Phase
from agent.attach.upkeep import Upkeep
from agent.control_plane.connection import ControlPlane
from agent.control_plane.errors import ControlPlaneError
from agent.errors import AgentError, BadRequest, NotThere
from agent.examine.facts import Connect, Echo, HostFacts, PeerFacts
from agent.examine.probe import connect, echo, knock, ping
from agent.examine.workload import WorkloadExaminer
from agent.mesh.mesh import Mesh
from agent.registration import Registrar
from agent.system.namespaces import identify, opened
from support.endpoints import Endpoint
from watcher.session.protocol import AskState, MeshState
from zones.document import encode
from zones.hosts import Host, hosts_of
from zones.model import Environment, State
from zones.names import EnvironmentId

STATE_SECONDS = 0.8  # for what only the control plane knows; then the facts go without it
MOST_WORKLOADS = 100  # that are looked at unless one is asked about; each takes some milliseconds
MOST_ADDRESSES = 3  # of one host that are probed in one environment: one workload that has ended is no broken tunnel
MOST_CONNECTS = 32  # connections that are tried for one question
MOST_PEERS = 256  # hosts that are probed at once
DIFFERS = 2.0  # seconds for which a difference has been there; what is published lags behind what was committed


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks about; with nothing set, the whole host."""

    environment: EnvironmentId | None = None
    """The environment whose document is wanted."""
    service: str | None = None
    """The service whose instances are looked at."""
    instance: str | None = None
    """The one instance that is looked at."""
    netns: str | None = None
    """The path of the network namespace whose workload is looked at."""
    source: str | None = None
    """The workload of this host that connects: its address, ``INSTANCE.SERVICE``, or its service. None: any."""
    target: str | None = None
    """What it connects to, in the same way. None: the service that was asked about."""
    port: int | None = None
    """The port to connect to. None: those of the service."""


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
        chosen = await self._choose(question)
        inside = WorkloadExaminer(self.mesh, self.attacher)
        state, peers, workloads, connects = await asyncio.gather(
            self._ask_state(),
            self._probe(question),
            asyncio.gather(*(inside.examine(one) for one in chosen)),
            self._connect(question),
        )
        facts = self._describe(state, question)
        problem = self._source_problem(question)
        return replace(facts, peers=peers, workloads=tuple(workloads), connects=connects, source_problem=problem)

    def _describe(self, state: MeshState | str, question: Question) -> HostFacts:
        mesh, registrar = self.mesh, self.registrar
        published, identity, status = mesh.published, mesh.identity, mesh.status
        claims = registrar.claims
        others = [one for one in registrar.problems if one not in claims]
        reason = "; ".join(dict.fromkeys([*others, *([state] if isinstance(state, str) else [])]))
        is_connected = self.control_plane.connected
        document = published.environments.get(question.environment) if question.environment else None
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
            firewalls=tuple(self.upkeep.forward_drops),
            unfiltered=mesh.system.filter_problem,
            has_resolver=mesh.has_resolver,
            draining=identity.host.draining,
            rejected=tuple(str(one) for one in status.rejected),
            quarantined={str(id_): reason for id_, reason in self.quarantined().items()},
            held=tuple(self.held()),
            differences=(*settled, *self.upkeep.inspection.problems),
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
            async with asyncio.timeout(STATE_SECONDS):
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

    # Probes

    async def _probe(self, question: Question) -> tuple[PeerFacts, ...]:
        """The hosts that share an environment with this one, probed through the tunnel from a workload of this host."""
        mesh = self.mesh
        needed = set[str]().union(*(hosts_of(one) for one in mesh.published.environments.values()))
        hosts = [
            mesh.published.hosts.hosts[id_]
            for id_ in sorted(needed - {mesh.identity.id})
            if id_ in mesh.published.hosts.hosts
        ][:MOST_PEERS]
        before = await self._received()
        echoes, refused, pinged = await asyncio.gather(
            self._echo(hosts, question),
            asyncio.gather(*(_knock(host) for host in hosts)),
            asyncio.gather(*(_ping(host) for host in hosts)),
        )
        after = await self._received()
        now, peers = time.monotonic(), mesh.status.actual.tunnel.peers if mesh.status.actual else {}
        silent = mesh.status.health.silent(now)
        return tuple(
            PeerFacts(
                host=host.id,
                endpoint=host.endpoint,
                has_peer=host.public_key in after,
                handshake_age=_age(after.get(host.public_key, (0, 0.0))[1]),
                silent=silent.get(host.public_key) if host.public_key in peers else None,
                behind_nat=host.behind_nat,
                received=after.get(host.public_key, (0, 0.0))[0] > before.get(host.public_key, (0, 0.0))[0],
                refused=is_refused,
                pinged=is_pinged,
                echoes=tuple(echoes.get(host.id, ())),
            )
            for host, is_refused, is_pinged in zip(hosts, refused, pinged, strict=True)
        )

    async def _received(self) -> Mapping[str, tuple[int, float]]:
        """Octets received from each peer, and when the newest handshake was, by its public key."""
        try:
            tunnel = await self.mesh.system.device.read()
        except AgentError:
            return {}
        return {key: (peer.received, peer.handshake) for key, peer in tunnel.peers.items()} if tunnel else {}

    async def _echo(self, hosts: Collection[Host], question: Question) -> Mapping[str, list[Echo]]:
        """The echoes of each host, from one workload of this host in each environment that it shares with it."""
        wanted = {host.id for host in hosts}
        found: dict[str, list[Echo]] = {}

        async def one_environment(environment: Environment) -> None:
            targets = _targets(environment, wanted, question)
            source = next(
                (
                    one
                    for one in self.attacher.attachments
                    if one.environment == environment.id and one.phase is Phase.ATTACHED
                ),
                None,
            )
            if not targets or source is None:
                return
            try:
                with opened(source.netns) as namespace:
                    results = await echo(namespace, list(targets), self.mesh.system.mtu)
            except (NotThere, BadRequest, OSError):
                return
            for address, (host, instance) in targets.items():
                result = results[address]
                size = result.full_size if result.milliseconds is not None else None
                one = Echo(address, instance, environment.id, result.milliseconds, size)
                found.setdefault(host, []).append(one)

        environments = self.mesh.published.environments
        asked = [environments[question.environment]] if question.environment in environments else environments.values()
        await asyncio.gather(*(one_environment(one) for one in asked))
        return found

    async def _connect(self, question: Question) -> tuple[Connect, ...]:
        source, targets = self._source(question), self._connect_targets(question)
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
        attached = [one for one in self.attacher.attachments if one.phase is Phase.ATTACHED]
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

    def _source_problem(self, question: Question) -> str:
        if question.source is None or self._source(question):
            return ""
        return f"{question.source} is not attached to this host"

    def _connect_targets(self, question: Question) -> list[_Target]:
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


def _targets(environment: Environment, hosts: Collection[str], question: Question) -> dict[str, tuple[str, str]]:
    """The addresses to probe: of each host some instances that are answered; each with its host and its name."""
    found: dict[str, tuple[str, str]] = {}
    per_host: dict[str, int] = {}
    for name, service in environment.services.items():
        for id_, instance in service.instances.items():
            host = instance.host
            if host not in hosts or host is None or instance.state is State.STARTING:
                continue
            is_asked = name == question.service
            if not is_asked and per_host.get(host, 0) >= MOST_ADDRESSES:
                continue
            per_host[host] = per_host.get(host, 0) + 1
            found[str(instance.address)] = (host, f"{id_}.{name}")
    return found


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


async def _ping(host: Host) -> bool | None:
    if host.behind_nat:
        return None  # its endpoint is its router's, if anybody's
    try:
        return await ping(Endpoint.parse(host.endpoint).host)
    except (ValueError, OSError):
        return None


async def _knock(host: Host) -> bool:
    try:
        return await knock(Endpoint.parse(host.endpoint))
    except ValueError:
        return False


def _age(handshake: float) -> float | None:
    return round(max(0.0, time.time() - handshake), 1) if handshake else None
