"""Metrics for Prometheus: the parts count as they work, and here their counters get names. The wall around its client,
with `meshmetrics`.

The number of series is bounded, whoever asks what: no label holds a name that a client could choose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from admin.counts import ApiCounts
from interlock.process.supervise import Supervisor
from resolver.counts import LATENCY_BUCKETS, QueryCounts
from resolver.forward.forwarder import Forwarder
from resolver.server import Resolver
from watcher.feed.follower import Follower
from watcher.watcher import Watcher

MOST_ENVIRONMENTS = 1000  # with a series of their own; more would make a scrape too large


Source = Callable[[], Iterator[Metric]]
"""Gives the metrics of one part of the process, as they are now."""


class Metrics:
    """Renders what ``sources`` have counted, beside the release and the metrics of the process itself."""

    def __init__(self, *sources: Source) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Sources(sources))
        ProcessCollector(registry=self._registry)

    def render(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format, and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _Sources(Collector):
    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is collected only to learn its name

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("interlock", "The release that runs.", {"version": version("interlock")})
        for source in self._sources:
            yield from source()


def supervisor_metrics(supervisor: Supervisor) -> Source:
    """The parts of the process: which of them serve, and how often each has crashed."""
    return lambda: _supervisor(supervisor)


def resolver_metrics(resolver: Resolver) -> Source:
    """Queries, and forwarding where ``resolver`` forwards."""

    def collect() -> Iterator[Metric]:
        yield from _resolver(resolver.counts)
        if resolver.forwarder:
            yield from _forwarder(resolver.forwarder)

    return collect


def watcher_metrics(watcher: Watcher | Follower) -> Source:
    """The environments that are served, and the connection to where they are learned."""
    return lambda: _watcher(watcher)


def admin_metrics(counts: ApiCounts) -> Source:
    """Requests to the admin API, and commits."""
    return lambda: _admin(counts)


def _supervisor(supervisor: Supervisor) -> Iterator[Metric]:
    restarts = CounterMetricFamily(
        "interlock_part_restarts", "Crashes of a part, each followed by a restart.", None, ["part"]
    )
    up = GaugeMetricFamily("interlock_part_up", "Whether a part is serving.", labels=["part"])
    for name, count in supervisor.restarts.items():
        restarts.add_metric([name], count)
        up.add_metric([name], name not in supervisor.down)
    yield from (restarts, up)


def _resolver(counts: QueryCounts) -> Iterator[Metric]:
    queries = CounterMetricFamily(
        "interlock_queries",
        "Replies, by what was asked and said; scope is environment, or outside for clients that are in none.",
        labels=["rcode", "type", "scope", "transport"],
    )
    for key, count in counts.snapshot().items():
        queries.add_metric(list(key), count)
    dropped = CounterMetricFamily("interlock_queries_dropped", "Packets that got no reply.", labels=["reason"])
    for reason, count in counts.dropped.items():
        dropped.add_metric([reason], count)
    yield from (queries, dropped, _latency(counts))
    yield CounterMetricFamily(
        "interlock_packet_cache_hits", "Queries answered by a reply that was packed before.", counts.packet_cache_hits
    )
    yield CounterMetricFamily(
        "interlock_packet_cache_misses", "Queries whose reply had to be made.", counts.packet_cache_misses
    )
    yield CounterMetricFamily(
        "interlock_queries_held", "Queries that waited for the environments to be loaded.", counts.held_loading
    )
    yield CounterMetricFamily(
        "interlock_queries_held_pending", "Queries that waited for a name that was on its way.", counts.held_pending
    )
    yield CounterMetricFamily(
        "interlock_queries_pending_timeouts", "Those that waited in vain (SERVFAIL).", counts.pending_timeouts
    )
    yield CounterMetricFamily(
        "interlock_query_errors", "Queries that failed by a fault of ours (SERVFAIL).", counts.errors
    )


def _latency(counts: QueryCounts) -> Metric:
    bounds = [*map(str, LATENCY_BUCKETS), "+Inf"]
    family = HistogramMetricFamily("interlock_query_seconds", "From taking a query in to handing its reply out.")
    family.add_metric([], list(zip(bounds, accumulate(counts.latency), strict=True)), counts.latency_sum)
    return family


def _watcher(watcher: Watcher | Follower) -> Iterator[Metric]:
    counts = watcher.counts
    if (contact := watcher.contact) is not None:
        text = "Since the store, or the agent of this host, last confirmed what is served."
        yield GaugeMetricFamily("interlock_zone_age_seconds", text, time.monotonic() - contact)
    yield GaugeMetricFamily("interlock_environments", "Environments that are served.", len(watcher.revisions))
    yield _revisions(watcher)
    yield GaugeMetricFamily(
        "interlock_quarantined", "Environments whose newest document is unreadable.", len(watcher.quarantined)
    )
    yield CounterMetricFamily("interlock_changes", "Commits that were heard of.", counts.changes)
    yield CounterMetricFamily("interlock_zones_published", "Zones that were put in service.", counts.published)
    yield CounterMetricFamily("interlock_zones_withdrawn", "Zones that were taken out of service.", counts.withdrawn)
    yield from _agent_contact(watcher) if isinstance(watcher, Follower) else _store_contact(watcher)


def _store_contact(watcher: Watcher) -> Iterator[Metric]:
    counts = watcher.counts
    yield GaugeMetricFamily("interlock_store_connected", "Whether the store answers.", watcher.connected)
    yield CounterMetricFamily(
        "interlock_gaps", "Times that changes may have been missed, and all was compared.", counts.gaps
    )
    yield CounterMetricFamily(
        "interlock_comparisons", "Comparisons of the store's index with what is served.", counts.compared
    )
    yield CounterMetricFamily(
        "interlock_repairs", "Differences that such a comparison found and mended.", counts.repaired
    )
    yield CounterMetricFamily(
        "interlock_store_lost", "Times that the connection to the store was lost.", counts.lost_connections
    )


def _agent_contact(follower: Follower) -> Iterator[Metric]:
    yield GaugeMetricFamily("interlock_agent_connected", "Whether the agent of this host is there.", follower.connected)
    yield CounterMetricFamily(
        "interlock_agent_lost", "Times that the connection to the agent was lost.", follower.counts.lost_connections
    )


def _revisions(watcher: Watcher | Follower) -> Metric:
    text = (
        f"The revision that is served; left out altogether where there are more than {MOST_ENVIRONMENTS} environments."
    )
    family = GaugeMetricFamily("interlock_environment_revision", text, labels=["environment"])
    revisions = watcher.revisions
    for environment, revision in revisions.items() if len(revisions) <= MOST_ENVIRONMENTS else ():
        family.add_metric([environment], revision)
    return family


def _forwarder(forwarder: Forwarder) -> Iterator[Metric]:
    counts = forwarder.counts
    asked = CounterMetricFamily("interlock_upstream_queries", "Questions put to an upstream.", labels=["upstream"])
    failed = CounterMetricFamily("interlock_upstream_failures", "Those without a useful answer.", labels=["upstream"])
    for upstream in map(str, forwarder.asker.health):
        asked.add_metric([upstream], forwarder.asker.asked[upstream])
        failed.add_metric([upstream], forwarder.asker.failed[upstream])
    yield from (asked, failed)
    yield CounterMetricFamily("interlock_forward_hits", "Forwarded names answered from the cache.", counts.hits)
    yield CounterMetricFamily("interlock_forward_misses", "Forwarded names that had to be asked.", counts.misses)
    yield CounterMetricFamily("interlock_forward_joined", "Those that were being asked already.", counts.joined)
    yield CounterMetricFamily("interlock_forward_prefetched", "Answers fetched before they end.", counts.prefetched)
    yield CounterMetricFamily("interlock_forward_stale", "Answers that had ended, for want of newer.", counts.stale)
    yield CounterMetricFamily("interlock_forward_refused", "Those that were too many at once.", counts.refused)
    yield CounterMetricFamily("interlock_forward_forged", "Packets in place of an answer.", forwarder.asker.forged)
    yield GaugeMetricFamily("interlock_forward_cached", "Answers that are kept.", forwarder.cached)


def _admin(counts: ApiCounts) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "interlock_api_requests", "Requests to the admin API.", labels=["method", "route", "status"]
    )
    for (method, route, status), count in counts.requests.items():
        requests.add_metric([method, route, str(status)], count)
    yield requests
    yield CounterMetricFamily("interlock_commits", "Commits that the admin API made.", counts.commits)
    yield CounterMetricFamily("interlock_commit_conflicts", "Times that another writer was first.", counts.conflicts)
    yield CounterMetricFamily("interlock_api_rate_limited", "Requests refused for their rate.", counts.rate_limited)
