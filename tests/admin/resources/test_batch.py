"""Batches: several edits, one commit, all or none."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.admin.api import PORT, Api, E, enrol_host, make_host, make_key
from tests.worlds import lease_of

ALL: list[dict[str, Any]] = [
    {"op": "put-service", "name": "web", "ports": [PORT]},
    {"op": "put-instance", "service": "web", "id": "w1", "state": "starting", "region": "us"},
    {"op": "put-record", "name": "www", "type": "CNAME", "ttl": 60, "values": ["web.railway.internal."]},
    {"op": "put-service", "name": "api", "rename": "backend", "overlap_seconds": 60},
    {"op": "delete-record", "name": "db", "type": "CNAME"},
    {"op": "delete-instance", "service": "backend", "id": "a1"},
    {"op": "put-service", "name": "brief"},
    {"op": "delete-service", "name": "brief"},
    {"op": "put-peer", "id": "laptop", "public_key": make_key(0xA1), "gateway": "h1"},
    {"op": "put-peer", "id": "phone", "public_key": make_key(0xA2)},
    {"op": "delete-peer", "id": "laptop"},
]
LIVE = 60_000  # milliseconds


@pytest_asyncio.fixture
async def production(production: Api) -> Api:
    """As it is, with the live host h1."""
    await production.store.hosts.register(make_host(1))
    await enrol_host(production.store, "h1")
    await production.store.leases.renew(lease_of("h1"), LIVE)
    return production


async def test_all_in_one_commit(production: Api) -> None:
    done = await production.post(f"{E}/batch", {"edits": ALL})
    assert (done.status, done.body["revision"], done.revision) == (200, 5, 5)
    results = done.body["results"]
    assert [result["op"] for result in results] == [edit["op"] for edit in ALL]
    assert results[0]["service"]["name"] == "web"
    assert results[0]["service"]["instances"] == [results[1]["instance"]]
    assert results[1]["instance"]["state"] == "starting"
    assert results[2]["record"]["values"] == ["web.railway.internal."]
    assert results[3]["service"]["former_names"][0]["name"] == "api"
    phone = results[9]["peer"]
    assert (phone["id"], phone["gateway"], phone["address"][-5:]) == ("phone", "h1", "::101")
    others = [result for result in results[4:] if result.get("peer") != phone]
    assert others == [{"op": edit["op"]} for edit in (*ALL[4:9], ALL[10])]

    shown = (await production.get(E)).body
    assert [service["name"] for service in shown["services"]] == ["backend", "web"]
    assert [record["name"] for record in shown["records"]] == ["www"]
    assert shown["peers"] == [phone]
    batch = await production.store.changes.read_batch("0-0")
    assert (max(change.revision for change in batch.newest if change.environment), batch.is_gapless) == (5, True)


async def test_a_batch_that_changes_nothing_commits_nothing(production: Api) -> None:
    done = await production.post(f"{E}/batch", {"edits": [{"op": "put-service", "name": "api"}]})
    assert (done.status, done.body["revision"]) == (200, 4)


REFUSED: list[tuple[list[dict[str, Any]], int, str | None]] = [
    ([], 400, "edits"),
    ([{"op": "nonsense"}], 400, "edits[0].op"),
    ([{"name": "web"}], 400, "edits[0].op"),
    ([{"op": "put-service", "name": "web", "extra": 1}], 400, "edits[0].extra"),
    ([{"op": "put-service", "name": "health"}], 400, "edits[0].name"),
    ([{"op": "put-service", "name": "web", "ports": [{"name": "http", "number": 0}]}], 400, "edits[0].ports[0].number"),
    ([{"op": "put-service", "name": "api", "rename": "No"}], 400, "edits[0].rename"),
    ([{"op": "put-service", "name": "api", "overlap_seconds": 1}], 400, "edits[0].overlap_seconds"),
    ([{"op": "put-instance", "service": "api", "id": "all"}], 400, "edits[0].id"),
    ([{"op": "put-instance", "service": "api", "id": "a2", "region": "E U"}], 400, "edits[0].region"),
    ([{"op": "put-record", "name": "x", "type": "A", "ttl": 1, "values": ["1"]}], 400, "edits[0].values[0]"),
    ([{"op": "put-record", "name": "x", "type": "A", "ttl": 0, "values": ["192.0.2.1"]}], 400, "edits[0].ttl"),
    ([{"op": "put-peer", "id": "P", "public_key": make_key(0xA1)}], 400, "edits[0].id"),
    ([{"op": "put-peer", "id": "p", "public_key": "x"}], 400, "edits[0].public_key"),
    ([{"op": "put-peer", "id": "p", "public_key": make_key(0xA1), "gateway": "h 1"}], 400, "edits[0].gateway"),
    ([{"op": "put-peer", "id": "p"}], 400, "edits[0].public_key"),
    ([{"op": "put-peer", "id": "p", "public_key": make_key(0xA1), "gateway": "h9"}], 409, "edits[0].gateway"),
    ([{"op": "put-peer", "id": "p", "public_key": make_key(1)}], 409, "edits[0].public_key"),
    ([{"op": "delete-peer", "id": "nosuch"}], 404, "edits[0].id"),
    ([{"op": "delete-service", "name": "nosuch"}], 404, "edits[0].service"),
    ([{"op": "put-service", "name": "123"}], 400, "edits[0].name"),
    (
        [{"op": "put-record", "name": "x", "type": "CNAME", "ttl": 1, "values": ["x.railway.internal."]}],
        400,
        "edits[0].values",
    ),
    ([{"op": "put-record", "name": "x.api", "type": "A", "ttl": 1, "values": ["192.0.2.1"]}], 409, "records.name"),
]


@pytest.mark.parametrize(("edits", "status", "field"), REFUSED)
async def test_no_edit_is_made_if_one_is_bad(
    production: Api, edits: list[dict[str, Any]], status: int, field: str | None
) -> None:
    good = {"op": "put-service", "name": "web"}
    if edits:  # the bad one comes before or after a good one, and the field names its place
        edits = [*edits, good] if "edits[0]" in (field or "") else [good, *edits]
    refused = await production.post(f"{E}/batch", {"edits": edits})
    assert (refused.status, refused.body.get("field")) == (status, field), refused.body
    shown = (await production.get(E)).body
    assert (shown["revision"], [service["name"] for service in shown["services"]]) == (4, ["api"])


async def test_too_many_edits_at_once(production: Api) -> None:
    edits = [{"op": "put-service", "name": f"s{number}"} for number in range(1001)]
    refused = await production.post(f"{E}/batch", {"edits": edits})
    assert (refused.status, refused.body["field"]) == (400, "edits")
    assert (await production.post(f"{E}/batch", {"edits": edits[:1000]})).status == 200


async def test_a_batch_needs_its_environment(api: Api) -> None:
    refused = await api.post(f"{E}/batch", {"edits": [{"op": "put-service", "name": "web"}]})
    assert (refused.problem, refused.body["field"]) == ("missing", "environment")
