"""The figures of workers are sums, and no sum goes back when a worker is replaced."""

from __future__ import annotations

from prometheus_client.core import Metric

from interlock.observe import catalogue
from interlock.observe.figures import Past, add_up, count_queries
from resolver.counts import QueryKey
from support.histogram import Histogram


def figures(queries: int, seconds: float = 0.001, cached: int = 0, socket: int = 0) -> list[Metric]:
    latency = Histogram()
    latency.observe(seconds, queries)
    return [
        catalogue.QUERIES.each([(("NOERROR", "AAAA", "environment", "udp"), queries)]),
        catalogue.QUERY_SECONDS.histograms([(("environment",), latency)]),
        catalogue.FORWARD_CACHE_ENTRIES.one(cached),
        catalogue.QUERIES_DROPPED.each([(("socket",), socket), (("source_rate",), 1)]),
    ]


def values(each: list[list[Metric]], past: Past, unread: int = 0) -> dict[str, float]:
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in add_up(each, past, unread)
        for sample in family.samples
    }


def test_they_add_up() -> None:
    found = values([figures(1), figures(20, 0.2), figures(300, cached=7)], Past())
    assert found["interlock_queries_total/NOERROR/AAAA/environment/udp"] == 321
    assert found["interlock_query_seconds_count/environment"] == 321
    assert found["interlock_query_seconds_bucket/environment/0.001"] == 301
    assert round(found["interlock_query_seconds_sum/environment"], 6) == 4.301
    assert found["interlock_forward_cache_entries"] == 7


def test_what_a_worker_did_stays_when_it_is_gone() -> None:
    past = Past()
    past.add(figures(20, cached=7))
    past.add(figures(300))
    found = values([figures(1), figures(0)], past)
    assert found["interlock_queries_total/NOERROR/AAAA/environment/udp"] == 321
    assert found["interlock_forward_cache_entries"] == 0  # its cache is gone with it


def test_replies_are_counted_with_those_of_workers_that_are_gone() -> None:
    past = Past()
    past.add(figures(20))
    past.add(figures(300))
    found = list(count_queries([figures(1)], past))
    assert {key for key, _ in found} == {QueryKey("NOERROR", "AAAA", "environment", "udp")}
    assert sum(number for _, number in found) == 321


def test_what_the_kernel_dropped_is_counted_at_the_sockets_once() -> None:
    past = Past()
    past.add(figures(1, socket=5))
    found = values([figures(1), figures(1, socket=5)], past, unread=5)
    assert found["interlock_queries_dropped_total/socket"] == 5
    assert found["interlock_queries_dropped_total/source_rate"] == 3
