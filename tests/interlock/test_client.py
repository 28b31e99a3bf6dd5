"""The client of the admin API, against a real HTTP server that gives the reply of each case."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from interlock.client import Client
from interlock.errors import ApiRefused, ApiUnreachable, BadSetting
from interlock.settings.sources import read_settings


class Scripted(ThreadingHTTPServer):
    """Answers every request with ``reply`` (status, headers, body), and records the requests."""

    reply: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        status, headers, content = self.server.reply
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 the names are the library's

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_request_carries_token_path_and_body(server: Scripted) -> None:
    server.reply = (201, {}, b'{"id": "a1"}')
    made = Client(server.url, "secret").put("environments", "a/b", "services", "api", body={"ports": []})
    assert made == {"id": "a1"}
    ((method, path, headers, body),) = server.requests
    assert (method, path) == ("PUT", "/v1/environments/a%2Fb/services/api")
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"ports": []}


def test_a_query_and_an_empty_reply(server: Scripted) -> None:
    server.reply = (204, {}, b"")
    assert Client(server.url, "secret").get("explain", query={"name": "a b"}) is None
    assert server.requests[0][1] == "/v1/explain?name=a+b"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((409, b'{"title": "Conflict", "detail": "a service exists already"}'), "Conflict: a service exists already"),
        ((400, b'{"title": "Bad"}'), "Bad"),
        ((503, b"<html>"), "503 Service Unavailable"),
        ((500, b"[]"), "500 Internal Server Error"),
        ((302, b""), "302 Found"),
    ],
)
def test_a_refusal_is_one_line(server: Scripted, reply: tuple[int, bytes], said: str) -> None:
    server.reply = (reply[0], {"Location": f"{server.url}/elsewhere"}, reply[1])
    with pytest.raises(ApiRefused) as refused:
        Client(server.url, "secret").get("environments")
    assert str(refused.value) == said
    assert refused.value.status == reply[0]
    assert len(server.requests) == 1  # the token goes nowhere else


def test_no_proxy_sees_the_token(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert Client(server.url, "secret").get("environments") == {}


def test_a_reply_that_is_not_an_apis(server: Scripted) -> None:
    server.reply = (200, {}, b"hello")
    with pytest.raises(ApiUnreachable, match="does not answer as an API"):
        Client(server.url, "secret").get("environments")


def test_no_server_listens() -> None:
    with pytest.raises(ApiUnreachable, match=r"http://127.0.0.1:9 does not answer: Connection refused"):
        Client("http://127.0.0.1:9", "secret").get("environments")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"", "is empty"), (b"\xff", "does not hold a token")]
)
def test_no_token(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "admin.token").write_bytes(content)
    with pytest.raises(BadSetting, match=f"no admin token: .*{said}.*give --token"):
        Client.of(read_settings({"state_dir": str(tmp_path)}, {}))


def test_the_token_of_the_state_directory(tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text("from-file\n")
    assert Client.of(read_settings({"state_dir": str(tmp_path)}, {})).token == "from-file"
    given = read_settings({"state_dir": str(tmp_path), "token": "given"}, {})
    assert Client.of(given).token == "given"
