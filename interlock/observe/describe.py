"""Writes ``docs/metrics.md`` from the catalogue: ``python -m interlock.observe.describe > docs/metrics.md``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from interlock.observe.catalogue import GROUPS, Description, Group

WIDTH = 120  # characters in a line of prose, as in all pages

HEAD = """\
# Metrics

The metrics at `/metrics`, in Prometheus' text format: beside the admin API (`--api-listen`) in `interlock up` and
`interlock admin`, on `--ops-listen` in `interlock resolver` and `interlock agent`. The number of series is bounded: no
label holds a name that a client could choose.

This page is written from `interlock/observe/catalogue.py`, and a test holds the two equal:

    python -m interlock.observe.describe > docs/metrics.md

An alert is a condition in PromQL, how long it must hold (`for` in an alerting rule), and what to do. A metric without
one explains another, or is for graphs. Every counter starts at 0 with its process. The alerts as rules for Prometheus,
a scrape configuration and a dashboard are in [deploy/monitoring](../deploy/monitoring/README.md).
"""


def page() -> str:
    """The page ``docs/metrics.md``."""
    return "\n".join([HEAD, *(line for group in GROUPS for line in _group(group))])


def _group(group: Group) -> Iterator[str]:
    yield f"## {group.title}\n"
    yield _prose(f"In: {group.processes}.")
    for metric in group.metrics:
        yield from _metric(metric)


def _metric(metric: Description) -> Iterator[str]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    yield f"### `{metric.name}`\n"
    yield _prose(f"{metric.type.capitalize()}{', by ' + labels if labels else ''}. {metric.help}")
    if alert := metric.alert:
        lasting = "" if alert.lasting == "0m" else f", for {alert.lasting}"
        yield _prose(f"**Alert** `{alert.name}` ({alert.severity}){lasting}: {alert.remedy}.")
        yield f"    {alert.condition}\n"


def _prose(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
