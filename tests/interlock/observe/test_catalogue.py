"""The catalogue of metrics: it and what is exposed are the same, and Prometheus takes both."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from admin.counts import ApiCounts
from admin.hosts.counts import HostCounts
from admin.hosts.service import HostsService
from admin.hosts.state import PlatformState
from admin.lookups.hub import LookupHub
from agent.announce.barrier import Barrier
from agent.attach.attacher import AttachCounts
from agent.control_plane.connection import ControlPlane
from agent.mesh.status import MeshCounts
from interlock.observe import describe
from interlock.observe.catalogue import GROUPS, Alert, Description
from interlock.observe.mesh_metrics import mesh_metrics
from interlock.observe.metrics import (
    Metrics,
    admin_metrics,
    clock_metrics,
    hosts_metrics,
    lookups_metrics,
    resolver_metrics,
    snapshot_metrics,
    supervisor_metrics,
    watcher_metrics,
)
from interlock.parts.resolver import ResolverParts
from interlock.process.supervise import Supervisor
from interlock.settings.sources import read_settings
from resolver.counts import QueryCounts
from resolver.forward.forwarder import ForwardCounts
from resolver.wire.messages import Rcode, Transport
from store.store import Store
from support.clock import SharedClock
from tests.interlock.prometheus import promtool
from tests.watcher.harness import Recorder
from watcher.feed.connection import FeedCounts
from watcher.publisher import WatcherCounts
from watcher.session.follower import SessionFollower
from watcher.session.view import SessionView
from watcher.watcher import Watcher
from zones.addresses import Platform
from zones.names import EnvironmentId
from zones.records import RRType

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
CATALOGUE = {metric.name: metric for group in GROUPS for metric in group.metrics}
ALERTS = [metric.alert for metric in CATALOGUE.values() if metric.alert]
SHOP = EnvironmentId("shop")
T = TypeVar("T")

# All counts that are kept for metrics, and the number that stands in the first field of each, by which it is found.
COUNTS = {
    QueryCounts: 100_100,
    ForwardCounts: 100_200,
    WatcherCounts: 100_300,
    MeshCounts: 100_400,
    FeedCounts: 100_500,
    AttachCounts: 100_600,
    ApiCounts: 100_700,
}


def numbers_of(kind: type[Any]) -> dict[str, int]:
    """The fields of ``kind`` that are numbers, and what is put into each."""
    plain = [field.name for field in fields(kind) if field.type in ("int", "float")]
    return {name: COUNTS[kind] + position for position, name in enumerate(plain)}


def numbered(counts: T) -> T:
    """``counts``, with another number in each field."""
    for name, number in numbers_of(type(counts)).items():
        setattr(counts, name, number)
    return counts


def everything() -> list[str]:
    """The expositions of processes that, between them, have every part, with every label set once."""
    fed_by_store = ResolverParts.of(
        "resolver", read_settings({"upstream": ["192.0.2.53"]}, {}), Store("unix:///nowhere"), []
    )
    fed_by_store.resolver.counts.counter(Rcode.NOERROR, RRType.AAAA, "environment", Transport.UDP).count += 1
    fed_by_store.resolver.counts.dropped["short"] += 1
    assert fed_by_store.resolver.forwarder
    for each in (
        fed_by_store.resolver.counts,
        fed_by_store.resolver.forwarder.counts,
        fed_by_store.watcher.counts,
    ):
        numbered(each)
    assert isinstance(fed_by_store.watcher, Watcher)
    fed_by_store.watcher.last_contact = 0.0
    assert fed_by_store.watcher.snapshots
    fed_by_store.watcher.snapshots.confirmed = 0.0
    fed_by_agent = ResolverParts.of(
        "resolver", read_settings({"agent_dir": "/nowhere", "upstream": ["none"], "workers": "2"}, {}), None, []
    )
    follower = SessionFollower(SessionView(), Platform(), Recorder(), lambda _: None, nobody_says)
    supervisor = Supervisor([], restarts={"watcher": 2}, down={"watcher"})
    hosts = HostCounts(refused=Counter(rate=1), ended=Counter(idle=1), requests=Counter({("Wait", "done"): 1}))
    counts = numbered(ApiCounts(requests=Counter({("GET", "/v1/environments", 200): 3}), closed=Counter(slow=1)))
    counts.seconds["GET"].observe(0.1)
    clock = cast("SharedClock", SimpleNamespace(skew=1.5))
    processes = [
        Metrics(
            supervisor_metrics(supervisor),
            resolver_metrics(fed_by_store.resolver),
            watcher_metrics(fed_by_store.watcher),
            snapshot_metrics(fed_by_store.watcher, lambda: fed_by_store.stale_since),
            admin_metrics(counts),
            hosts_metrics(cast("HostsService", SimpleNamespace(counts=hosts, state=PlatformState()))),
            lookups_metrics(LookupHub()),
            clock_metrics(clock),
        ),
        Metrics(resolver_metrics(fed_by_agent.resolver, fed_by_agent.workers), watcher_metrics(fed_by_agent.watcher)),
        Metrics(mesh_metrics(*an_agent()), watcher_metrics(follower)),
    ]
    return [metrics.render()[0].decode() for metrics in processes]


async def nobody_says(_: Collection[EnvironmentId]) -> Collection[EnvironmentId]:
    return ()


def an_agent() -> tuple[Any, Any, Any]:
    """What `mesh_metrics` reads of an agent with one peer. A real one would need root and a WireGuard device."""
    peer = SimpleNamespace(received=1, sent=2, handshake=3.0)
    actual = SimpleNamespace(
        firewall=SimpleNamespace(drops={"source": 1}), tunnel=SimpleNamespace(peers={"a key": peer, "laptop": peer})
    )
    laptop = SimpleNamespace(public_key="laptop", gateway="h1")
    feed = SimpleNamespace(resolvers=1, counts=numbered(FeedCounts()))
    status = SimpleNamespace(
        counts=numbered(MeshCounts()),
        problem="",
        rejected=(),
        actual=actual,
        health=SimpleNamespace(silent=lambda _now: {}),
    )
    hosts = SimpleNamespace(hosts={"h2": SimpleNamespace(id="h2", public_key="a key")})
    published = SimpleNamespace(hosts=hosts, environments={SHOP: SimpleNamespace(peers={"l1": laptop})})
    identity, notifier = SimpleNamespace(id="h1"), SimpleNamespace(feed=feed)
    mesh = SimpleNamespace(status=status, published=published, identity=identity, notifier=notifier)
    barrier = Barrier(cast("ControlPlane", None))
    attacher = SimpleNamespace(counts=numbered(AttachCounts()), barrier=barrier, attachments={})
    return mesh, SimpleNamespace(attacher=attacher), SimpleNamespace(acknowledged={SHOP: 3})


def read(exposition: str) -> dict[str, tuple[str, str, set[str]]]:
    """Type, help and labels of each metric that has a sample in ``exposition``, by its name."""
    found = {}
    for family in text_string_to_metric_families(exposition):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if family.samples:
            found[name] = (family.type, family.documentation, labels)
    return found


def test_what_is_exposed_is_what_the_catalogue_says() -> None:
    found = {name: metric for exposition in everything() for name, metric in read(exposition).items()}
    # Without a sample for every label, as here for environments, a family has a name and no labels.
    without_samples = {
        "interlock_environment_revision", "interlock_instances_stuck_starting", "interlock_dns_listening_info",
    }  # fmt: skip
    assert found == {
        name: (metric.type, metric.help, set(metric.labels))
        for name, metric in CATALOGUE.items()
        if name not in without_samples
    }


@pytest.mark.parametrize("kind", COUNTS, ids=lambda kind: kind.__name__)
def test_all_that_is_counted_is_exposed(kind: type[Any]) -> None:
    exposed = "\n".join(everything())
    assert [name for name, number in numbers_of(kind).items() if f" {number}.0\n" not in exposed] == []


def test_the_page_is_the_catalogue() -> None:
    assert PAGE.read_text() == describe.page(), "run: python -m interlock.observe.describe > docs/metrics.md"


def test_each_name_stands_once() -> None:
    assert len(CATALOGUE) == sum(len(group.metrics) for group in GROUPS)


@pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda metric: metric.name)
def test_help_is_a_sentence_that_stands_alone(metric: Description) -> None:
    assert re.match(r"[A-Z]", metric.help)
    assert metric.help.endswith(".")
    assert not re.match(r"(Those|That|These|They|It|Since)\b", metric.help)


# As Prometheus reads it


@pytest.mark.parametrize("number", range(3), ids=["store", "agent's feed", "agent"])
def test_promtool_takes_the_exposition(number: int) -> None:
    checked = promtool("check", "metrics", stdin=everything()[number])
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_promtool_refuses_a_bad_name() -> None:
    bad = Description("interlock_waiting_milliseconds_total", "gauge", "Milliseconds.").one(1)
    text = f"# HELP {bad.name} {bad.documentation}\n# TYPE {bad.name} gauge\n{bad.name} 1\n"
    checked = promtool("check", "metrics", stdin=text)
    assert checked.returncode != 0
    assert 'use base unit "seconds"' in checked.stderr


def rules(alerts: list[Alert]) -> str:
    """A file of alerting rules, in YAML, of which JSON is a part."""
    return json.dumps(
        {
            "groups": [
                {
                    "name": "interlock",
                    "rules": [
                        {
                            "alert": f"Alert{number}",
                            "expr": alert.condition,
                            "for": alert.lasting,
                            "annotations": {"summary": alert.remedy},
                        }
                        for number, alert in enumerate(alerts)
                    ],
                }
            ]
        }
    )


def test_promtool_takes_the_alerts(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rules(ALERTS))
    checked = promtool("check", "rules", str(path))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout
    path.write_text(rules([Alert("Bad", "page", "rate(interlock_changes_total[5m]", "1m", "a bracket is missing")]))
    assert promtool("check", "rules", str(path)).returncode != 0


def test_alerts_are_about_metrics_that_are_there() -> None:
    for alert in ALERTS:
        named = re.findall(r"\b(?:interlock|process)_\w+", f"{alert.condition} {alert.remedy}")
        assert {name.removesuffix("_bucket") for name in named} <= CATALOGUE.keys()
