"""The other hosts, probed through the tunnel from workloads of this one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from agent.attach.attachment import Phase
from agent.attach.attachments import Attachments
from agent.errors import AgentError, BadRequest, NotThere
from agent.examine.facts import Echo, PeerFacts
from agent.examine.probe import echo, knock, ping
from agent.examine.question import Question
from agent.mesh.mesh import Mesh
from agent.system.namespaces import opened
from support.endpoints import Endpoint
from zones.hosts import Host, hosts_of
from zones.model import Environment, State

MOST_ADDRESSES = 3  # of one host that are probed in one environment: one workload that has ended is no broken tunnel
MOST_PEERS = 256  # hosts that are probed at once


@dataclass(frozen=True, slots=True)
class PeerExaminer:
    """Probes the hosts that share an environment with this one. It changes nothing."""

    mesh: Mesh
    """The hosts and the tunnel."""
    attachments: Attachments
    """The workloads that can be probed from."""

    async def examine(self, question: Question) -> tuple[PeerFacts, ...]:
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
                (one for one in self.attachments if one.environment == environment.id and one.phase is Phase.ATTACHED),
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
