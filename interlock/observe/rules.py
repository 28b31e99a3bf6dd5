"""Writes the alert rules from the catalogue: ``python -m interlock.observe.rules > deploy/monitoring/alerts.yaml``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

from interlock.observe.catalogue import GROUPS, Alert, Group

HEAD = """\
# Alert rules for Prometheus. Written from interlock/observe/catalogue.py, and a test holds the two equal:
#
#     python -m interlock.observe.rules > deploy/monitoring/alerts.yaml
#
# severity: page, for somebody to be woken; ticket, for working hours. docs/metrics.md says more of each metric.
groups:
"""
PROCESSES = Alert(
    "ProcessDown",
    "page",
    'up{job=~"interlock.*"} == 0',
    "1m",
    "A process of Interlock is down or hangs, or Prometheus does not reach its port: is it running, and does"
    " `--ops-listen`, or `--api-listen`, name an address that Prometheus reaches?",
)
"""What no process can say of itself. Prometheus makes the metric ``up`` for each target of deploy/monitoring."""


def rules() -> str:
    """The file ``deploy/monitoring/alerts.yaml``."""
    lines = [*_named("The processes", [("up", PROCESSES)]), *(line for group in GROUPS for line in _group(group))]
    return HEAD + "\n".join(lines) + "\n"


def _group(group: Group) -> Iterator[str]:
    yield from _named(group.title, [(metric.name, metric.alert) for metric in group.metrics if metric.alert])


def _named(title: str, alerts: Sequence[tuple[str, Alert]]) -> Iterator[str]:
    """The group of rules ``title``, with ``alerts`` and the metric of each; nothing where there are none."""
    if alerts:
        yield f"  - name: {_quoted(f'Interlock: {title}')}"
        yield "    rules:"
    for metric, alert in alerts:
        yield f"      - alert: Interlock{alert.name}"
        yield f"        expr: {_quoted(alert.condition)}"
        yield f"        for: {alert.lasting}"
        yield f"        labels: {{severity: {alert.severity}}}"
        yield "        annotations:"
        yield f"          summary: {_quoted(f'{alert.remedy}.')}"
        yield f"          metric: {metric}"


def _quoted(text: str) -> str:
    """``text`` as a double-quoted scalar of YAML, of which the strings of JSON are a part."""
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(rules())
