"""Metrics of a host's agent: its mesh and its peers, its feed, its waits for other hosts, and its workloads.

Apart from `metrics`, for only the agent's process loads the agent's packages. No series is made for a single external
peer: users make those, and there may be thousands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import Metric

from agent.announce.acknowledger import Acknowledger
from agent.control.operations import Operations
from agent.mesh.mesh import Mesh
from interlock.observe import catalogue
from interlock.observe.metrics import Source, by_environment

SESSION = 180.0  # seconds; after them WireGuard sends and takes no packet without another handshake (its paper, §6.1)


def mesh_metrics(mesh: Mesh, operations: Operations, acknowledger: Acknowledger) -> Source:
    """All metrics of an agent but those of its watcher."""

    def collect() -> Iterator[Metric]:
        yield from _mesh(mesh)
        yield by_environment(
            catalogue.ACKNOWLEDGED_REVISION, acknowledger.acknowledged.items(), len(acknowledger.acknowledged)
        )
        yield from _peers(mesh)
        yield from _external_peers(mesh)
        yield from _feed(mesh)
        yield from _attachments(mesh, operations)

    return collect


def _mesh(mesh: Mesh) -> Iterator[Metric]:
    counts, drops = mesh.status.counts, mesh.status.actual.firewall.drops if mesh.status.actual else {}
    yield catalogue.MESH_OK.one(not mesh.status.problem)
    yield catalogue.MESH_REJECTED.one(len(mesh.status.rejected))
    yield catalogue.MESH_PASSES.one(counts.passes)
    yield catalogue.MESH_STEPS.one(counts.steps)
    yield catalogue.MESH_READ_BACKS.one(counts.read_backs)
    yield catalogue.MESH_REPAIRS.one(counts.repairs)
    yield catalogue.MESH_FAILURES.one(counts.failures)
    yield catalogue.MESH_DROPPED_PACKETS.each(((chain,), count) for chain, count in drops.items())


def _peers(mesh: Mesh) -> Iterator[Metric]:
    peers = mesh.status.actual.tunnel.peers if mesh.status.actual else {}
    known = [(host, peers[host.public_key]) for host in mesh.published.hosts.hosts.values() if host.public_key in peers]
    silent = mesh.status.health.silent(time.monotonic())
    yield catalogue.PEER_SILENT.each(((host.id,), host.public_key in silent) for host, _ in known)
    yield catalogue.PEER_HANDSHAKE_AGE.each(
        ((host.id,), time.time() - peer.handshake) for host, peer in known if peer.handshake
    )
    yield catalogue.PEER_RECEIVED_BYTES.each(((host.id,), peer.received) for host, peer in known)
    yield catalogue.PEER_SENT_BYTES.each(((host.id,), peer.sent) for host, peer in known)


def _external_peers(mesh: Mesh) -> Iterator[Metric]:
    peers = mesh.status.actual.tunnel.peers if mesh.status.actual else {}
    now, environments = time.time(), mesh.published.environments
    members = {
        id_: [peer.public_key for peer in environment.peers.values() if peer.gateway == mesh.identity.id]
        for id_, environment in environments.items()
    }
    ages = {
        id_: [now - peers[key].handshake for key in keys if key in peers and peers[key].handshake]
        for id_, keys in members.items()
    }
    number = len(environments)
    yield by_environment(catalogue.EXTERNAL_PEERS, ((id_, len(keys)) for id_, keys in members.items()), number)
    yield by_environment(
        catalogue.EXTERNAL_PEERS_CONNECTED,
        ((id_, sum(age < SESSION for age in found)) for id_, found in ages.items()),
        number,
    )
    yield by_environment(
        catalogue.EXTERNAL_PEER_HANDSHAKE_AGE, ((id_, min(found)) for id_, found in ages.items() if found), number
    )


def _feed(mesh: Mesh) -> Iterator[Metric]:
    feed = mesh.notifier.feed
    yield catalogue.FEED_RESOLVERS.one(feed.resolvers)
    yield catalogue.FEED_UNCONFIRMED.one(feed.counts.unconfirmed)
    yield catalogue.FEED_DISCONNECTS.one(feed.counts.cut_off)


def _attachments(mesh: Mesh, operations: Operations) -> Iterator[Metric]:
    counts, barrier = operations.attacher.counts, operations.attacher.barrier
    yield catalogue.ATTACHMENTS.one(len(operations.attacher.attachments))
    yield catalogue.ATTACHED.one(counts.attached)
    yield catalogue.DETACHED.one(counts.detached)
    yield catalogue.ATTACH_FAILURES.one(counts.failed)
    yield catalogue.ATTACH_SECONDS.histograms([((), counts.seconds)])
    yield catalogue.BARRIERS_PASSED.one(barrier.passed)
    yield catalogue.BARRIER_SECONDS.histograms([((), barrier.seconds)])
    yield catalogue.BARRIERS_OVERDUE.one(barrier.overdue)
