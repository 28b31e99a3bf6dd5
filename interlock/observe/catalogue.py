"""The catalogue of metrics: for each its name, type, labels, meaning, and the alert that it serves.

The collectors in `metrics` and `mesh_metrics` take every family from here, and `describe` writes ``docs/metrics.md``
from it. Names and units follow Prometheus' conventions, which ``promtool check metrics`` checks: base units, counters
end in ``_total``, nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from support.histogram import Histogram

Type = Literal["counter", "gauge", "histogram"]
Severity = Literal["page", "ticket"]

MOST_ENVIRONMENTS = 1000  # environments with a series of their own; more would make a scrape too large


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that an operator should be alerted to."""

    name: str
    """What it is called, in Prometheus' way: ``StoreAway``."""
    severity: Severity
    """Whether somebody should be woken (``page``), or look at it in working hours (``ticket``)."""
    condition: str
    """When the alert is raised, in PromQL."""
    lasting: str
    """For how long the condition must hold first, as Prometheus writes durations: ``5m``."""
    remedy: str
    """What is wrong then, and what to do: a sentence without its final full stop."""


@dataclass(frozen=True, slots=True)
class Description:
    """One metric: what it is, and how its values become a family of samples."""

    name: str
    """The name of its samples; a histogram's end in ``_bucket``, ``_sum`` and ``_count`` besides."""
    type: Type
    """Its type, as Prometheus has it."""
    help: str
    """What it means: plain English that needs no other page."""
    labels: tuple[str, ...] = ()
    """The names of its labels, in order."""
    alert: Alert | None = None
    """The alert that it serves; None for a metric that explains another or is for graphs."""

    def one(self, value: float) -> Metric:
        """The family with one sample, which has no labels."""
        return self.each([((), value)])

    def each(self, samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
        """The family with a sample for each pair of label values and number."""
        kind = CounterMetricFamily if self.type == "counter" else GaugeMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for labels, value in samples:
            family.add_metric(labels, value)
        return family

    def histograms(self, samples: Iterable[tuple[Sequence[str], Histogram]]) -> Metric:
        """The family with a histogram for each pair of label values and what was observed."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, histogram in samples:
            family.add_metric(labels, histogram.buckets, histogram.total)
        return family


@dataclass(frozen=True, slots=True)
class Group:
    """The metrics of one part of the product."""

    title: str
    """What the group is about."""
    processes: str
    """Which processes have it."""
    metrics: list[Description] = field(default_factory=list)
    """Its metrics, in the order of the page."""

    def counter(self, name: str, text: str, *labels: str, alert: Alert | None = None) -> Description:
        """Adds a counter: a number that only grows while the process runs."""
        return self._add(Description(name, "counter", text, labels, alert))

    def gauge(self, name: str, text: str, *labels: str, alert: Alert | None = None) -> Description:
        """Adds a gauge: a number that goes up and down. One that answers yes or no is 1 or 0."""
        return self._add(Description(name, "gauge", text, labels, alert))

    def histogram(self, name: str, text: str, *labels: str, alert: Alert | None = None) -> Description:
        """Adds a histogram: how many observations were at most how large."""
        return self._add(Description(name, "histogram", text, labels, alert))

    def _add(self, description: Description) -> Description:
        self.metrics.append(description)
        return description


PROCESS = Group("The process", "all of them")

INFO = PROCESS.gauge("interlock_info", "The version of Interlock that runs, as a label. Always 1.", "version")
PART_UP = PROCESS.gauge(
    "interlock_part_up",
    "Whether a part of the process serves (1), or has crashed and waits for its restart (0).",
    "part",
    alert=Alert(
        "PartDown",
        "page",
        "interlock_part_up == 0",
        "1m",
        "A part does not come back; its `part_failed` log lines say why",
    ),
)
PART_RESTARTS = PROCESS.counter(
    "interlock_part_restarts_total",
    "Crashes of a part of the process, each followed by a restart of that part alone.",
    "part",
    alert=Alert(
        "PartCrashes",
        "ticket",
        "increase(interlock_part_restarts_total[15m]) > 3",
        "0m",
        "A part crashes again and again; its `part_failed` log lines say why",
    ),
)
PROCESS.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
PROCESS.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
PROCESS.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")
PROCESS.gauge("process_resident_memory_bytes", "Resident memory size in bytes.")
PROCESS.gauge("process_max_fds", "Maximum number of open file descriptors.")
PROCESS.gauge(
    "process_open_fds",
    "Number of open file descriptors.",
    alert=Alert(
        "FileDescriptorsLow",
        "ticket",
        "process_open_fds / process_max_fds > 0.8",
        "10m",
        "The process is about to run out of file descriptors; raise `LimitNOFILE`, or find out what keeps them open",
    ),
)

RESOLVER = Group("DNS queries", "`up`, `resolver`")

LISTENING = RESOLVER.gauge(
    "interlock_dns_listening_info",
    "An address on which the resolver serves DNS, with its port, as a label. Always 1.",
    "address",
)
WORKERS = RESOLVER.gauge(
    "interlock_dns_workers",
    "Processes that answer DNS now, where there are several (--workers). The other metrics are those of all together.",
)
WORKERS_REPLACED = RESOLVER.counter(
    "interlock_dns_workers_replaced_total",
    "Processes that answered DNS and ended by themselves; each was replaced by another on the same sockets.",
    alert=Alert(
        "WorkersEnd",
        "ticket",
        "increase(interlock_dns_workers_replaced_total[15m]) > 3",
        "0m",
        "Processes that answer DNS end again and again, and with each some queries are lost; the `worker_ended` log"
        " lines say by which signal: SIGKILL is the kernel's where memory is short",
    ),
)
QUERIES = RESOLVER.counter(
    "interlock_queries_total",
    "DNS replies sent, by response code, query type and transport. The scope is 'environment' for the platform's own "
    "names, 'external' for forwarded names, and 'outside' for clients that belong to no environment.",
    "rcode",
    "type",
    "scope",
    "transport",
    alert=Alert(
        "LookupsFail",
        "page",
        'sum by (instance, scope) (rate(interlock_queries_total{rcode="SERVFAIL"}[5m]))'
        " / sum by (instance, scope) (rate(interlock_queries_total[5m])) > 0.05",
        "5m",
        "Look-ups fail; `interlock tail --failed` shows which, `/readyz?verbose` whether the zones are loaded, and"
        " `interlock_upstream_failures_total` whether it is an upstream",
    ),
)
QUERY_SECONDS = RESOLVER.histogram(
    "interlock_query_seconds",
    "Seconds from receiving a DNS query to sending its reply. The scope is 'environment' for what this process answers "
    "itself, and 'external' for forwarded names, which take as long as the upstream resolvers do.",
    "scope",
    alert=Alert(
        "LookupsSlow",
        "page",
        "histogram_quantile(0.99, sum by (instance, le)"
        ' (rate(interlock_query_seconds_bucket{scope="environment"}[5m]))) > 0.1',
        "10m",
        "Clients wait for the platform's own names; compare with `interlock_queries_held_loading_total` and"
        " `interlock_queries_held_pending_total`, and look at the processor's load",
    ),
)
QUERIES_DROPPED = RESOLVER.counter(
    "interlock_queries_dropped_total",
    "Packets and connections of clients that got no reply, by the reason. 'source_rate': its address asked for more "
    "replies that must be made than --dns-source-rate. 'source_waiting': too many of its queries waited already. "
    "'socket': dropped by the kernel, for its address filled the socket's queue, or the queue was full. "
    "'tcp_too_many', 'tcp_too_large': its connections were too many, or held too much of messages that it did not "
    "complete. 'held_too_many': too many queries, or too many of its address, waited until environments or a pending "
    "zone were there. The others: not a query, or too short.",
    "reason",
    alert=Alert(
        "SourceFloodsResolver",
        "ticket",
        'rate(interlock_queries_dropped_total{reason=~"source_rate|socket"}[5m]) > 0',
        "5m",
        "A workload floods the resolver; the log's `source_limited` names its address, and others are answered",
    ),
)
PACKET_CACHE_HITS = RESOLVER.counter(
    "interlock_packet_cache_hits_total", "DNS queries whose reply was in the packet cache, ready to be sent."
)
PACKET_CACHE_MISSES = RESOLVER.counter(
    "interlock_packet_cache_misses_total", "DNS queries whose reply had to be made, because no packet cache had it."
)
QUERIES_HELD_LOADING = RESOLVER.counter(
    "interlock_queries_held_loading_total",
    "DNS queries that arrived before the environments were loaded, and so had to wait.",
)
QUERIES_HELD_PENDING = RESOLVER.counter(
    "interlock_queries_held_pending_total",
    "DNS queries for a name that is committed and that this host has no route to yet, and so had to wait.",
)
QUERIES_PENDING_TIMEOUTS = RESOLVER.counter(
    "interlock_queries_pending_timeouts_total",
    "DNS queries that waited for the route to a committed name in vain, and were answered with SERVFAIL.",
    alert=Alert(
        "NamesWaitForRoutes",
        "page",
        "increase(interlock_queries_pending_timeouts_total[10m]) > 0",
        "0m",
        "The agent of this host does not program what is committed; `interlock mesh` there says what is wrong",
    ),
)
QUERY_ERRORS = RESOLVER.counter(
    "interlock_query_errors_total",
    "DNS queries answered with SERVFAIL because of a fault in Interlock itself.",
    alert=Alert(
        "ResolverFault",
        "page",
        "increase(interlock_query_errors_total[15m]) > 0",
        "0m",
        "A fault in Interlock; the log has its traceback: please report it",
    ),
)
REPLIES_UNSENT = RESOLVER.counter(
    "interlock_replies_unsent_total",
    "UDP replies that the kernel did not take, because a buffer was full or there was no route; clients ask again.",
)

FORWARDER = Group("Forwarding", "`up`, `resolver`, where there is an upstream")

UPSTREAM_QUERIES = FORWARDER.counter(
    "interlock_upstream_queries_total", "DNS queries sent to an upstream resolver.", "upstream"
)
UPSTREAM_FAILURES = FORWARDER.counter(
    "interlock_upstream_failures_total",
    "DNS queries that an upstream resolver gave no usable answer to.",
    "upstream",
    alert=Alert(
        "UpstreamDown",
        "ticket",
        "rate(interlock_upstream_failures_total[5m]) / rate(interlock_upstream_queries_total[5m]) > 0.5",
        "5m",
        "An upstream resolver is down or cannot be reached; the others are used meanwhile",
    ),
)
UPSTREAM_SECONDS = FORWARDER.histogram(
    "interlock_upstream_seconds",
    "Seconds from sending a DNS query to an upstream resolver to its answer, where it gave a usable one.",
    "upstream",
    alert=Alert(
        "UpstreamSlow",
        "ticket",
        "histogram_quantile(0.95, sum by (instance, upstream, le) (rate(interlock_upstream_seconds_bucket[5m]))) > 0.5",
        "10m",
        "An upstream resolver is slow; clients of names outside the platform wait for it where no other one is faster",
    ),
)
FORWARD_CACHE_HITS = FORWARDER.counter(
    "interlock_forward_cache_hits_total", "DNS queries for forwarded names that were answered from the cache."
)
FORWARD_CACHE_MISSES = FORWARDER.counter(
    "interlock_forward_cache_misses_total",
    "DNS queries for forwarded names that were not in the cache, so that an upstream resolver was asked.",
)
FORWARD_JOINED = FORWARDER.counter(
    "interlock_forward_joined_total",
    "DNS queries for forwarded names that an upstream resolver was already being asked for, so they share its answer.",
)
FORWARD_PREFETCHED = FORWARDER.counter(
    "interlock_forward_prefetched_total", "Cached answers that were fetched anew shortly before their TTL ended."
)
FORWARD_STALE = FORWARDER.counter(
    "interlock_forward_stale_total",
    "DNS queries answered with a cached answer past its TTL, because no upstream resolver answered (RFC 8767).",
    alert=Alert(
        "UpstreamsAllDown",
        "page",
        "rate(interlock_forward_stale_total[5m]) > 0",
        "10m",
        "No upstream resolver answers; names outside the platform resolve only while the cache has them",
    ),
)
FORWARD_LATE = FORWARDER.counter(
    "interlock_forward_late_total",
    "Answers of upstream resolvers that came after their clients had been answered SERVFAIL; they are cached.",
)
FORWARD_REFUSED = FORWARDER.counter(
    "interlock_forward_refused_total",
    "DNS queries for forwarded names that were turned away, because too many were waiting for an upstream resolver.",
    alert=Alert(
        "ForwardingOverloaded",
        "ticket",
        "rate(interlock_forward_refused_total[5m]) > 0",
        "5m",
        "A client asks for more names than the upstream resolvers answer, or they are slow; `interlock tail` shows who",
    ),
)
FORWARD_FORGED = FORWARDER.counter(
    "interlock_forward_forged_total",
    "UDP packets that came in place of an upstream resolver's answer: the id, the question or the sender differs.",
    alert=Alert(
        "AnswersForged",
        "ticket",
        "rate(interlock_forward_forged_total[5m]) > 10",
        "5m",
        "Somebody may be trying to forge answers (RFC 5452); use an upstream resolver over TLS: `tls://ADDRESS#NAME`",
    ),
)
FORWARD_CACHE_ENTRIES = FORWARDER.gauge(
    "interlock_forward_cache_entries", "Answers from upstream resolvers that are in the cache."
)

CONTACT = Group("The source of what a process knows", "all of them")

CONTACT_AGE = CONTACT.gauge(
    "interlock_store_contact_age_seconds",
    "Seconds since the source of what this process knows last answered; before it ever did, since the process started. "
    "The source is 'store' for control planes and for resolvers that read it, 'control_plane' for agents, and 'agent' "
    "for the resolvers of their hosts.",
    "source",
    alert=Alert(
        "SourceSilent",
        "page",
        "interlock_store_contact_age_seconds > 60",
        "0m",
        "This process goes on with what it knows, and hears of no change. Look at the process that it learns from, and"
        " at the network between",
    ),
)

WATCHER = Group("Environments", "`up`, `resolver`, `agent`, `admin` with `--hosts-listen`")

ZONE_AGE = WATCHER.gauge(
    "interlock_zone_age_seconds",
    "Seconds since the source of the zones, which is the store or the agent of this host, last confirmed that they are "
    "current. Left out before it has done so for the first time.",
    alert=Alert(
        "ZonesOld",
        "page",
        "interlock_zone_age_seconds > 120",
        "0m",
        "The zones may be out of date; answers go on. See `interlock_store_connected` and `interlock_agent_connected`",
    ),
)
ENVIRONMENTS = WATCHER.gauge(
    "interlock_environments",
    "Environments that this process knows the zone of.",
    alert=Alert(
        "EnvironmentsGone",
        "page",
        "interlock_environments < 0.7 * interlock_environments offset 10m",
        "0m",
        "Many environments are gone at once; if nobody deleted them, restore the store from its backup",
    ),
)
ENVIRONMENT_REVISION = WATCHER.gauge(
    "interlock_environment_revision",
    "The revision of an environment that this process has published. Left out altogether where there are more than "
    f"{MOST_ENVIRONMENTS} environments.",
    "environment",
)
ENVIRONMENTS_QUARANTINED = WATCHER.gauge(
    "interlock_environments_quarantined",
    "Environments whose newest document cannot be read, so that their last good one stays in use.",
    alert=Alert(
        "DocumentBroken",
        "page",
        "interlock_environments_quarantined > 0",
        "0m",
        "A document in the store is broken; the log names the environment. Write it anew by the admin API",
    ),
)
INSTANCES_STUCK = WATCHER.gauge(
    "interlock_instances_stuck_starting",
    "Instances of an environment that have been in state 'starting' for more than a minute, so that their service's "
    f"name is answered without them. Left out altogether where there are more than {MOST_ENVIRONMENTS} environments.",
    "environment",
    alert=Alert(
        "InstancesStuckStarting",
        "ticket",
        "max by (environment) (interlock_instances_stuck_starting) > 0",
        "2m",
        "A deploy does not finish; `interlock instance list -e ENVIRONMENT` shows which instances, and `interlock mesh`"
        " on their hosts what they wait for. What never became ready can be deleted",
    ),
)
INSTANCES = WATCHER.gauge(
    "interlock_instances",
    "Instances in the environments that this process serves, by their state and by their placement: 'attached' on "
    "their host, 'unmanaged' without one, 'not attached' on the host that they name, 'host down', or on a host that is "
    "'unreachable' from this one. Only the first two are answered.",
    "state",
    "placement",
    alert=Alert(
        "InstancesNotAttached",
        "ticket",
        'max(interlock_instances{state="ready",placement="not attached"}) > 0',
        "10m",
        "Instances were put with a host, and nothing is attached there, so they are not answered; `interlock instance"
        " list --all` shows which. Attach them on their host, or delete them",
    ),
)
CHANGES = WATCHER.counter(
    "interlock_changes_total", "Commits that this process has learned of, from the store or from the agent of its host."
)
ZONES_PUBLISHED = WATCHER.counter(
    "interlock_zones_published_total", "Zones that were published, each replacing an older one."
)
ZONES_WITHDRAWN = WATCHER.counter(
    "interlock_zones_withdrawn_total", "Zones that were withdrawn, because their environment was deleted or moved away."
)

GUARD_HELD = WATCHER.gauge(
    "interlock_guard_held",
    "Environments or hosts that have vanished from the store and that this process serves on, by the kind: 'data_set' "
    "for all of them because the store holds other or older data, 'environments' that are gone, 'names' for "
    "environments that lack most of their names, 'hosts' that are gone.",
    "kind",
    alert=Alert(
        "WithdrawalHeld",
        "page",
        "interlock_guard_held > 0",
        "0m",
        "Data has vanished from the store, or a mass deletion waits for its confirmation; answers go on. Bring the data"
        " back, or run `interlock guard confirm`; `/readyz?verbose` and `interlock guard show` say what is held",
    ),
)
GUARD_HOLDS = WATCHER.counter(
    "interlock_guard_holds_total", "Times that this process began to hold on to what has vanished, by the kind.", "kind"
)

SNAPSHOT = Group("The snapshot on disk", "`up`, `resolver`, `agent`, unless `--snapshot-limit` is 0")

SNAPSHOT_SERVED = SNAPSHOT.gauge(
    "interlock_snapshot_served",
    "Whether what is served is from the snapshot (1), because the store, or the agent of this host, has not answered "
    "since the start, or has lost data; or from the source itself (0).",
    alert=Alert(
        "SnapshotServed",
        "page",
        "interlock_snapshot_served == 1",
        "5m",
        "The process was started in an outage; answers are as old as `interlock_snapshot_age_seconds`. Bring the store,"
        " or the agent of the host, back",
    ),
)
SNAPSHOT_AGE = SNAPSHOT.gauge(
    "interlock_snapshot_age_seconds",
    "Seconds since the contents of the snapshot on disk were last known to be current. Left out before the first one.",
    alert=Alert(
        "SnapshotOld",
        "ticket",
        "interlock_snapshot_age_seconds > 600",
        "10m",
        "If the process is started anew now, and the store does not answer, names are as old as this; the log says why"
        " no snapshot is written (`snapshot_not_written`), or the store is away",
    ),
)
SNAPSHOT_BYTES = SNAPSHOT.gauge("interlock_snapshot_bytes", "Size of the snapshot on disk; 0 while there is none.")
SNAPSHOT_FAILURES = SNAPSHOT.counter(
    "interlock_snapshot_failures_total",
    "Attempts to write or to read the snapshot that have failed.",
    alert=Alert(
        "SnapshotFails",
        "ticket",
        "increase(interlock_snapshot_failures_total[15m]) > 0",
        "0m",
        "The state directory cannot be written, is full, or the snapshot is too large (`--snapshot-limit`) or was"
        " damaged; the log says which (`snapshot_not_written`, `snapshot_unusable`)",
    ),
)

STORE = Group("The connection to the store", "`up`, `admin`, and `resolver` without an agent")

STORE_CONNECTED = STORE.gauge(
    "interlock_store_connected",
    "Whether the store answers this process (1) or not (0).",
    alert=Alert(
        "StoreAway",
        "page",
        "interlock_store_connected == 0",
        "1m",
        "The store is down or cannot be reached; answers go on unchanged, but no change arrives. Bring it back",
    ),
)
STORE_DISCONNECTS = STORE.counter(
    "interlock_store_disconnects_total",
    "Times that the store stopped answering this process.",
    alert=Alert(
        "StoreFlaps",
        "ticket",
        "increase(interlock_store_disconnects_total[1h]) > 5",
        "0m",
        "The connection to the store breaks again and again; look at the network between, and at the store's log",
    ),
)
CHANGE_GAPS = STORE.counter(
    "interlock_change_gaps_total",
    "Gaps in the store's stream of changes, after each of which this process compared everything with the store.",
    alert=Alert(
        "ChangesMissed",
        "ticket",
        "increase(interlock_change_gaps_total[1h]) > 5",
        "0m",
        "Changes arrive faster than they are read, or another program trims the stream",
    ),
)
INDEX_COMPARISONS = STORE.counter(
    "interlock_index_comparisons_total",
    "Comparisons of the environments in the store's index with those that this process has published.",
    alert=Alert(
        "NotCompared",
        "ticket",
        "increase(interlock_index_comparisons_total[10m]) == 0",
        "0m",
        "The regular comparison does not run, so a lost change would go unnoticed; see `interlock_store_connected`",
    ),
)
INDEX_REPAIRS = STORE.counter(
    "interlock_index_repairs_total",
    "Environments that a regular comparison with the store's index found to differ, and that were loaded anew.",
    alert=Alert(
        "ChangesLost",
        "ticket",
        "increase(interlock_index_repairs_total[1h]) > 0",
        "0m",
        "A change was lost, or somebody wrote to the store without the admin API; the difference is repaired already",
    ),
)
STORE_ROLLBACKS = STORE.counter(
    "interlock_store_rollbacks_total",
    "Times that the store was found to have gone back behind changes that were served here: commits were lost.",
    alert=Alert(
        "CommitsLost",
        "page",
        "increase(interlock_store_rollbacks_total[1h]) > 0",
        "0m",
        "A failover or a restore lost commits that were acknowledged: `/readyz?verbose` and the log event"
        " `store_rolled_back` name them; make them again, and see `--redis-wait`",
    ),
)
STORE_STALE_READS = STORE.counter(
    "interlock_store_stale_reads_total",
    "Documents that the store gave in an older state than it had announced: replicas that lag behind one address.",
)

CLOCK = Group("The clock", "`up`, `admin`, `agent`, and `resolver` without an agent")

CLOCK_SKEW = CLOCK.gauge(
    "interlock_clock_skew_seconds",
    "By how many seconds the clock of this machine is ahead of the store's; negative where it is behind. Left out "
    "before the store has told its time.",
    alert=Alert(
        "ClockWrong",
        "ticket",
        "abs(interlock_clock_skew_seconds) > 5",
        "1m",
        "One of the two clocks is wrong; names go by the store's until it is set. Keep both machines by NTP",
    ),
)

FOLLOWER = Group("The connection to the agent", "`resolver` with an agent")

AGENT_CONNECTED = FOLLOWER.gauge(
    "interlock_agent_connected",
    "Whether the agent of this host answers this resolver (1) or not (0).",
    alert=Alert(
        "AgentAway",
        "page",
        "interlock_agent_connected == 0",
        "1m",
        "The agent of this host is down; answers go on unchanged, but no change arrives. Start `interlock agent`",
    ),
)
AGENT_DISCONNECTS = FOLLOWER.counter(
    "interlock_agent_disconnects_total", "Times that the agent of this host stopped answering this resolver."
)

SESSION = Group("The control plane, as an agent follows it", "`agent`")

CONTROL_PLANE_CONNECTED = SESSION.gauge(
    "interlock_control_plane_connected",
    "Whether a control plane confirms that what this agent has is current (1) or not (0).",
    alert=Alert(
        "ControlPlaneAway",
        "page",
        "interlock_control_plane_connected == 0",
        "1m",
        "This host goes on as it is, but no change arrives and nothing can be attached. `interlock mesh` on the host"
        " says why",
    ),
)
CONTROL_PLANE_DISCONNECTS = SESSION.counter(
    "interlock_control_plane_disconnects_total", "Times that this agent's session with a control plane has ended."
)

ADMIN = Group("The admin API", "`up`, `admin`")

API_REQUESTS = ADMIN.counter(
    "interlock_api_requests_total",
    "HTTP requests to the admin API, by method, route and response status.",
    "method",
    "route",
    "status",
    alert=Alert(
        "ApiFails",
        "page",
        'sum(rate(interlock_api_requests_total{status=~"5.."}[5m]))'
        " / sum(rate(interlock_api_requests_total[5m])) > 0.05",
        "5m",
        "The admin API fails; 503 means that the store does not answer, 500 a fault whose traceback is in the log",
    ),
)
API_SECONDS = ADMIN.histogram(
    "interlock_api_request_seconds",
    "Seconds from an HTTP request to the admin API to its response, by method.",
    "method",
    alert=Alert(
        "ApiSlow",
        "ticket",
        "histogram_quantile(0.99, sum by (instance, method, le) (rate(interlock_api_request_seconds_bucket[5m]))) > 2",
        "10m",
        "The store is slow or far away, or a client sends very large requests; the log's `write` lines have each time",
    ),
)
COMMITS = ADMIN.counter(
    "interlock_commits_total", "Commits that the admin API has made: writes that changed an environment."
)
COMMIT_CONFLICTS = ADMIN.counter(
    "interlock_commit_conflicts_total",
    "Commits that failed because another writer had changed the environment first.",
)
API_RATE_LIMITED = ADMIN.counter(
    "interlock_api_rate_limited_total",
    "HTTP requests that the admin API refused because its client sent too many of them.",
    alert=Alert(
        "ApiClientsLimited",
        "ticket",
        "rate(interlock_api_rate_limited_total[5m]) > 1",
        "5m",
        "A client of the API asks in a loop and gets 429; the API's log names it. Have it use batches",
    ),
)

API_CLOSED = ADMIN.counter(
    "interlock_api_connections_closed_total",
    "Connections that the admin API has ended, by the reason: 'client' for one address had too many, 'most' for there "
    "were too many in all, 'slow' for a header that did not end in time.",
    "reason",
    alert=Alert(
        "ApiConnectionsFull",
        "ticket",
        'rate(interlock_api_connections_closed_total{reason="most"}[5m]) > 0',
        "5m",
        "More clients are connected than the API serves; if they are strangers, keep them out by a firewall",
    ),
)

HOSTS = Group("The agents of hosts", "`up`, `admin`, where `--hosts-listen` is given")

SESSIONS = HOSTS.gauge(
    "interlock_sessions",
    "Agents of hosts that have a session with this control plane.",
    alert=Alert(
        "AgentsGone",
        "page",
        "interlock_sessions < 0.5 * interlock_sessions offset 10m and interlock_sessions offset 10m > 2",
        "5m",
        "Agents have gone and not come back here; if no other control plane has them, look at the network between, and"
        " at `interlock_sessions_refused_total`",
    ),
)
SESSIONS_BEGAN = HOSTS.counter("interlock_sessions_began_total", "Sessions that agents of hosts have begun.")
SESSIONS_ENDED = HOSTS.counter(
    "interlock_sessions_ended_total",
    "Sessions that this control plane has ended, by the reason: 'credential' that is not good any more, 'replaced' by "
    "a later one, 'crowded' for too many of one host, 'broken' messages, 'idle', 'slow' readers, 'going' at its end.",
    "reason",
    alert=Alert(
        "AgentsMisbehave",
        "ticket",
        'increase(interlock_sessions_ended_total{reason=~"crowded|broken|slow"}[15m]) > 5',
        "0m",
        "An agent does not behave as one; the log event `session_ended` names its host",
    ),
)
SESSIONS_REFUSED = HOSTS.counter(
    "interlock_sessions_refused_total",
    "Connections and requests of agents that were turned away, by the reason: no 'certificate', a 'credential' that is "
    "not good, 'malformed', the 'store' does not answer, or too many 'connections', 'strangers' without a session, "
    "'strangers_of_one' network, or too high a 'rate'.",
    "reason",
    alert=Alert(
        "StrangersAtHosts",
        "ticket",
        "rate(interlock_sessions_refused_total[5m]) > 10",
        "5m",
        "Somebody without a credential keeps coming, or a host was forgotten whose agent still runs; the log names it",
    ),
)
HOSTS_REGISTERED = HOSTS.gauge(
    "interlock_hosts",
    "Hosts that are registered, by whether they are 'live', or 'down': nothing was heard of their agents for longer "
    "than the lease and `--host-grace`, so that no instance on them is answered.",
    "state",
    alert=Alert(
        "HostDown",
        "page",
        'max(interlock_hosts{state="down"}) > 0',
        "0m",
        "A host is down, and its instances are not answered; `interlock host list` shows which is not live. Start its"
        " agent; if the host is gone for good, `interlock instance delete --host HOST --all` and `interlock host"
        " forget`",
    ),
)
HOSTS_ENROLLED = HOSTS.counter("interlock_hosts_enrolled_total", "Hosts that have enrolled at this control plane.")
SESSION_REQUESTS = HOSTS.counter(
    "interlock_session_requests_total",
    "Requests of agents in their sessions, by what was asked and its outcome: 'done', or why it was not done.",
    "request",
    "outcome",
    alert=Alert(
        "HostRefused",
        "ticket",
        'increase(interlock_session_requests_total{outcome="refused"}[15m]) > 5',
        "0m",
        "A host asks for what it may not do: its agent is not in order, or the host was taken over; the log names it",
    ),
)
SESSION_UPDATES = HOSTS.counter("interlock_session_updates_total", "Updates that were sent to agents.")
SESSION_UPDATE_BYTES = HOSTS.counter("interlock_session_update_bytes_total", "Bytes of updates sent to agents.")
SESSION_THROTTLED = HOSTS.counter(
    "interlock_session_throttled_total",
    "Times that an agent was listened to more slowly, because it asks too much.",
    alert=Alert(
        "AgentLimited",
        "ticket",
        "rate(interlock_session_throttled_total[5m]) > 1",
        "10m",
        "An agent asks more than its share, so its deploys are slow; others are served. Is something attached and"
        " detached in a loop on its host?",
    ),
)
PROPAGATION_SECONDS = HOSTS.histogram(
    "interlock_propagation_seconds",
    "Seconds from when this control plane heard of a commit until hosts had acknowledged it, which they do when their "
    "mesh and their resolvers have it. By `hosts`: 'each' of those that have their session here, or 'all' of them.",
    "hosts",
)
PROPAGATIONS_OVERDUE = HOSTS.counter(
    "interlock_propagations_overdue_total",
    "Commits that a host of this control plane has not acknowledged within a minute, because it went away or lags.",
)

LOOKUPS = Group("Look-ups, for those who watch", "`up` and `admin`")

LOOKUP_VIEWERS = LOOKUPS.gauge("interlock_lookup_viewers", "People and programs that watch look-ups here at present.")
LOOKUPS_TAKEN = LOOKUPS.counter(
    "interlock_lookups_taken_total", "Look-ups that resolvers have given to this control plane, while somebody watched."
)
LOOKUPS_REFUSED = LOOKUPS.counter(
    "interlock_lookups_refused_total",
    "Look-ups that were not believed: their host has no member of the environment, or sent more than it was asked for.",
    alert=Alert(
        "LookupsNotBelieved",
        "ticket",
        "rate(interlock_lookups_refused_total[5m]) > 1",
        "10m",
        "A host sends look-ups of environments that are none of its business, or too many: is the machine in other"
        " hands? The control plane's log names its sessions",
    ),
)
LOOKUPS_LEFT_OUT = LOOKUPS.counter(
    "interlock_lookups_left_out_total",
    "Look-ups that were not shown, because there were more than a viewer is given in a second.",
)

MESH = Group("The mesh of a host", "`agent`")

MESH_OK = MESH.gauge(
    "interlock_mesh_ok",
    "Whether the last pass of the agent brought this host's WireGuard device, routes and firewall to their planned "
    "state (1) or failed (0).",
    alert=Alert(
        "HostNotProgrammed",
        "page",
        "interlock_mesh_ok == 0",
        "1m",
        "The agent cannot program this host, so names wait for their routes; `interlock mesh` says why",
    ),
)
MESH_REJECTED = MESH.gauge(
    "interlock_mesh_rejected",
    "Entries in the store, such as an address outside its environment or a key that two hosts have, that the agent "
    "refuses to program.",
    alert=Alert(
        "EntriesRejected",
        "ticket",
        "interlock_mesh_rejected > 0",
        "0m",
        "The store holds something that cannot be right; `interlock mesh` lists it. Correct it by the admin API",
    ),
)
MESH_PASSES = MESH.counter(
    "interlock_mesh_passes_total", "Passes of the agent, each of which compares this host with its planned state."
)
MESH_STEPS = MESH.counter(
    "interlock_mesh_steps_total", "Single changes that the agent has made to WireGuard peers, routes and firewall sets."
)
MESH_READ_BACKS = MESH.counter(
    "interlock_mesh_read_backs_total",
    "Times that the agent read the whole state of this host, to compare it with what it has planned.",
)
MESH_REPAIRS = MESH.counter(
    "interlock_mesh_repairs_total",
    "Times that the agent found this host changed by somebody else, and restored its planned state.",
    alert=Alert(
        "HostChangedByOthers",
        "ticket",
        "increase(interlock_mesh_repairs_total[1h]) > 3",
        "0m",
        "Another program on this host changes its routes, nftables rules or WireGuard device; the log shows when",
    ),
)
MESH_FAILURES = MESH.counter(
    "interlock_mesh_failures_total", "Passes of the agent that failed, each of which is tried again."
)
MESH_DROPPED_PACKETS = MESH.counter(
    "interlock_mesh_dropped_packets_total",
    "Packets that this host dropped, by what did: 'link' for the filters of its links, which look first and drop "
    "forged source addresses, other environments and the host itself; else a chain of nftables: 'arriving', "
    "'from_workload' and 'from_tunnel' for source addresses that do not belong there, 'fragment' for fragments, "
    "'asking' for more than 20,000 DNS queries a second of one member, "
    "'between' for another environment, 'to_host' and 'from_host' for traffic with the host itself.",
    "chain",
    alert=Alert(
        "PacketsDropped",
        "ticket",
        "rate(interlock_mesh_dropped_packets_total[5m]) > 1",
        "5m",
        "Somebody sends what may not pass; `interlock mesh` on the host says for each label `chain` who that is",
    ),
)
ACKNOWLEDGED_REVISION = MESH.gauge(
    "interlock_acknowledged_revision",
    "The revision of an environment that this host has acknowledged to the store as programmed. Left out altogether "
    f"where there are more than {MOST_ENVIRONMENTS} environments.",
    "environment",
    alert=Alert(
        "HostLags",
        "page",
        "interlock_environment_revision > interlock_acknowledged_revision",
        "1m",
        "This host lags behind, so deploys wait for it; `interlock mesh` says why",
    ),
)

PEERS = Group(
    "The peers of a host",
    "`agent`; single external peers have no series, since users make them and there may be thousands",
)

PEER_SILENT = PEERS.gauge(
    "interlock_peer_silent",
    "Whether another host has stopped answering what this host sends to it by WireGuard (1) or not (0).",
    "host",
    alert=Alert(
        "HostsCannotTalk",
        "page",
        "interlock_peer_silent == 1",
        "2m",
        "The two hosts cannot reach each other; check the other host, and that UDP gets through to its endpoint",
    ),
)
PEER_HANDSHAKE_AGE = PEERS.gauge(
    "interlock_peer_handshake_age_seconds",
    "Seconds since the last WireGuard handshake with another host. An idle peer may be old: see interlock_peer_silent.",
    "host",
)
PEER_RECEIVED_BYTES = PEERS.counter(
    "interlock_peer_received_bytes_total", "Bytes received from another host by WireGuard.", "host"
)
PEER_SENT_BYTES = PEERS.counter("interlock_peer_sent_bytes_total", "Bytes sent to another host by WireGuard.", "host")
EXTERNAL_PEERS = PEERS.gauge(
    "interlock_external_peers",
    "External peers of an environment, such as laptops, whose gateway this host is.",
    "environment",
)
EXTERNAL_PEERS_CONNECTED = PEERS.gauge(
    "interlock_external_peers_connected",
    "External peers of an environment whose gateway this host is, and whose last WireGuard handshake with it was in "
    "the last three minutes. One that has nothing to send may not count.",
    "environment",
    alert=Alert(
        "ExternalPeersGone",
        "ticket",
        "interlock_external_peers_connected == 0 and max_over_time(interlock_external_peers_connected[30m]) > 2",
        "10m",
        "All external peers of an environment have gone at once; does UDP still get through to this host's endpoint?",
    ),
)
EXTERNAL_PEER_HANDSHAKE_AGE = PEERS.gauge(
    "interlock_external_peer_handshake_age_seconds",
    "Seconds since the newest WireGuard handshake of an external peer of an environment with this host. Left out where "
    "there was none.",
    "environment",
)

FEED = Group("The feed to the resolvers of a host", "`agent`")

FEED_RESOLVERS = FEED.gauge(
    "interlock_feed_resolvers",
    "Resolvers of this host that are connected to its agent.",
    alert=Alert(
        "HostWithoutResolver",
        "page",
        "interlock_feed_resolvers == 0",
        "1m",
        "No resolver serves this host, so no workload can be attached; start `interlock resolver --agent-dir …`",
    ),
)
FEED_UNCONFIRMED = FEED.counter(
    "interlock_feed_unconfirmed_total",
    "Zones that a resolver of this host refused, or did not confirm in time.",
    alert=Alert(
        "ResolverHangs",
        "ticket",
        "increase(interlock_feed_unconfirmed_total[15m]) > 0",
        "0m",
        "A resolver of this host hangs or cannot read a zone; its log says why",
    ),
)
FEED_DISCONNECTS = FEED.counter(
    "interlock_feed_disconnects_total",
    "Resolvers of this host that the agent disconnected, because they did not answer or broke the protocol.",
)

ATTACHMENTS_GROUP = Group("The workloads of a host", "`agent`")

ATTACHMENTS = ATTACHMENTS_GROUP.gauge("interlock_attachments", "Workloads that are attached to this host.")
ATTACHED = ATTACHMENTS_GROUP.counter("interlock_attached_total", "Workloads that were attached to this host.")
DETACHED = ATTACHMENTS_GROUP.counter("interlock_detached_total", "Workloads that were detached from this host.")
ATTACH_FAILURES = ATTACHMENTS_GROUP.counter(
    "interlock_attach_failures_total",
    "Workloads that could not be attached to this host.",
    alert=Alert(
        "AttachFails",
        "page",
        "increase(interlock_attach_failures_total[10m]) > 0",
        "0m",
        "Workloads start without their network; the runtime that attached them, and `interlock mesh`, say why",
    ),
)
ATTACH_SECONDS = ATTACHMENTS_GROUP.histogram(
    "interlock_attach_seconds",
    "Seconds that an attachment of a workload to this host took, from the request until all hosts answered its name.",
    alert=Alert(
        "AttachSlow",
        "ticket",
        "histogram_quantile(0.9, sum by (instance, le) (rate(interlock_attach_seconds_bucket[15m]))) > 5",
        "5m",
        "Deploys take long; compare with `interlock_barrier_seconds`, and the log's `attached` lines have each step",
    ),
)
BARRIERS_PASSED = ATTACHMENTS_GROUP.counter(
    "interlock_barriers_passed_total",
    "Waits for all live hosts to acknowledge a revision that ended because all of them had done so.",
)
BARRIER_SECONDS = ATTACHMENTS_GROUP.histogram(
    "interlock_barrier_seconds",
    "Seconds that this host waited for all live hosts to acknowledge a revision, also where some of them did not.",
    alert=Alert(
        "BarrierSlow",
        "ticket",
        "histogram_quantile(0.9, sum by (instance, le) (rate(interlock_barrier_seconds_bucket[15m]))) > 2",
        "10m",
        "Some hosts take long to program a change, so all deploys wait for them; look at their load",
    ),
)
BARRIERS_OVERDUE = ATTACHMENTS_GROUP.counter(
    "interlock_barriers_overdue_total",
    "Waits for all live hosts to acknowledge a revision that ended at their deadline, without some of them.",
    alert=Alert(
        "DeploysWait",
        "ticket",
        "increase(interlock_barriers_overdue_total[15m]) > 0",
        "0m",
        "A live host is slow to program a change; the `barrier_overdue` log line names it. Run `interlock mesh` there",
    ),
)

GROUPS = (
    PROCESS,
    RESOLVER,
    FORWARDER,
    CONTACT,
    WATCHER,
    SNAPSHOT,
    STORE,
    CLOCK,
    FOLLOWER,
    SESSION,
    ADMIN,
    HOSTS,
    LOOKUPS,
    MESH,
    PEERS,
    FEED,
    ATTACHMENTS_GROUP,
)
