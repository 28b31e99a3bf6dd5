"""Metrics: the values that a scrape reads."""

from __future__ import annotations

import time
from collections import Counter
from ipaddress import IPv6Network

import pytest
from prometheus_client.parser import text_string_to_metric_families

from admin.counts import ApiCounts
from interlock.observe import catalogue
from interlock.observe.metrics import (
    Metrics,
    Source,
    admin_metrics,
    probe_metrics,
    resolver_metrics,
    supervisor_metrics,
    watcher_metrics,
)
from interlock.parts.resolver import ResolverParts
from interlock.parts.store_probe import StoreProbe
from interlock.process.supervise import Supervisor
from interlock.settings.sources import read_settings
from resolver.wire.messages import Rcode, Transport
from store.store import Store
from tests import worlds
from watcher import starting
from watcher.watcher import Watcher
from zones.model import Environment
from zones.names import EnvironmentId
from zones.records import RRType


def names_of(store: Store) -> ResolverParts:
    """A resolver and a watcher that are not started."""
    return ResolverParts.of("resolver", read_settings({"upstream": ["192.0.2.53"]}, {}), store, [])


def scrape(*sources: Source) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(Metrics(*sources).render()[0].decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def sources_of(names: ResolverParts) -> list[Source]:
    return [resolver_metrics(names.resolver), watcher_metrics(names.watcher)]


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_queries_and_their_latency() -> None:
    names = names_of(Store("unix:///nowhere"))
    counts = names.resolver.counts
    counts.packet_cache_hits = 3
    counts.counter(Rcode.NOERROR, RRType.AAAA, "environment", Transport.UDP).count += 5
    counts.dropped["short"] += 1
    counts.observe(0.00002, queries=4)
    counts.observe(100.0)
    counts.observe(0.3, queries=2, forwarded=2)
    found = scrape(*sources_of(names))
    assert (
        found[key("interlock_queries_total", rcode="NOERROR", type="AAAA", scope="environment", transport="udp")] == 5
    )
    assert found[key("interlock_queries_dropped_total", reason="short")] == 1
    assert found[key("interlock_packet_cache_hits_total")] == 3
    assert found[key("interlock_query_seconds_bucket", scope="environment", le="1e-05")] == 0
    assert found[key("interlock_query_seconds_bucket", scope="environment", le="2.5e-05")] == 4
    assert found[key("interlock_query_seconds_bucket", scope="environment", le="1.5")] == 4
    assert found[key("interlock_query_seconds_bucket", scope="environment", le="+Inf")] == 5
    assert found[key("interlock_query_seconds_count", scope="environment")] == 5
    assert found[key("interlock_query_seconds_bucket", scope="external", le="0.25")] == 0
    assert found[key("interlock_query_seconds_bucket", scope="external", le="0.5")] == 2
    assert found[key("interlock_query_seconds_sum", scope="environment")] == pytest.approx(100.00008)


def test_queries_that_wait_for_a_pending_zone() -> None:
    names = names_of(Store("unix:///nowhere"))
    names.resolver.counts.held_pending = 5
    names.resolver.counts.pending_timeouts = 2
    found = scrape(*sources_of(names))
    assert found[key("interlock_queries_held_pending_total")] == 5
    assert found[key("interlock_queries_pending_timeouts_total")] == 2


def test_a_resolver_that_follows_an_agent() -> None:
    names = ResolverParts.of("resolver", read_settings({"agent_dir": "/nowhere", "upstream": ["none"]}, {}), None, [])
    sources = sources_of(names)
    found = scrape(*sources)
    assert not any("store_conn" in name or name == "interlock_zone_age_seconds" for name, _ in found)
    assert 0 <= found[key("interlock_store_contact_age_seconds", source="agent")] < 60
    assert scrape(*sources)[key("interlock_agent_connected")] == 0
    names.watcher.connected = True
    names.watcher.counts.lost_connections = 3
    found = scrape(*sources)
    assert found[key("interlock_agent_connected")] == 1
    assert found[key("interlock_agent_disconnects_total")] == 3
    assert found[key("interlock_environments")] == 0
    assert 0 <= found[key("interlock_zone_age_seconds")] < 1


def test_parts_and_process() -> None:
    counts = ApiCounts(commits=7, requests=Counter({("GET", "/v1/environments", 200): 3}))
    supervisor = Supervisor([], restarts={"watcher": 2, "admin": 0}, down={"watcher"})
    found = scrape(supervisor_metrics(supervisor), admin_metrics(counts))
    assert found[key("interlock_commits_total")] == 7
    assert found[key("interlock_api_requests_total", method="GET", route="/v1/environments", status="200")] == 3
    assert found[key("interlock_part_restarts_total", part="watcher")] == 2
    assert found[key("interlock_part_up", part="watcher")] == 0
    assert found[key("interlock_part_up", part="admin")] == 1
    assert any(name == "interlock_info" for name, _ in found)
    assert key("process_open_fds") in found


def test_a_process_that_only_asks_the_store_says_since_when_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe = StoreProbe(Store("unix:///nowhere"))
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    source = probe_metrics(probe)
    now += 7.0
    found = scrape(source)  # it has never answered, so the age counts from the start
    assert found[key("interlock_store_contact_age_seconds", source="store")] == 7
    assert found[key("interlock_store_connected")] == 0
    probe.reason, probe.last_contact, probe.disconnects = "", now - 3.0, 2
    found = scrape(source)
    assert found[key("interlock_store_contact_age_seconds", source="store")] == 3
    assert found[key("interlock_store_connected")] == 1
    assert found[key("interlock_store_disconnects_total")] == 2


async def test_the_watcher_and_its_environments(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = names_of(store)
    sources = sources_of(names)
    assert key("interlock_zone_age_seconds") not in scrape(*sources)
    await store.environments.commit(worlds.production(), 0)
    await store.environments.commit(Environment(EnvironmentId("second"), IPv6Network("fd12:1:1::/48"), 1), 0)
    assert isinstance(names.watcher, Watcher)
    await names.watcher._synchronize()
    found = scrape(*sources)
    assert found[key("interlock_environments")] == 2
    assert found[key("interlock_environment_revision", environment="production")] == worlds.production().revision
    assert found[key("interlock_store_connected")] == 1
    assert found[key("interlock_instances_stuck_starting", environment="production")] == 0
    assert 0 <= found[key("interlock_store_contact_age_seconds", source="store")] < 60
    monkeypatch.setattr(starting, "STUCK", -1.0)
    stuck = scrape(*sources)
    assert stuck[key("interlock_instances_stuck_starting", environment="production")] == 1
    assert stuck[key("interlock_instances_stuck_starting", environment="second")] == 0
    assert found[key("interlock_upstream_queries_total", upstream="192.0.2.53:53")] == 0
    assert 0 <= found[key("interlock_zone_age_seconds")] < 60
    monkeypatch.setattr(catalogue, "MOST_ENVIRONMENTS", 1)
    assert not any(name == "interlock_environment_revision" for name, _ in scrape(*sources))
