"""Conditional requests: the revision and the digest of the document as entity tag."""

from __future__ import annotations

import re

import pytest

from tests.admin.api import Api, E
from tests.store.servers import redis_of

READS = [E, f"{E}/services", f"{E}/services/api", f"{E}/services/api/instances", f"{E}/services/api/instances/a1",
         f"{E}/records", f"{E}/records/db/CNAME", f"{E}/peers"]  # fmt: skip


@pytest.mark.parametrize("path", READS)
async def test_a_reader_that_has_the_revision_gets_304(production: Api, path: str) -> None:
    etag = (await production.get(path)).headers["ETag"]
    assert re.fullmatch(r'"4-[0-9a-f]{32}"', etag)
    for condition, status in ((etag, 304), (f"W/{etag}", 304), (f'"3", {etag}', 304), ("*", 304), ('"4"', 200)):
        again = await production.get(path, headers={"If-None-Match": condition})
        assert (again.status, again.headers["ETag"]) == (status, etag)
        assert bool(again.body) is (status == 200)


# method, path, headers → status; production is at revision 4, and ETAG stands for its entity tag
ETAG = "ETAG"
WRITES: list[tuple[str, str, dict[str, str], int]] = [
    ("PUT", E, {"If-Match": ETAG}, 200),
    ("PUT", E, {"If-Match": f'"3", {ETAG}'}, 200),
    ("PUT", E, {"If-Match": "*"}, 200),
    ("PUT", E, {"If-Match": '"3"'}, 412),
    ("PUT", E, {"If-Match": '"5"'}, 412),
    ("PUT", E, {"If-Match": f"W/{ETAG}"}, 412),
    ("PUT", E, {"If-Match": '"abc"'}, 412),
    ("PUT", E, {"If-Match": '"4"'}, 412),
    ("PUT", E, {"If-Match": "4"}, 400),
    ("PUT", E, {"If-Match": ""}, 400),
    ("PUT", E, {"If-None-Match": "*"}, 412),
    ("PUT", E, {"If-None-Match": ETAG}, 400),
    ("PUT", E, {"If-None-Match": ""}, 400),
    ("PUT", "/v1/environments/new", {"If-None-Match": "*"}, 201),
    ("PUT", "/v1/environments/new", {"If-Match": "*"}, 412),
    ("PUT", "/v1/environments/new", {"If-Match": '"1"'}, 412),
    ("PUT", f"{E}/services/api", {"If-Match": ETAG}, 200),
    ("PUT", f"{E}/services/api", {"If-Match": '"3"'}, 412),
    ("PUT", f"{E}/services/api", {"If-None-Match": "*"}, 412),
    ("PUT", f"{E}/services/new", {"If-None-Match": "*"}, 201),
    ("PUT", f"{E}/services/new", {"If-Match": ETAG}, 201),
    ("PUT", f"{E}/services/new", {"If-Match": "*"}, 412),
    ("PUT", f"{E}/services/api/instances/a1", {"If-None-Match": "*"}, 412),
    ("PUT", f"{E}/services/api/instances/a2", {"If-None-Match": "*"}, 201),
    ("DELETE", f"{E}/services/api", {"If-Match": '"3"'}, 412),
    ("DELETE", f"{E}/services/api", {"If-Match": ETAG}, 204),
    ("DELETE", f"{E}/services/nosuch", {"If-Match": ETAG}, 404),
    ("DELETE", f"{E}/records/db/CNAME", {"If-Match": '"3"'}, 412),
    ("DELETE", f"{E}/services/nosuch", {"If-Match": '"3"'}, 404),
    ("PUT", f"{E}/services/Invalid", {"If-Match": '"3"'}, 400),
    ("DELETE", "/v1/environments/nosuch", {"If-Match": '"3"'}, 404),
    ("DELETE", E, {"If-Match": '"3"'}, 412),
    ("DELETE", E, {"If-Match": ETAG}, 204),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), WRITES)
async def test_a_write_under_a_condition(
    production: Api, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    body: dict[str, str] | None = {} if method == "PUT" else None
    etag = (await production.get(E)).headers["ETag"]
    sent = {name: value.replace(ETAG, etag) for name, value in headers.items()}
    answer = await production.send(method, path, body, headers=sent)
    assert answer.status == status, answer
    if status == 412:
        assert answer.problem == "precondition-failed"
    if status == 400 and "Invalid" not in path:
        assert answer.body["field"] == next(iter(headers))
    if status >= 400:
        assert (await production.get(E)).body["revision"] == 4


async def test_a_batch_under_a_condition(production: Api) -> None:
    body = {"edits": [{"op": "put-service", "name": "web"}]}
    etag = (await production.get(E)).headers["ETag"]
    assert (await production.post(f"{E}/batch", body, headers={"If-Match": '"3"'})).status == 412
    assert (await production.post(f"{E}/batch", body, headers={"If-Match": etag})).status == 200


async def test_an_etag_of_before_a_restore_deletes_nothing_that_came_after_it(production: Api, store_url: str) -> None:
    """The revision comes again after it, for another document."""
    prefix = production.store.connection.keys.prefix
    async with redis_of(store_url) as redis:
        saved = {key: await redis.dump(key) async for key in redis.scan_iter(f"{prefix}*")}
        old = await production.put(f"{E}/services/web", {})
        for key in saved:
            await redis.restore(key, 0, saved[key], replace=True)
        new = await production.put(f"{E}/services/new", {})
        assert (old.body["revision"], new.body["revision"]) == (5, 5)
        refused = await production.delete(f"{E}/services/new", headers={"If-Match": old.headers["ETag"]})
        assert (refused.status, refused.problem) == (412, "precondition-failed")
        assert (await production.delete(f"{E}/services/new", headers={"If-Match": new.headers["ETag"]})).status == 204
