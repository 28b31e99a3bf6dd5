"""Metrics for Prometheus: the packages count as they work, and here their counters become the families of `catalogue`.

The number of series is bounded, since no label holds a name that a client could choose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Protocol

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from admin.counts import ApiCounts
from admin.hosts.counts import HostCounts
from admin.hosts.service import HostsService
from admin.hosts.state import PlatformState
from admin.lookups.hub import LookupHub
from interlock.observe import catalogue
from interlock.observe.figures import Families
from interlock.process.supervise import Supervisor
from resolver.counts import QueryCounts
from resolver.forward.forwarder import Forwarder
from resolver.scope import EXTERNAL, INTERNAL
from resolver.server import Resolver
from support.clock import SharedClock
from support.endpoints import Endpoint
from watcher.feed.follower import Follower
from watcher.guard import Guard, Kind
from watcher.session.follower import SessionFollower
from watcher.watcher import Watcher
from zones.model import State
from zones.placement import Placement

Follows = Watcher | Follower | SessionFollower
"""What learns the environments of a process."""
Source = Callable[[], Iterator[Metric]]
"""Gives the metrics of one part of the process, as they are now."""


class AsksTheStore(Protocol):
    """Something that asks the store now and then whether it answers."""

    reason: str
    """Why it does not; empty while it does."""
    last_contact: float | None
    """When it answered last, in monotonic seconds; None if it never did."""
    disconnects: int
    """Times that it stopped answering."""


class Metrics:
    """Renders what ``sources`` have counted, beside the version and the metrics of the process itself."""

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
        return ()  # otherwise the registry would collect everything once only to learn the names

    def collect(self) -> Iterator[Metric]:
        yield catalogue.INFO.each([((version("interlock"),), 1)])
        for source in self._sources:
            yield from source()


def supervisor_metrics(supervisor: Supervisor) -> Source:
    """The parts of the process: which of them serve, and how often each has crashed."""
    return lambda: _supervisor(supervisor)


class AnswersTogether(Protocol):
    """Several processes that answer on the same addresses."""

    @property
    def addresses(self) -> Sequence[tuple[str, int]]: ...

    @property
    def pids(self) -> Sequence[int]: ...

    replaced: int

    def figures(self, own: Families) -> Families: ...


def resolver_metrics(resolver: Resolver, workers: AnswersTogether | None = None) -> Source:
    """Queries, and forwarding where ``resolver`` forwards; with what ``workers`` do beside it, where there are any."""

    def collect() -> Iterator[Metric]:
        addresses = workers.addresses if workers else resolver.addresses
        yield catalogue.LISTENING.each(((str(Endpoint(*address)),), 1) for address in addresses)
        figures = resolver_figures(resolver)
        yield from workers.figures(figures) if workers else figures
        if workers:
            yield catalogue.WORKERS.one(len(workers.pids))
            yield catalogue.WORKERS_REPLACED.one(workers.replaced)

    return collect


def resolver_figures(resolver: Resolver) -> Families:
    """What one process that answers has done, and nothing that is the same for several of them."""
    return [*_resolver(resolver.counts), *(_forwarder(resolver.forwarder) if resolver.forwarder else ())]


def watcher_metrics(watcher: Follows) -> Source:
    """The environments that are served, and the connection to the source that they are learned from."""
    contact = _contact(_SOURCES[type(watcher)], lambda: watcher.last_contact)

    def collect() -> Iterator[Metric]:
        yield contact()
        yield from _watcher(watcher)

    return collect


def probe_metrics(probe: AsksTheStore) -> Source:
    """The connection to the store of a process that has no watcher."""
    contact = _contact("store", lambda: probe.last_contact)

    def collect() -> Iterator[Metric]:
        yield contact()
        yield catalogue.STORE_CONNECTED.one(not probe.reason)
        yield catalogue.STORE_DISCONNECTS.one(probe.disconnects)

    return collect


def snapshot_metrics(watcher: Follows, stale_since: Callable[[], float | None]) -> Source:
    """The snapshot on disk, and whether it is what is served: then ``stale_since`` gives its Unix time."""

    def collect() -> Iterator[Metric]:
        if not (keeper := watcher.snapshots):
            return
        yield catalogue.SNAPSHOT_SERVED.one(stale_since() is not None)
        if keeper.confirmed is not None:
            yield catalogue.SNAPSHOT_AGE.one(max(0.0, time.time() - keeper.confirmed))
        yield catalogue.SNAPSHOT_BYTES.one(keeper.octets)
        yield catalogue.SNAPSHOT_FAILURES.one(keeper.failures)

    return collect


def clock_metrics(clock: SharedClock) -> Source:
    """How far this machine's clock is from the store's."""
    return lambda: _clock(clock)


def admin_metrics(counts: ApiCounts) -> Source:
    """Requests to the admin API, and commits."""
    return lambda: _admin(counts)


def hosts_metrics(service: HostsService) -> Source:
    """The sessions with the agents of hosts."""
    return lambda: _hosts(service.counts, service.state)


def lookups_metrics(hub: LookupHub) -> Source:
    """Who watches look-ups, and what they are given."""
    return lambda: _lookups(hub)


def by_environment(description: catalogue.Description, values: Iterable[tuple[str, float]], number: int) -> Metric:
    """The values of ``number`` environments, by environment; none of them where there are too many."""
    few = number <= catalogue.MOST_ENVIRONMENTS
    return description.each(((environment,), value) for environment, value in (values if few else ()))


_SOURCES: Mapping[type[Follows], str] = {Watcher: "store", Follower: "agent", SessionFollower: "control_plane"}


def _contact(source: str, last: Callable[[], float | None]) -> Callable[[], Metric]:
    """The seconds since ``source`` answered last; before it has, since now."""
    began = time.monotonic()

    def collect() -> Metric:
        contact = last()
        age = time.monotonic() - (began if contact is None else contact)
        return catalogue.CONTACT_AGE.each([((source,), max(0.0, age))])

    return collect


def _supervisor(supervisor: Supervisor) -> Iterator[Metric]:
    yield catalogue.PART_UP.each(((name,), name not in supervisor.down) for name in supervisor.restarts)
    yield catalogue.PART_RESTARTS.each(((name,), count) for name, count in supervisor.restarts.items())


def _resolver(counts: QueryCounts) -> Iterator[Metric]:
    yield catalogue.QUERIES.each(counts.snapshot().items())
    latencies = {INTERNAL: counts.latency, EXTERNAL: counts.forwarded_latency}
    yield catalogue.QUERY_SECONDS.histograms(((scope,), latency) for scope, latency in latencies.items())
    yield catalogue.QUERIES_DROPPED.each(((reason,), count) for reason, count in counts.dropped.items())
    yield catalogue.PACKET_CACHE_HITS.one(counts.packet_cache_hits)
    yield catalogue.PACKET_CACHE_MISSES.one(counts.packet_cache_misses)
    yield catalogue.QUERIES_HELD_LOADING.one(counts.held_loading)
    yield catalogue.QUERIES_HELD_PENDING.one(counts.held_pending)
    yield catalogue.QUERIES_PENDING_TIMEOUTS.one(counts.pending_timeouts)
    yield catalogue.QUERY_ERRORS.one(counts.errors)
    yield catalogue.REPLIES_UNSENT.one(counts.unsent)


def _forwarder(forwarder: Forwarder) -> Iterator[Metric]:
    counts, pool = forwarder.counts, forwarder.pool
    upstreams = [str(upstream) for upstream in pool.health]
    yield catalogue.UPSTREAM_QUERIES.each(((upstream,), pool.queries[upstream]) for upstream in upstreams)
    yield catalogue.UPSTREAM_FAILURES.each(((upstream,), pool.failures[upstream]) for upstream in upstreams)
    yield catalogue.UPSTREAM_SECONDS.histograms(((upstream,), pool.seconds[upstream]) for upstream in upstreams)
    yield catalogue.FORWARD_CACHE_HITS.one(counts.hits)
    yield catalogue.FORWARD_CACHE_MISSES.one(counts.misses)
    yield catalogue.FORWARD_JOINED.one(counts.joined)
    yield catalogue.FORWARD_PREFETCHED.one(counts.prefetched)
    yield catalogue.FORWARD_STALE.one(counts.stale)
    yield catalogue.FORWARD_LATE.one(counts.late)
    yield catalogue.FORWARD_REFUSED.one(counts.refused)
    yield catalogue.FORWARD_FORGED.one(pool.forged)
    yield catalogue.FORWARD_CACHE_ENTRIES.one(forwarder.cached)


def _watcher(watcher: Follows) -> Iterator[Metric]:
    counts, revisions = watcher.counts, watcher.revisions
    if (contact := watcher.last_contact) is not None:
        yield catalogue.ZONE_AGE.one(time.monotonic() - contact)
    yield catalogue.ENVIRONMENTS.one(len(revisions))
    yield by_environment(catalogue.ENVIRONMENT_REVISION, revisions.items(), len(revisions))
    yield catalogue.ENVIRONMENTS_QUARANTINED.one(len(watcher.quarantined))
    stuck = watcher.stuck_starting
    yield by_environment(catalogue.INSTANCES_STUCK, ((id_, stuck.get(id_, 0)) for id_ in revisions), len(revisions))
    instances = watcher.instances
    kinds = ((state.value, place.value) for state in State for place in Placement)
    yield catalogue.INSTANCES.each((kind, instances.get(kind, 0)) for kind in kinds)
    yield catalogue.CHANGES.one(counts.changes)
    yield catalogue.ZONES_PUBLISHED.one(counts.published)
    yield catalogue.ZONES_WITHDRAWN.one(counts.withdrawn)
    yield from _guard(watcher.guard)
    match watcher:
        case Watcher():
            yield from _store_connection(watcher)
        case Follower():
            yield from _agent_connection(watcher)
        case SessionFollower():
            yield from _control_plane_connection(watcher)


def _guard(guard: Guard) -> Iterator[Metric]:
    held = {one.kind: len(one.names) for one in guard.held}
    yield catalogue.GUARD_HELD.each(((kind.value,), held.get(kind, 0)) for kind in Kind)
    yield catalogue.GUARD_HOLDS.each(((kind.value,), guard.holds[kind]) for kind in Kind)


def _store_connection(watcher: Watcher) -> Iterator[Metric]:
    counts = watcher.counts
    yield catalogue.STORE_CONNECTED.one(watcher.connected)
    yield catalogue.STORE_DISCONNECTS.one(counts.lost_connections)
    yield catalogue.CHANGE_GAPS.one(counts.gaps)
    yield catalogue.INDEX_COMPARISONS.one(counts.compared)
    yield catalogue.INDEX_REPAIRS.one(counts.repaired)
    yield catalogue.STORE_ROLLBACKS.one(counts.rollbacks)
    yield catalogue.STORE_STALE_READS.one(counts.stale_reads)


def _clock(clock: SharedClock) -> Iterator[Metric]:
    if (skew := clock.skew) is not None:
        yield catalogue.CLOCK_SKEW.one(skew)


def _agent_connection(follower: Follower) -> Iterator[Metric]:
    yield catalogue.AGENT_CONNECTED.one(follower.connected)
    yield catalogue.AGENT_DISCONNECTS.one(follower.counts.lost_connections)


def _control_plane_connection(follower: SessionFollower) -> Iterator[Metric]:
    yield catalogue.CONTROL_PLANE_CONNECTED.one(follower.connected)
    yield catalogue.CONTROL_PLANE_DISCONNECTS.one(follower.counts.lost_connections)


def _admin(counts: ApiCounts) -> Iterator[Metric]:
    yield catalogue.API_REQUESTS.each(
        ((method, route, str(status)), count) for (method, route, status), count in counts.requests.items()
    )
    yield catalogue.API_SECONDS.histograms(((method,), seconds) for method, seconds in counts.seconds.items())
    yield catalogue.COMMITS.one(counts.commits)
    yield catalogue.COMMIT_CONFLICTS.one(counts.conflicts)
    yield catalogue.API_RATE_LIMITED.one(counts.rate_limited)
    yield catalogue.API_CLOSED.each(((reason,), count) for reason, count in counts.closed.items())


def _hosts(counts: HostCounts, state: PlatformState) -> Iterator[Metric]:
    hosts, propagation = state.hosts, state.propagation
    registered = hosts.hosts.keys() | hosts.unreadable.keys()
    down = len(registered & hosts.down)
    yield catalogue.HOSTS_REGISTERED.each([(("live",), len(registered) - down), (("down",), down)])
    yield catalogue.SESSIONS.one(counts.sessions)
    yield catalogue.SESSIONS_BEGAN.one(counts.began)
    yield catalogue.SESSIONS_ENDED.each(((reason,), count) for reason, count in counts.ended.items())
    yield catalogue.SESSIONS_REFUSED.each(((reason,), count) for reason, count in counts.refused.items())
    yield catalogue.HOSTS_ENROLLED.one(counts.enrolled)
    yield catalogue.SESSION_REQUESTS.each(counts.requests.items())
    yield catalogue.SESSION_UPDATES.one(counts.updates)
    yield catalogue.SESSION_UPDATE_BYTES.one(counts.update_octets)
    yield catalogue.SESSION_THROTTLED.one(counts.throttled)
    measured = {"each": propagation.each, "all": propagation.all}
    yield catalogue.PROPAGATION_SECONDS.histograms(((which,), seconds) for which, seconds in measured.items())
    yield catalogue.PROPAGATIONS_OVERDUE.one(propagation.overdue)


def _lookups(hub: LookupHub) -> Iterator[Metric]:
    yield catalogue.LOOKUP_VIEWERS.one(hub.viewers)
    yield catalogue.LOOKUPS_TAKEN.one(hub.counts.taken)
    yield catalogue.LOOKUPS_REFUSED.one(hub.counts.refused)
    yield catalogue.LOOKUPS_LEFT_OUT.one(hub.counts.left_out)
