"""For each alert: series that raise it, and series of a platform that is well enough, in promtool's notation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Series = Mapping[str, str]
"""The values of each series, one a minute."""

STILL_0, STILL_1, GROWS = "0x60", "1x60", "0+1x60"


@dataclass(frozen=True, slots=True)
class AlertCase:
    """What raises an alert, and what does not."""

    fires: Series
    """Raises it within three quarters of an hour."""
    quiet: Series
    """Does not, though it has the same metrics."""


def _one(series: str, fires: str, quiet: str) -> AlertCase:
    return AlertCase({series: fires}, {series: quiet})


def _slow(metric: str, labels: str, low: str, high: str) -> AlertCase:
    """All observations are between ``low`` and ``high``; or all are at most 0.01."""

    def buckets(fastest: str, faster: str) -> Series:
        counts = {"0.01": fastest, low: faster, high: "0+60x60", "+Inf": "0+60x60"}
        return {f'{metric}_bucket{{instance="a"{labels},le="{bound}"}}': values for bound, values in counts.items()}

    return AlertCase(buckets(STILL_0, STILL_0), buckets("0+60x60", "0+60x60"))


def _share(metric: str, bad: str, good: str) -> AlertCase:
    """A tenth of all is bad, or a hundredth."""
    few, many = {f"{metric}{{{bad}}}": "0+1x60"}, {f"{metric}{{{bad}}}": "0+10x60"}
    others = {f"{metric}{{{good}}}": "0+90x60"}
    return AlertCase({**many, **others}, {**few, **others})


CASES: Mapping[str, AlertCase] = {
    "HostDown": AlertCase(
        {'interlock_hosts{state="down"}': STILL_1, 'interlock_hosts{state="live"}': "3x60"},
        {'interlock_hosts{state="down"}': STILL_0, 'interlock_hosts{state="live"}': "3x60"},
    ),
    "InstancesNotAttached": AlertCase(
        {'interlock_instances{state="ready",placement="not attached"}': STILL_1},
        {
            'interlock_instances{state="ready",placement="not attached"}': STILL_0,
            'interlock_instances{state="starting",placement="not attached"}': STILL_1,
            'interlock_instances{state="ready",placement="attached"}': STILL_1,
        },
    ),
    "ProcessDown": _one('up{job="interlock-agent",instance="a"}', STILL_0, STILL_1),
    "PartDown": _one('interlock_part_up{part="watcher"}', STILL_0, STILL_1),
    "PartCrashes": _one('interlock_part_restarts_total{part="watcher"}', GROWS, "3x60"),
    "WorkersEnd": _one("interlock_dns_workers_replaced_total", GROWS, "3x60"),
    "FileDescriptorsLow": AlertCase(
        {"process_open_fds": "900x60", "process_max_fds": "1000x60"},
        {"process_open_fds": "700x60", "process_max_fds": "1000x60"},
    ),
    "LookupsFail": _share(
        "interlock_queries_total",
        'rcode="SERVFAIL",scope="environment",instance="a"',
        'rcode="NOERROR",scope="environment",instance="a"',
    ),
    "LookupsSlow": _slow("interlock_query_seconds", ',scope="environment"', "0.25", "0.5"),
    "SourceFloodsResolver": AlertCase(
        {'interlock_queries_dropped_total{reason="source_rate"}': GROWS},
        {'interlock_queries_dropped_total{reason="short"}': GROWS},
    ),
    "NamesWaitForRoutes": _one("interlock_queries_pending_timeouts_total", GROWS, "5x60"),
    "ResolverFault": _one("interlock_query_errors_total", GROWS, "5x60"),
    "UpstreamDown": AlertCase(
        {
            'interlock_upstream_failures_total{upstream="u"}': "0+60x60",
            'interlock_upstream_queries_total{upstream="u"}': "0+100x60",
        },
        {
            'interlock_upstream_failures_total{upstream="u"}': "0+10x60",
            'interlock_upstream_queries_total{upstream="u"}': "0+100x60",
        },
    ),
    "UpstreamSlow": _slow("interlock_upstream_seconds", ',upstream="u"', "0.5", "1.0"),
    "UpstreamsAllDown": _one("interlock_forward_stale_total", GROWS, "9x60"),
    "ForwardingOverloaded": _one("interlock_forward_refused_total", GROWS, "9x60"),
    "AnswersForged": _one("interlock_forward_forged_total", "0+900x60", "0+60x60"),
    "SourceSilent": _one('interlock_store_contact_age_seconds{source="store"}', "100x60", "20x60"),
    "ZonesOld": _one("interlock_zone_age_seconds", "150x60", "100x60"),
    "EnvironmentsGone": _one("interlock_environments", "100x40 50x10", "100x40 80x10"),
    "DocumentBroken": _one("interlock_environments_quarantined", STILL_1, STILL_0),
    "InstancesStuckStarting": _one('interlock_instances_stuck_starting{environment="e"}', "2x60", STILL_0),
    "WithdrawalHeld": _one('interlock_guard_held{kind="names"}', STILL_1, STILL_0),
    "SnapshotServed": _one("interlock_snapshot_served", STILL_1, STILL_0),
    "SnapshotOld": _one("interlock_snapshot_age_seconds", "700x60", "300x60"),
    "SnapshotFails": _one("interlock_snapshot_failures_total", GROWS, "3x60"),
    "StoreAway": _one("interlock_store_connected", STILL_0, STILL_1),
    "StoreFlaps": _one("interlock_store_disconnects_total", GROWS, "5x60"),
    "ChangesMissed": _one("interlock_change_gaps_total", GROWS, "5x60"),
    "NotCompared": _one("interlock_index_comparisons_total", "7x60", "0+2x60"),
    "ChangesLost": _one("interlock_index_repairs_total", GROWS, "1x60"),
    "CommitsLost": _one("interlock_store_rollbacks_total", GROWS, "1x60"),
    "ClockWrong": _one("interlock_clock_skew_seconds", "-7x60", "3x60"),
    "AgentAway": _one("interlock_agent_connected", STILL_0, STILL_1),
    "ControlPlaneAway": _one("interlock_control_plane_connected", STILL_0, STILL_1),
    "ApiFails": _share("interlock_api_requests_total", 'status="503"', 'status="200"'),
    "ApiSlow": _slow("interlock_api_request_seconds", ',method="GET"', "2.5", "5.0"),
    "ApiClientsLimited": _one("interlock_api_rate_limited_total", "0+120x60", "0+10x60"),
    "ApiConnectionsFull": AlertCase(
        {'interlock_api_connections_closed_total{reason="most"}': GROWS},
        {'interlock_api_connections_closed_total{reason="client"}': GROWS},
    ),
    "AgentsGone": _one("interlock_sessions", "10x38 2x12", "10x38 6x12"),
    "AgentsMisbehave": AlertCase(
        {'interlock_sessions_ended_total{reason="crowded"}': GROWS},
        {'interlock_sessions_ended_total{reason="going"}': GROWS},
    ),
    "StrangersAtHosts": _one('interlock_sessions_refused_total{reason="credential"}', "0+900x60", "0+60x60"),
    "HostRefused": AlertCase(
        {'interlock_session_requests_total{request="Record",outcome="refused"}': GROWS},
        {'interlock_session_requests_total{request="Record",outcome="done"}': GROWS},
    ),
    "AgentLimited": _one("interlock_session_throttled_total", "0+120x60", "0+10x60"),
    "LookupsNotBelieved": _one("interlock_lookups_refused_total", "0+120x60", "0+10x60"),
    "HostNotProgrammed": _one("interlock_mesh_ok", STILL_0, STILL_1),
    "EntriesRejected": _one("interlock_mesh_rejected", STILL_1, STILL_0),
    "HostChangedByOthers": _one("interlock_mesh_repairs_total", GROWS, "3x60"),
    "PacketsDropped": _one('interlock_mesh_dropped_packets_total{chain="link"}', "0+120x60", "0+10x60"),
    "HostLags": AlertCase(
        {
            'interlock_environment_revision{environment="e"}': "5x60",
            'interlock_acknowledged_revision{environment="e"}': "4x60",
        },
        {
            'interlock_environment_revision{environment="e"}': "5x60",
            'interlock_acknowledged_revision{environment="e"}': "5x60",
        },
    ),
    "HostsCannotTalk": _one('interlock_peer_silent{host="h2"}', STILL_1, STILL_0),
    "ExternalPeersGone": _one('interlock_external_peers_connected{environment="e"}', "5x30 0x20", "1x30 0x20"),
    "HostWithoutResolver": _one("interlock_feed_resolvers", STILL_0, STILL_1),
    "ResolverHangs": _one("interlock_feed_unconfirmed_total", GROWS, "2x60"),
    "AttachFails": _one("interlock_attach_failures_total", GROWS, "3x60"),
    "AttachSlow": _slow("interlock_attach_seconds", "", "5.0", "10.0"),
    "BarrierSlow": _slow("interlock_barrier_seconds", "", "2.5", "5.0"),
    "DeploysWait": _one("interlock_barriers_overdue_total", GROWS, "4x60"),
}
