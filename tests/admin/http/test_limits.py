"""Rate limits: the buckets by a clock of the test, then the API by its replies."""

from __future__ import annotations

import asyncio

import pytest

from admin.http.limits import Buckets, Limits, source_network
from store.environments import EnvironmentStore
from store.store import Store
from tests.admin.api import NO_TOKEN, PORT, Api, E

# (seconds, client) → how long it has to wait; two a second, a burst of three
SCRIPT = [
    (0.0, "a", 0.0),
    (0.0, "a", 0.0),
    (0.0, "a", 0.0),
    (0.0, "a", 0.5),
    (0.0, "b", 0.0),  # each client has its own bucket
    (0.25, "a", 0.25),
    (0.5, "a", 0.0),
    (0.5, "a", 0.5),
    (100.0, "a", 0.0),  # a long rest fills the bucket, and no more than that
    (100.0, "a", 0.0),
    (100.0, "a", 0.0),
    (100.0, "a", 0.5),
]


def test_a_bucket_by_the_clock() -> None:
    buckets = Buckets(rate=2.0, burst=3.0, tracked_clients=10)
    for now, client, wait in SCRIPT:
        assert buckets.take(client, now) == pytest.approx(wait), (now, client)


def test_the_table_is_bounded_and_drops_the_client_idle_for_longest() -> None:
    buckets = Buckets(rate=1.0, burst=1.0, tracked_clients=3)
    for client in ("a", "b", "c"):
        assert buckets.take(client, 0.0) == 0.0
    assert buckets.take("a", 0.0) == 1.0  # now "b" is the one longest away
    assert buckets.take("d", 0.0) == 0.0
    assert len(buckets) == 3
    assert buckets.take("a", 0.0) == 1.0
    assert buckets.take("b", 0.0) == 0.0


def test_the_addresses_of_one_ipv6_64_share_a_bucket() -> None:
    assert source_network("2001:db8::1") == source_network("2001:db8::ffff:1") != source_network("2001:db8:0:1::1")
    assert source_network("192.0.2.1") != source_network("192.0.2.2")


SLOW = Limits(rate=0.01, burst=8.0, anonymous_rate=0.01, anonymous_burst=3.0)


async def test_too_many_requests_with_one_token(store: Store) -> None:
    async with Api(store, SLOW) as api:
        await api.put(E, {})
        await api.put(f"{E}/services/api", {"ports": [PORT]})
        tenant = await api.make_token()
        for _ in range(5):
            assert (await api.get(E)).status == 200
        refused = await api.put(f"{E}/services/web", {})
        assert (refused.status, refused.problem) == (429, "rate-limited")
        assert 0 < int(refused.headers["Retry-After"]) <= 100
        assert api.counts.rate_limited == 1
        assert (await api.get(f"{E}/services/web", token=tenant)).status == 404, "nothing was written"


async def test_too_many_requests_without_a_valid_token(store: Store) -> None:
    async with Api(store, SLOW) as api:
        await api.put(E, {})
        tenant = await api.make_token()
        statuses = [(await api.get(E, token=token)).status for token in (NO_TOKEN, "x", "y", "z")]
        assert statuses == [401, 401, 401, 429]
        assert (await api.get("/nosuch")).status == 429
        assert (await api.get(E)).status == 200, "root is not locked out"
        assert (await api.get(E, token=tenant)).status == 200
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            assert (await api.get(path, token=NO_TOKEN)).status == 200


async def test_a_request_that_takes_too_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_self: EnvironmentStore, _id: str) -> None:
        await asyncio.Event().wait()

    async with Api(store, Limits(request_seconds=0.05)) as api:
        monkeypatch.setattr(EnvironmentStore, "newest", never)
        refused = await api.put(E, {})
    assert (refused.status, refused.problem, refused.headers["Retry-After"]) == (503, "timed-out", "1")


async def test_a_time_out_of_something_else_is_a_fault(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(EnvironmentStore, "newest", fail)
    assert (await api.get(E)).problem == "internal"
