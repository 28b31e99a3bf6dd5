"""Bad requests: each is a 4xx that names the field and the rule, and none reaches the store."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from admin.http.limits import Limits
from store.store import Store
from tests.admin.api import ROOT, Api, E

S, I, T = f"{E}/services/api", f"{E}/services/api/instances/a1", f"{E}/tokens"  # noqa: E741 one letter a resource

# path, body → field, and what the detail says
BODIES: list[tuple[str, Any, str | None, str]] = [
    (E, {"enabled": 1}, "enabled", "expected `bool`, got `int`"),
    (E, {"enabled": None}, "enabled", "expected `bool`, got `null`"),
    (E, {"enabld": True}, "enabld", "unknown field"),
    (E, [], None, "expected `object`, got `array`"),
    ("/v1/environments/Upper", {}, "environment", "a-z, 0-9 and '-'"),
    ("/v1/environments/" + "x" * 64, {}, "environment", "1 to 63"),
    ("/v1/environments/a%2Fb", {}, "environment", "a-z, 0-9 and '-'"),
    ("/v1/environments/a%00b", {}, "environment", "a-z, 0-9 and '-'"),
    ("/v1/environments/%C3%BC", {}, "environment", "a-z, 0-9 and '-'"),
    (f"{E}/services/-x", {}, "name", "no '-' at either end"),
    (f"{E}/services/health", {}, "name", "reserved"),
    (f"{E}/services/_x", {}, "name", "a-z, 0-9 and '-'"),
    (S, {"rename": "railway-internal-x"}, "rename", "reserved"),
    (S, {"name": "railway-internal-x"}, "name", "reserved"),
    (S, {"rename": "web", "overlap_seconds": -1}, "overlap_seconds", ">= 0"),
    (S, {"name": "web", "overlap_seconds": 10**9}, "overlap_seconds", "<= 2592000"),
    (S, {"overlap_seconds": 1}, "overlap_seconds", "give the new one"),
    (S, {"ports": {}}, "ports", "expected `array`"),
    (S, {"ports": [{"name": "http", "number": "80"}]}, "ports[0].number", "expected `int`, got `str`"),
    (S, {"ports": [{"name": "http", "number": 65536}]}, "ports[0].number", "1 to 65535"),
    (S, {"ports": [{"name": "8080", "number": 80}]}, "ports[0].name", "RFC 6335"),
    (S, {"ports": [{"name": "http"}]}, "ports[0].number", "missing required field"),
    (S, {"ports": [{"name": "http", "number": 80, "protocol": "sctp"}]}, "ports[0].protocol", "sctp"),
    (S, {"ports": [{"name": "a", "number": 1}, {"name": "a", "number": 2}]}, "ports", "name each differently"),
    (I, {"state": "gone"}, "state", "gone"),
    (I, {"region": "E U"}, "region", "a-z, 0-9 and '-'"),
    (I, {"host": ""}, "host", "1 to 63"),
    (I, {"address": "fd12::1"}, "address", "unknown field"),
    (f"{S}/instances/all", {}, "id", "reserved"),
    (T, {}, "name", "missing required field"),
    (T, {"name": ""}, "name", "length >= 1"),
    (T, {"name": "x" * 65}, "name", "length <= 64"),
    (T, {"name": "bell\x07"}, "name", "printed"),
]


@pytest.mark.parametrize(("path", "body", "field", "said"), BODIES)
async def test_a_body_that_breaks_a_rule(production: Api, path: str, body: Any, field: str | None, said: str) -> None:
    refused = await production.send("POST" if path == T else "PUT", path, body)
    assert (refused.status, refused.problem, refused.body.get("field")) == (400, "invalid", field), refused.body
    assert said in refused.body["detail"]
    assert refused.body["instance"] == path
    assert (await production.get(E)).body["revision"] == 4


RAW: list[tuple[bytes, str]] = [
    (b"", "malformed"),
    (b"{", "malformed"),
    (b"nonsense", "malformed"),
    (b"{}{}", "malformed"),
    (b'{"rename": "\\ud800"}', "malformed"),
    (b'{"ports": [{"name": "\xff"}]}', "malformed"),
    (b"\xef\xbb\xbf{}", "malformed"),
    (b'{"rename":' + b"[" * 100_000, "invalid"),  # refused at the first bracket
]


@pytest.mark.parametrize(("raw", "problem"), RAW, ids=lambda value: repr(value[:12]))
async def test_a_body_that_is_not_json(production: Api, raw: bytes, problem: str) -> None:
    refused = await production.put(S, None, raw=raw)
    assert (refused.status, refused.problem) == (400, problem)


@pytest.mark.parametrize("type_", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_a_body_that_does_not_say_that_it_is_json(production: Api, type_: str) -> None:
    refused = await production.put(S, None, raw=b"{}", headers={"Content-Type": type_})
    assert (refused.status, refused.problem) == (415, "unsupported-media-type")


async def test_a_body_in_utf_8_may_say_so(production: Api) -> None:
    answer = await production.put(S, None, raw=b"{}", headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.status == 200


async def test_a_body_that_is_too_large(store: Store) -> None:
    async with Api(store, Limits(body_bytes=1000)) as api:
        at_most = b"{}" + b" " * 998
        assert (await api.put(E, None, raw=at_most)).status == 201
        refused = await api.put(E, None, raw=at_most + b" ")
        assert (refused.status, refused.problem) == (413, "too-large")
        assert "1000 octets" in refused.body["detail"]
        bomb = await api.put(E, None, raw=gzip.compress(bytes(100_000)), headers={"Content-Encoding": "gzip"})
        assert bomb.status == 413


async def test_a_body_that_is_not_what_its_encoding_says(api: Api) -> None:
    refused = await api.put(E, None, raw=b"no gzip at all", headers={"Content-Encoding": "gzip"})
    assert (refused.status, refused.problem) == (400, "malformed")


async def test_a_body_that_never_ends(store: Store) -> None:
    async with Api(store, Limits(body_seconds=0.05)) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        head = f"PUT {E} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ROOT}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()
        assert (await api.get(E)).status == 404


async def test_a_client_that_disconnects_in_the_middle_of_its_body(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"PUT {E} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ROOT}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{".encode())
    await writer.drain()
    assert (await api.get(E)).status == 404  # by then the server waits for the rest of the body
    writer.close()
    await writer.wait_closed()
    assert (await api.get(E)).status == 404
    assert "request_failed" not in caplog.messages


QUERIES = [
    ("limit=0", "limit", ">= 1"),
    ("limit=1001", "limit", "<= 1000"),
    ("limit=x", "limit", "expected `int`"),
    ("limit=1&limit=2", "limit", "twice"),
    ("lmit=1", "lmit", "unknown field"),
]


@pytest.mark.parametrize(("query", "field", "said"), QUERIES)
async def test_a_query_that_breaks_a_rule(production: Api, query: str, field: str, said: str) -> None:
    for path in ("/v1/environments", f"{E}/services", f"{S}/instances", f"{E}/records", f"{E}/peers", "/v1/hosts"):
        refused = await production.get(f"{path}?{query}")
        assert (refused.status, refused.body["field"]) == (400, field)
        assert said in refused.body["detail"]


async def test_unknown_paths_and_methods(production: Api) -> None:
    for path in ("/v1", "/v2/environments", f"{E}/", f"{E}/peer", "/v1//environments", "/v1/environments/"):
        refused = await production.get(path)
        assert (refused.status, refused.problem) == (404, "no-such-path"), path
    refused = await production.send("PATCH", S)
    assert (refused.status, refused.problem) == (405, "no-such-method")
    assert refused.headers["Allow"] == "DELETE, GET, HEAD, PUT"
    assert refused.headers["Allow"] in refused.body["detail"]


async def test_the_headers_of_every_reply(production: Api) -> None:
    for answer in (await production.get(E), await production.get("/nosuch"), await production.get("/livez")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Server"] == "interlock"


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", E), ("DELETE", I), ("POST", "/v1/guard/confirm"), ("DELETE", f"{E}/tokens/x"), ("PUT", I)],
)
async def test_a_write_with_inputs_that_it_would_not_look_at(production: Api, method: str, path: str) -> None:
    """Whoever sends ``?dry_run=true``, or a body that is to narrow it down, believes that it does something else."""
    body: dict[str, object] | None = {} if method == "PUT" else None
    refused = await production.send(method, f"{path}?dry_run=true", body)
    assert (refused.status, refused.problem, refused.body["field"]) == (400, "malformed", "dry_run"), refused
    assert "leave it out" in refused.body["detail"]
    if method != "PUT":
        for raw in (b'{"only": ["staging"]}', b"[]", b"garbage"):
            refused = await production.send(method, path, raw=raw)
            assert (refused.status, refused.problem) == (400, "malformed"), refused
            assert refused.body["detail"] == "this takes no body: send none"
    assert (await production.get(E)).status == 200
    assert await production.store.guard.read() is None
