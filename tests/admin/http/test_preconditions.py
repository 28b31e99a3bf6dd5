"""Conditional requests: the revision as entity tag."""

from __future__ import annotations

import pytest

from tests.admin.api import Api, E

READS = [E, f"{E}/services", f"{E}/services/api", f"{E}/services/api/instances", f"{E}/services/api/instances/a1",
         f"{E}/records", f"{E}/records/db/CNAME", f"{E}/peers"]  # fmt: skip


@pytest.mark.parametrize("path", READS)
async def test_a_reader_that_has_the_revision_gets_304(production: Api, path: str) -> None:
    first = await production.get(path)
    assert first.headers["ETag"] == '"4"'
    for condition, status in (('"4"', 304), ('W/"4"', 304), ('"3", "4"', 304), ("*", 304), ('"3"', 200)):
        again = await production.get(path, headers={"If-None-Match": condition})
        assert (again.status, again.headers["ETag"]) == (status, '"4"')
        assert bool(again.body) is (status == 200)


# method, path, headers → status, problem; production is at revision 4
WRITES: list[tuple[str, str, dict[str, str], int]] = [
    ("PUT", E, {"If-Match": '"4"'}, 200),
    ("PUT", E, {"If-Match": '"3", "4"'}, 200),
    ("PUT", E, {"If-Match": "*"}, 200),
    ("PUT", E, {"If-Match": '"3"'}, 412),
    ("PUT", E, {"If-Match": '"5"'}, 412),
    ("PUT", E, {"If-Match": 'W/"4"'}, 412),
    ("PUT", E, {"If-Match": '"abc"'}, 412),
    ("PUT", E, {"If-Match": "4"}, 400),
    ("PUT", E, {"If-Match": ""}, 400),
    ("PUT", E, {"If-None-Match": "*"}, 412),
    ("PUT", E, {"If-None-Match": '"4"'}, 400),
    ("PUT", E, {"If-None-Match": ""}, 400),
    ("PUT", "/v1/environments/new", {"If-None-Match": "*"}, 201),
    ("PUT", "/v1/environments/new", {"If-Match": "*"}, 412),
    ("PUT", "/v1/environments/new", {"If-Match": '"1"'}, 412),
    ("PUT", f"{E}/services/api", {"If-Match": '"4"'}, 200),
    ("PUT", f"{E}/services/api", {"If-Match": '"3"'}, 412),
    ("PUT", f"{E}/services/api", {"If-None-Match": "*"}, 412),
    ("PUT", f"{E}/services/new", {"If-None-Match": "*"}, 201),
    ("PUT", f"{E}/services/new", {"If-Match": '"4"'}, 201),
    ("PUT", f"{E}/services/new", {"If-Match": "*"}, 412),
    ("PUT", f"{E}/services/api/instances/a1", {"If-None-Match": "*"}, 412),
    ("PUT", f"{E}/services/api/instances/a2", {"If-None-Match": "*"}, 201),
    ("DELETE", f"{E}/services/api", {"If-Match": '"3"'}, 412),
    ("DELETE", f"{E}/services/api", {"If-Match": '"4"'}, 204),
    ("DELETE", f"{E}/services/nosuch", {"If-Match": '"4"'}, 404),
    ("DELETE", f"{E}/records/db/CNAME", {"If-Match": '"3"'}, 412),
    ("DELETE", f"{E}/services/nosuch", {"If-Match": '"3"'}, 404),
    ("PUT", f"{E}/services/Invalid", {"If-Match": '"3"'}, 400),
    ("DELETE", "/v1/environments/nosuch", {"If-Match": '"3"'}, 404),
    ("DELETE", E, {"If-Match": '"3"'}, 412),
    ("DELETE", E, {"If-Match": '"4"'}, 204),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), WRITES)
async def test_a_write_under_a_condition(
    production: Api, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    body: dict[str, str] | None = {} if method == "PUT" else None
    answer = await production.send(method, path, body, headers=headers)
    assert answer.status == status, answer
    if status == 412:
        assert answer.problem == "precondition-failed"
    if status == 400 and "Invalid" not in path:
        assert answer.body["field"] == next(iter(headers))
    if status >= 400:
        assert (await production.get(E)).body["revision"] == 4


async def test_a_batch_under_a_condition(production: Api) -> None:
    body = {"edits": [{"op": "put-service", "name": "web"}]}
    assert (await production.post(f"{E}/batch", body, headers={"If-Match": '"3"'})).status == 412
    assert (await production.post(f"{E}/batch", body, headers={"If-Match": '"4"'})).status == 200
