"""Look-ups as a stream: of one environment for its token, of all for the root token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from admin.resources import lookups as module
from tests.admin.api import ROOT, Api, E
from tests.waiting import scaled, until
from watcher.session.lookups import Lookup

DEADLINE = scaled(60.0)  # seconds
EVENTS = {"Accept": "text/event-stream"}


def lookup(name: str, environment: str | None = "production", rcode: str = "NOERROR") -> Lookup:
    return Lookup(1.0, environment, "fd12::1", name, "AAAA", rcode)


@asynccontextmanager
async def watching(
    api: Api, path: str, token: str = ROOT, headers: Mapping[str, str] | None = None
) -> AsyncIterator[ClientResponse]:
    """The reply to a GET of ``path``, which has begun."""
    sent = {"Authorization": f"Bearer {token}", **(headers or {})}
    async with ClientSession(f"http://127.0.0.1:{api.port}") as http, http.get(path, headers=sent) as reply:
        assert reply.status == 200, await reply.text()
        yield reply


async def next_line(reply: ClientResponse) -> Any:
    async with asyncio.timeout(DEADLINE):
        while not (line := (await reply.content.readline()).strip()):
            assert not reply.content.at_eof()
        return json.loads(line)


async def test_the_look_ups_of_an_environment_come_as_they_happen(production: Api) -> None:
    token, hub = await production.make_token(), production.context.lookups
    async with watching(production, f"{E}/lookups", token) as reply:
        assert reply.headers["Content-Type"] == "application/x-ndjson"
        assert await next_line(reply) == {"heard": [], "silent": [], "unheard": [], "here": False, "left_out": 0}
        hub.take([lookup("a."), lookup("b.", "staging"), lookup("c.", None), lookup("d.")], {})
        assert [(await next_line(reply))["name"] for _ in range(2)] == ["a.", "d."]
    await until(lambda: not hub.viewers)


async def test_as_server_sent_events_for_all_environments(production: Api) -> None:
    async with watching(production, "/v1/lookups?result=failed", headers=EVENTS) as reply:
        assert reply.headers["Content-Type"] == "text/event-stream"
        read = b""
        async with asyncio.timeout(DEADLINE):
            while b"event: status" not in read:
                read += await reply.content.readany()
            production.context.lookups.take([lookup("a."), lookup("<b>\n.", "staging", "NXDOMAIN")], {})
            while not read.endswith(b"]\n\n"):
                read += await reply.content.readany()
    event, data = read.split(b"\n\n")[-2].split(b"\n")
    assert event == b"event: lookups"
    assert [one["name"] for one in json.loads(data.removeprefix(b"data: "))] == ["<b>\n."]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/environments/staging/lookups", 403),
        ("/v1/lookups", 403),
        (f"{E}/lookups?result=colour", 400),
        (f"{E}/lookups?environment=staging", 400),
    ],
)
async def test_a_token_hears_its_own_environment_alone(production: Api, path: str, status: int) -> None:
    token = await production.make_token()
    assert (await production.get(path, token=token)).status == status


async def test_a_name_may_be_a_label_below_the_zone(production: Api) -> None:
    async with watching(production, f"{E}/lookups?name=api&type=aaaa") as reply:
        await next_line(reply)
        took = [lookup("api.example."), lookup("a1.api.railway.internal."), lookup("API.railway.internal.")]
        production.context.lookups.take(took, {})
        assert [(await next_line(reply))["name"] for _ in range(2)] == [one.name for one in took[1:]]


async def test_without_a_token_nobody_hears_anything(production: Api) -> None:
    for path in (f"{E}/lookups", "/v1/lookups"):
        assert (await production.get(path, token="")).status == 401


async def test_a_token_that_is_revoked_hears_no_more(production: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALIVE_EVERY", 0.01)
    monkeypatch.setattr(module, "CHECK_EVERY", 0.01)
    made = (await production.post(f"{E}/tokens", {"name": "test"})).body
    async with watching(production, f"{E}/lookups", made["token"]) as reply:
        await next_line(reply)
        await production.delete(f"{E}/tokens/{made['id']}")
        async with asyncio.timeout(DEADLINE):
            await reply.content.read()


async def test_a_stream_outlasts_the_limit_of_a_request_and_ends_with_the_process(production: Api) -> None:
    object.__setattr__(production.context.limits, "request_seconds", 0.05)
    async with watching(production, f"{E}/lookups") as reply:
        await next_line(reply)
        async with asyncio.timeout(0.3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await reply.content.readany()
        ending = asyncio.create_task(production._until_over.aclose())
        async with asyncio.timeout(DEADLINE):
            await reply.content.read()
            await ending
