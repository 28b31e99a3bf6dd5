"""Metrics of a host's agent: what its mesh, its barrier and its attachments have counted, and each peer by its host.

No series is made for an external peer: users make those, and their number has no bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agent.announce.acknowledger import Acknowledger
from agent.control.operations import Operations
from agent.mesh import Mesh
from interlock.observe.metrics import MOST_ENVIRONMENTS, Source


def mesh_metrics(mesh: Mesh, operations: Operations, acknowledger: Acknowledger) -> Source:
    """The mesh, the waits for other hosts, the attached workloads and each peer host."""
    return lambda: _mesh(mesh, operations, acknowledger)


def _mesh(mesh: Mesh, operations: Operations, acknowledger: Acknowledger) -> Iterator[Metric]:
    attacher, barrier = operations.attacher, operations.attacher.barrier
    counts, feed = mesh.counts, mesh.notifier.feed
    yield GaugeMetricFamily(
        "interlock_mesh_ok", "Whether the last pass has made this host as it should be.", not mesh.problem
    )
    yield GaugeMetricFamily(
        "interlock_mesh_rejected", "What the store holds and is kept from the system.", len(mesh.rejected)
    )
    yield GaugeMetricFamily("interlock_mesh_resolvers", "Resolvers of this host that are told.", feed.resolvers)
    yield CounterMetricFamily("interlock_mesh_passes", "Times that the host was compared with its plan.", counts.passes)
    yield CounterMetricFamily("interlock_mesh_steps", "Changes made to the host.", counts.steps)
    yield CounterMetricFamily("interlock_mesh_repairs", "Times that somebody else's change was undone.", counts.repairs)
    yield CounterMetricFamily("interlock_mesh_failures", "Passes that failed.", counts.failures)
    yield CounterMetricFamily(
        "interlock_mesh_unconfirmed",
        "Times that a resolver did not confirm in time.",
        feed.counts.unconfirmed,
    )
    yield CounterMetricFamily("interlock_mesh_cut_off", "Resolvers that did not answer any more.", feed.counts.cut_off)
    yield CounterMetricFamily("interlock_barriers_passed", "Waits for all hosts that had their end.", barrier.passed)
    yield CounterMetricFamily("interlock_barriers_overdue", "Those that some host did not come to.", barrier.overdue)
    yield GaugeMetricFamily("interlock_attachments", "Workloads on this host.", len(mesh.attachments))
    yield CounterMetricFamily("interlock_attached", "Workloads that were attached.", attacher.counts.attached)
    yield CounterMetricFamily("interlock_detached", "Workloads that were detached.", attacher.counts.detached)
    yield CounterMetricFamily("interlock_attach_failures", "Workloads that could not be.", attacher.counts.failed)
    yield CounterMetricFamily("interlock_attach_seconds", "That all attachments took.", attacher.counts.seconds)
    yield _acknowledged(acknowledger)
    yield from _drops(mesh)
    yield from _peers(mesh)


def _acknowledged(acknowledger: Acknowledger) -> Metric:
    family = GaugeMetricFamily(
        "interlock_acknowledged_revision",
        f"What the store knows this host to have; left out where there are more than {MOST_ENVIRONMENTS} environments.",
        labels=["environment"],
    )
    if len(acknowledger.given) <= MOST_ENVIRONMENTS:
        for environment, revision in acknowledger.given.items():
            family.add_metric([environment], revision)
    return family


def _drops(mesh: Mesh) -> Iterator[Metric]:
    drops = CounterMetricFamily("interlock_mesh_dropped_packets", "Packets that may not pass.", labels=["chain"])
    for chain, count in (mesh.actual.firewall.drops if mesh.actual else {}).items():
        drops.add_metric([chain], count)
    yield drops


def _peers(mesh: Mesh) -> Iterator[Metric]:
    received = CounterMetricFamily("interlock_peer_received_bytes", "From a host.", labels=["host"])
    sent = CounterMetricFamily("interlock_peer_sent_bytes", "To a host.", labels=["host"])
    age = GaugeMetricFamily("interlock_peer_handshake_age_seconds", "Since the last handshake.", labels=["host"])
    silent = GaugeMetricFamily("interlock_peer_silent", "Whether a host does not answer what is sent.", labels=["host"])
    quiet = mesh.health.silent(time.monotonic())
    peers = mesh.actual.tunnel.peers if mesh.actual else {}
    for host in mesh.hosts.hosts.values():
        if peer := peers.get(host.public_key):
            received.add_metric([host.id], peer.received)
            sent.add_metric([host.id], peer.sent)
            silent.add_metric([host.id], host.public_key in quiet)
            if peer.handshake:
                age.add_metric([host.id], time.time() - peer.handshake)
    yield from (received, sent, age, silent)
