"""The mesh as this host sees it: the state of each peer, and for each problem what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.attach.attachment import Attachment, Phase
from agent.attach.differences import Unrecorded
from agent.mesh.mesh import Mesh
from agent.plan.drops import MEANINGS
from agent.plan.peers import ActualPeer
from watcher.session.protocol import ALL_HOSTS
from zones.hosts import Host, hosts_of
from zones.keys import PublicKey
from zones.names import EnvironmentId

Acknowledged = Mapping[str, Mapping[str, int]]
"""The newest revision that each host has acknowledged, by environment (or `ALL_HOSTS`) and host."""


@dataclass(frozen=True, slots=True)
class AllHosts:
    """What the control plane says about the agents of the other hosts at one moment."""

    live: frozenset[str]
    """The hosts that live and are able."""
    acknowledged: Acknowledged
    """Which revisions they have programmed."""


def describe(
    mesh: Mesh,
    attachments: Iterable[Attachment],
    all_hosts: AllHosts | None,
    quarantined: Mapping[EnvironmentId, str],
    others: Iterable[str],
    clock: float,
    wall_clock: float,
) -> dict[str, Any]:
    """The report, ready for JSON.

    ``all_hosts`` is None while no control plane answers: then nothing is said of what only it knows, and one
    of ``others`` says why. ``quarantined`` says for each environment whose newest document cannot be used why.
    ``others`` are the problems that other parts of the agent have found. ``clock`` is the monotonic time,
    ``wall_clock`` Unix time, both in seconds.
    """
    silent = mesh.status.health.silent(clock)
    peers = mesh.status.actual.tunnel.peers if mesh.status.actual else {}
    by_key = {
        key: host
        for host in mesh.published.hosts.hosts.values()
        for key in (host.public_key, host.next_public_key)
        if key
    }
    return {
        "host": mesh.identity.id,
        "public_key": mesh.identity.key.public,
        "endpoint": mesh.identity.host.endpoint,
        "device": mesh.system.device_name,
        "mtu": mesh.system.mtu,
        "hosts_revision": mesh.published.hosts.revision,
        "environments": [
            {"id": id_, "revision": environment.revision, "lagging": _lagging(mesh, id_, all_hosts)}
            for id_, environment in sorted(mesh.published.environments.items())
        ],
        "peers": [
            _describe_peer(key, peer, by_key.get(key), key in silent, all_hosts, wall_clock)
            for key, peer in sorted(
                peers.items(), key=lambda one: (by_key[one[0]].id if one[0] in by_key else "~", one[0])
            )
        ],
        "attachments": [
            {"instance": str(one), "address": one.address, "link": one.link, "phase": one.phase.value}
            for one in attachments
        ],
        "drops": mesh.status.actual.firewall.drops if mesh.status.actual else {},
        "drop_meanings": MEANINGS,
        "problems": list(
            dict.fromkeys(
                (
                    *others,
                    *_problems(mesh, silent, by_key, all_hosts, quarantined),
                    *_unrecorded(mesh, attachments),
                    *_dropped(mesh),
                )
            )
        ),
    }


def _describe_peer(
    key: PublicKey,
    peer: ActualPeer,
    host: Host | None,
    is_silent: bool,
    all_hosts: AllHosts | None,
    wall_clock: float,
) -> dict[str, Any]:
    return {
        "host": host.id if host else None,
        "public_key": key,
        "endpoint": peer.endpoint,
        "addresses": len(peer.allowed_ips),
        "handshake_age": round(wall_clock - peer.handshake, 1) if peer.handshake else None,
        "received": peer.received,
        "sent": peer.sent,
        "live": host.id in all_hosts.live if host and all_hosts else None,
        "hosts_revision": all_hosts.acknowledged.get(ALL_HOSTS, {}).get(host.id) if host and all_hosts else None,
        "silent": is_silent,
    }


def _lagging(mesh: Mesh, id_: EnvironmentId, all_hosts: AllHosts | None) -> list[str] | None:
    if all_hosts is None:
        return None
    environment, revisions = mesh.published.environments[id_], all_hosts.acknowledged.get(id_, {})
    hosts = hosts_of(environment) & all_hosts.live
    return sorted(host for host in hosts if revisions.get(host, 0) < environment.revision)


def _problems(
    mesh: Mesh,
    silent: Mapping[PublicKey, float],
    by_key: Mapping[PublicKey, Host],
    all_hosts: AllHosts | None,
    quarantined: Mapping[EnvironmentId, str],
) -> Iterator[str]:
    if mesh.status.problem:
        yield f"the last changes could not be applied to this host: {mesh.status.problem}"
    for rejection in mesh.status.rejected:
        yield f"rejected: {rejection}"
    for environment, reason in quarantined.items():
        yield f"rejected: what the store holds of {environment}; the last good document stays in force: {reason}"
    for id_, reason in mesh.published.hosts.unreadable.items():
        yield f"host {id_}: its document cannot be read: {reason}"
    for key, seconds in silent.items():
        host = by_key.get(key)
        name = f"host {host.id} at {host.endpoint}" if host else f"external peer {key}"
        hint = _why_silent(mesh, host) if host else "is it switched on?"
        yield f"{name} has not answered for {seconds:.0f} s though this host sends to it: {hint}"
    yield from _absent(mesh, all_hosts)
    for id_ in sorted(mesh.published.environments):
        if lagging := _lagging(mesh, id_, all_hosts):
            yield f"{id_}: revision {mesh.published.environments[id_].revision} is not yet on {', '.join(lagging)}"


def _unrecorded(mesh: Mesh, attachments: Iterable[Attachment]) -> Iterator[str]:
    """The workloads that are attached though their instance, service or environment is gone."""
    recorded = {
        (environment.id, instance.address)
        for environment in mesh.published.environments.values()
        for service in environment.services.values()
        for instance in service.instances.values()
        if instance.host == mesh.identity.id
    }
    for one in attachments:
        if one.phase is Phase.ATTACHED and (one.environment, one.address) not in recorded:
            yield str(Unrecorded(one))


def _dropped(mesh: Mesh) -> Iterator[str]:
    for name, number, seconds in mesh.status.drops.many():
        yield f"{number} packets were dropped in the last {seconds:.0f} s ({name}): {MEANINGS.get(name, 'see the log')}"


def _why_silent(mesh: Mesh, host: Host) -> str:
    if host.behind_nat and mesh.identity.host.behind_nat:
        return "both hosts are behind NAT, so on different sites neither can begin: forward a UDP port to one of them"
    if host.behind_nat:
        return "it is behind NAT and has to begin: is its agent running, and does it reach the UDP port of this host?"
    return "are the UDP ports of both hosts open to each other, and is its agent running?"


def _absent(mesh: Mesh, all_hosts: AllHosts | None) -> Iterator[str]:
    needed = set().union(*(hosts_of(environment) for environment in mesh.published.environments.values()))
    for id_ in sorted(needed - {mesh.identity.id}):
        if id_ not in mesh.published.hosts.hosts:
            yield f"host {id_} has instances but is not registered: start its agent, or remove its instances"
        elif all_hosts and id_ not in all_hosts.live:
            yield f"host {id_} is not live: its agent does not run, cannot reach a control plane, or cannot do its work"
