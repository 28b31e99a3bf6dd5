"""Writes Grafana's dashboard: ``python -m interlock.observe.dashboard > deploy/monitoring/dashboard.json``.

A panel is a title, a unit and its queries. All of them are limited to the job that is chosen at the top.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT, COLUMNS = 8, 7, 24  # of a panel, and of the grid, in Grafana's units
RATE = "$__rate_interval"
JOB = 'job=~"$job"'


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph."""

    title: str
    """What it shows."""
    unit: str
    """Grafana's name of the unit of its values."""
    queries: Mapping[str, str]
    """PromQL by the legend of its series."""


def _quantile(share: float, metric: str, labels: str, by: str) -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket{{{labels}}}[{RATE}])))"


ROWS: Mapping[str, Sequence[Panel]] = {
    "What users see": (
        Panel(
            "Look-ups of the platform's names that are answered, of all (the SLO)",
            "percentunit",
            {
                "answered": f'sum(rate(interlock_queries_total{{{JOB},scope="environment",rcode!="SERVFAIL"}}[{RATE}]))'
                f' / sum(rate(interlock_queries_total{{{JOB},scope="environment"}}[{RATE}]))'
            },
        ),
        Panel(
            "Look-ups of the platform's names: time to the reply",
            "s",
            {
                "half": _quantile(0.5, "interlock_query_seconds", f'{JOB},scope="environment"', "job"),
                "99 of 100": _quantile(0.99, "interlock_query_seconds", f'{JOB},scope="environment"', "job"),
            },
        ),
        Panel(
            "Look-ups of forwarded names: time to the reply",
            "s",
            {"99 of 100": _quantile(0.99, "interlock_query_seconds", f'{JOB},scope="external"', "job")},
        ),
        Panel(
            "Look-ups a second, by outcome",
            "reqps",
            {"{{scope}} {{rcode}}": f"sum by (scope, rcode) (rate(interlock_queries_total{{{JOB}}}[{RATE}]))"},
        ),
        Panel(
            "Packets and connections without a reply",
            "pps",
            {"{{instance}} {{reason}}": f"rate(interlock_queries_dropped_total{{{JOB}}}[{RATE}])"},
        ),
        Panel(
            "Instances that do not become ready",
            "short",
            {"{{environment}}": f"max by (environment) (interlock_instances_stuck_starting{{{JOB}}})"},
        ),
        Panel(
            "Instances by state and placement",
            "short",
            {"{{state}}, {{placement}}": f"max by (state, placement) (interlock_instances{{{JOB}}}) > 0"},
        ),
    ),
    "What it depends on": (
        Panel(
            "Since the source of each process answered",
            "s",
            {"{{instance}} {{source}}": f"interlock_store_contact_age_seconds{{{JOB}}}"},
        ),
        Panel(
            "Upstream resolvers: time to the answer, 95 of 100",
            "s",
            {"{{upstream}}": _quantile(0.95, "interlock_upstream_seconds", JOB, "upstream")},
        ),
        Panel(
            "Upstream resolvers: questions without an answer",
            "reqps",
            {"{{upstream}}": f"sum by (upstream) (rate(interlock_upstream_failures_total{{{JOB}}}[{RATE}]))"},
        ),
        Panel(
            "Admin API: requests a second",
            "reqps",
            {"{{status}}": f"sum by (status) (rate(interlock_api_requests_total{{{JOB}}}[{RATE}]))"},
        ),
        Panel(
            "Admin API: time to the response, 99 of 100",
            "s",
            {"{{method}}": _quantile(0.99, "interlock_api_request_seconds", JOB, "method")},
        ),
        Panel(
            "Parts that are down",
            "short",
            {"{{instance}}": f"sum by (instance) (1 - interlock_part_up{{{JOB}}})"},
        ),
    ),
    "The mesh": (
        Panel(
            "Hosts that cannot reach each other, by who notices",
            "short",
            {"{{instance}}": f"sum by (instance) (interlock_peer_silent{{{JOB}}})"},
        ),
        Panel(
            "Attach: time until all hosts answer the name",
            "s",
            {
                "half": _quantile(0.5, "interlock_attach_seconds", JOB, "job"),
                "9 of 10": _quantile(0.9, "interlock_attach_seconds", JOB, "job"),
            },
        ),
        Panel(
            "Waits for other hosts, 9 of 10",
            "s",
            {"{{instance}}": _quantile(0.9, "interlock_barrier_seconds", JOB, "instance")},
        ),
        Panel(
            "Packets dropped",
            "pps",
            {"{{instance}} {{chain}}": f"rate(interlock_mesh_dropped_packets_total{{{JOB}}}[{RATE}])"},
        ),
        Panel(
            "Hosts without a resolver, or not programmed",
            "short",
            {
                "without a resolver": f"sum(interlock_feed_resolvers{{{JOB}}} == bool 0)",
                "not programmed": f"sum(interlock_mesh_ok{{{JOB}}} == bool 0)",
            },
        ),
        Panel(
            "External peers with a handshake in the last three minutes",
            "short",
            {"{{environment}}": f"sum by (environment) (interlock_external_peers_connected{{{JOB}}})"},
        ),
    ),
}


def dashboard() -> str:
    """The file ``deploy/monitoring/dashboard.json``."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(_place({"type": "row", "title": title, "panels": []}, len(panels), 0, top, COLUMNS, 1))
        top += 1
        for position, panel in enumerate(row):
            left = position * WIDTH % COLUMNS
            panels.append(_place(_panel(panel), len(panels), left, top, WIDTH, HEIGHT))
            top += HEIGHT if left + WIDTH == COLUMNS or panel is row[-1] else 0
    page = {
        "title": "Interlock",
        "uid": "interlock",
        "schemaVersion": 38,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_data_source(), _job()]},
        "panels": panels,
    }
    return json.dumps(page, indent=2) + "\n"


def queries() -> list[str]:
    """All queries of the dashboard, with Grafana's variables in them."""
    return [query for row in ROWS.values() for panel in row for query in panel.queries.values()]


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _place(panel: dict[str, Any], number: int, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    return {"id": number + 1, "gridPos": {"x": left, "y": top, "w": width, "h": height}, **panel}


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _job() -> dict[str, Any]:
    return {
        "name": "job",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": "label_values(interlock_info, job)",
        "multi": True,
        "includeAll": True,
        "refresh": 1,
    }


if __name__ == "__main__":
    sys.stdout.write(dashboard())
