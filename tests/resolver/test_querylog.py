"""A watcher sees each query as it was answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from resolver import querylog
from resolver.querylog import Filter, Line, QueryLog, TailServer
from resolver.server import Resolver
from tests import worlds
from tests.resolver.messages import query
from tests.resolver.servers import DEADLINE, ask_tcp, ask_udp, serving
from tests.waiting import until

PRODUCTION = worlds.compiled(worlds.production())
STAGING = worlds.compiled(worlds.staging())


async def ask_some(resolver: Resolver) -> None:
    server = resolver.addresses[0]
    await ask_udp(server, query("db", payload=1232), worlds.PRODUCTION_SOURCE)
    await ask_udp(server, query("db", payload=1232), worlds.PRODUCTION_SOURCE)  # from the packet cache
    await ask_udp(server, query("nosuch"), worlds.STAGING_SOURCE)
    await ask_tcp(server, query("www.example.com.", "A"), worlds.PRODUCTION_SOURCE)
    await ask_udp(server, query("api"), worlds.OUTSIDE_SOURCE)


def lines(queue: asyncio.Queue[Line]) -> list[Line]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


async def test_each_query_is_logged_as_it_was_answered() -> None:
    async with serving(PRODUCTION, STAGING) as resolver:
        await ask_some(resolver)  # nobody watches yet
        queue = resolver.querylog.watch(Filter())
        await ask_some(resolver)
        seen = lines(queue)
    first, again, missing, outside_name, outsider = seen
    assert (first.name, first.type, first.rcode, first.environment) == (
        "db.railway.internal.",
        "AAAA",
        "NOERROR",
        "production",
    )
    assert first.aliases == ("single.railway.internal.",)
    assert "fd12:5b1e:90c4:2::1" in first.answers[1]
    assert (first.source, first.transport, first.scope, first.edns) == ("127.0.0.2", "udp", "environment", 1232)
    assert 0 < first.duration_ms < 1000
    assert again.answers == first.answers
    assert (missing.rcode, missing.environment, missing.edns) == ("NXDOMAIN", "staging", None)
    assert (outside_name.rcode, outside_name.transport) == ("REFUSED", "tcp")
    assert (outsider.environment, outsider.scope, outsider.rcode) == (None, "outside", "REFUSED")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(environment="staging"), ["nosuch.railway.internal."]),
        (Filter(name="example.com"), ["www.example.com."]),
        (Filter(name="xample.com"), []),
        (Filter(rcode="nxdomain"), ["nosuch.railway.internal."]),
        (Filter(failed=True), ["nosuch.railway.internal.", "www.example.com.", "api.railway.internal."]),
    ],
)
async def test_a_watcher_sees_what_it_asked_for(wanted: Filter, names: list[str]) -> None:
    async with serving(PRODUCTION, STAGING) as resolver:
        queue = resolver.querylog.watch(wanted)
        await ask_some(resolver)
        assert [line.name for line in lines(queue)] == names


async def test_it_is_off_when_the_last_watcher_has_gone() -> None:
    log = QueryLog()
    first, second = log.watch(Filter()), log.watch(Filter())
    log.unwatch(first)
    assert log.is_on
    log.unwatch(second)
    assert not log.is_on


async def test_under_load_some_are_passed_over_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(querylog, "MOST_LINES", 10)
    monkeypatch.setattr(querylog, "QUEUE", 5)
    now = 100.0
    async with serving(PRODUCTION) as resolver:
        log = resolver.querylog
        log._clock = lambda: now
        queue = log.watch(Filter())
        for _ in range(20):
            await ask_udp(resolver.addresses[0], query("single"), worlds.PRODUCTION_SOURCE)
        assert (queue.qsize(), log.skipped) == (5, 15)
        lines(queue)
        now = 101.0
        await ask_udp(resolver.addresses[0], query("single"), worlds.PRODUCTION_SOURCE)
        assert queue.qsize() == 1


async def test_a_name_that_is_no_text_is_logged_too() -> None:
    async with serving(PRODUCTION) as resolver:
        queue = resolver.querylog.watch(Filter())
        packet = bytearray(query("xxx"))
        packet[13:16] = b"\xff\0."
        await ask_udp(resolver.addresses[0], bytes(packet), worlds.PRODUCTION_SOURCE)
        (line,) = lines(queue)
        assert (line.name, line.rcode) == (r"\255\000\..railway.internal.", "NXDOMAIN")


class TestTail:
    """The local socket: one filter in, lines out."""

    @staticmethod
    async def tail(path: Path, wanted: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(wanted + b"\n")
        return reader, writer

    @staticmethod
    async def next_line(reader: asyncio.StreamReader) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE):
            read: dict[str, Any] = json.loads(await reader.readline())
        return read

    async def test_lines_come_as_they_happen_and_it_is_off_when_the_watcher_goes(self, tmp_path: Path) -> None:
        path = tmp_path / "tail.sock"
        async with serving(PRODUCTION, STAGING) as resolver:
            server = TailServer(path, resolver.querylog)
            await server.start()
            assert path.stat().st_mode & 0o777 == 0o600
            reader, writer = await self.tail(path, b'{"environment": "staging"}')
            await until(lambda: resolver.querylog.is_on)
            await ask_some(resolver)
            assert (await self.next_line(reader))["name"] == "nosuch.railway.internal."
            writer.close()
            await until(lambda: not resolver.querylog.is_on)
            await server.stop()
        assert not path.exists()

    @pytest.mark.parametrize("wanted", [b"nonsense", b'{"colour": "red"}', b"[]"])
    async def test_what_is_no_filter_is_refused(self, wanted: bytes, tmp_path: Path) -> None:
        server = TailServer(tmp_path / "tail.sock", QueryLog())
        await server.start()
        reader, writer = await self.tail(tmp_path / "tail.sock", wanted)
        assert "not a filter" in (await self.next_line(reader))["error"]
        writer.close()
        await server.stop()
