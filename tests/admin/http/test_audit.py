"""The audit log: one line for every write, with its outcome, and never a secret."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from admin.http.limits import Limits
from store.environments import EnvironmentStore
from store.store import Store
from tests.admin.api import NO_TOKEN, ROOT, Api, E

FIELDS = ("actor", "method", "path", "environment", "revision", "outcome", "status", "source")

Line = tuple[Any, ...]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def audited(log: pytest.LogCaptureFixture) -> list[Line]:
    """The audit lines so far, as tuples of `FIELDS`."""
    found = [record for record in log.records if record.name == "interlock.audit"]
    for record in found:
        assert (record.levelname, record.getMessage()) == ("INFO", "write")
        assert 0 <= record.__dict__["duration_ms"] < 10_000
    log.clear()
    return [tuple(record.__dict__[field] for field in FIELDS) for record in found]


async def test_a_line_for_every_write(api: Api, log: pytest.LogCaptureFixture) -> None:
    here = "127.0.0.1"
    await api.put(E, {})
    assert audited(log) == [("root", "PUT", E, "production", 1, "done", 201, here)]
    await api.put(E, {"enabled": 7})
    assert audited(log) == [("root", "PUT", E, "production", None, "invalid", 400, here)]
    await api.put(E, {}, headers={"If-Match": '"9"'})
    assert audited(log) == [("root", "PUT", E, "production", None, "precondition-failed", 412, here)]
    await api.put(E, {}, token=NO_TOKEN)
    assert audited(log) == [("anonymous", "PUT", E, "production", None, "unauthenticated", 401, here)]
    await api.post(f"{E}/batch", {"edits": [{"op": "put-service", "name": "api"}]})
    assert audited(log) == [("root", "POST", f"{E}/batch", "production", 2, "done", 200, here)]
    await api.delete(f"{E}/services/api")
    assert audited(log) == [("root", "DELETE", f"{E}/services/api", "production", 3, "done", 204, here)]
    await api.put(f"{E}/services/a%0Aforged", {})
    assert [line[2] for line in audited(log)] == [f"{E}/services/a%0Aforged"]

    token = (await api.post(f"{E}/tokens", {"name": "test"})).body
    assert audited(log) == [("root", "POST", f"{E}/tokens", "production", None, "done", 201, here)]
    await api.delete(E, token=token["token"])
    assert audited(log) == [(token["id"], "DELETE", E, "production", None, "forbidden", 403, here)]
    await api.delete(E)
    assert audited(log) == [("root", "DELETE", E, "production", 4, "done", 204, here)]


async def test_no_line_for_a_read_or_for_an_unknown_route(production: Api, log: pytest.LogCaptureFixture) -> None:
    log.clear()
    await production.get(E)
    await production.put("/nosuch", {})
    await production.send("PATCH", E)
    assert audited(log) == []


async def test_a_flood_writes_no_lines(store: Store, log: pytest.LogCaptureFixture) -> None:
    async with Api(store, Limits(anonymous_rate=0.01, anonymous_burst=2)) as api:
        for _ in range(5):
            await api.put(E, {}, token=NO_TOKEN)
    assert len(audited(log)) == 2


async def test_no_log_line_holds_a_secret(production: Api, log: pytest.LogCaptureFixture) -> None:
    token = await production.make_token()
    await production.put(f"{E}/records/x/TXT", {"ttl": 5, "values": ["hush hush"]}, token=token)
    await production.put(f"{E}/records/x/A", {"ttl": 5, "values": ["hush hush"]}, token=token)
    await production.get(E, token="ilk_" + "x" * 43)
    await production.delete(f"{E}/tokens/{token}")  # where its id should be
    logged = " ".join(str(record.__dict__) for record in log.records)
    assert "interlock.audit" in logged
    for secret in (token, ROOT, "hush", "x" * 43):
        assert secret not in logged


async def test_a_fault_of_the_server_is_logged_under_its_reference(
    api: Api, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("an inner secret")

    monkeypatch.setattr(EnvironmentStore, "newest", fail)
    refused = await api.put(E, {})
    assert (refused.status, refused.problem) == (500, "internal")
    assert "secret" not in str(refused.body)
    (failure,) = [record for record in log.records if record.getMessage() == "request_failed"]
    assert failure.__dict__["reference"] in refused.body["detail"]
    assert failure.exc_info
    assert [(line[5], line[6]) for line in audited(log)] == [("internal", 500)]
