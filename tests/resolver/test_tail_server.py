"""The socket of the query log: one filter in, lines out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from resolver.querylog import QueryLog
from resolver.reasons import Reasons
from resolver.tail_server import TailServer
from tests import worlds
from tests.resolver.messages import query
from tests.resolver.servers import DEADLINE, ask_udp, serving
from tests.waiting import until

PRODUCTION = worlds.compiled(worlds.production())
STAGING = worlds.compiled(worlds.staging())


async def tail(path: Path, wanted: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(wanted + b"\n")
    return reader, writer


async def next_line(reader: asyncio.StreamReader) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE):
        read: dict[str, Any] = json.loads(await reader.readline())
    return read


async def test_lines_come_as_they_happen_and_it_is_off_when_the_watcher_goes(tmp_path: Path) -> None:
    path = tmp_path / "tail.sock"
    async with serving(PRODUCTION, STAGING) as resolver:
        server = TailServer(path, resolver.querylog, lambda: resolver.environments)
        await server.start()
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await tail(path, b'{"environment": "staging"}')
        await until(lambda: resolver.querylog.is_on)
        await ask_udp(resolver.addresses[0], query("nosuch"), worlds.STAGING_SOURCE)
        assert (await next_line(reader))["name"] == "nosuch.railway.internal."
        writer.close()
        await until(lambda: not resolver.querylog.is_on)
        await server.stop()
    assert not path.exists()


@pytest.mark.parametrize(
    "wanted",
    [
        b"nonsense", b'{"colour": "red"}', b"[]", b"5", b"null", b"", b"\xff", b"[" * 50_000, b"x" * 100_000,
        b'{"name": 5}', b'{"name": ["a"]}', b'{"environment": {}}', b'{"rcode": 3}', b'{"rcode": "NOSUCH"}',
        b'{"failed": "yes"}', b'{"failed": null}', b'{"name": "' + b"a" * 2000 + b'"}',
    ],
)  # fmt: skip
async def test_what_is_no_filter_is_refused(wanted: bytes, tmp_path: Path) -> None:
    server = TailServer(tmp_path / "tail.sock", QueryLog(Reasons()), lambda: None)
    await server.start()
    reader, writer = await tail(tmp_path / "tail.sock", wanted)
    error = (await next_line(reader))["error"]
    assert error.startswith("not a filter: ")
    assert len(error) < 400
    writer.close()
    await server.stop()


@pytest.mark.parametrize(
    "wanted", [b"{}", b'{"name": null, "rcode": "refused", "failed": false}', b'{"rcode": "RCODE9"}']
)
async def test_what_is_a_filter_is_taken(wanted: bytes, tmp_path: Path) -> None:
    log = QueryLog(Reasons())
    server = TailServer(tmp_path / "tail.sock", log, lambda: None)
    await server.start()
    _, writer = await tail(tmp_path / "tail.sock", wanted)
    await until(lambda: log.is_on)
    writer.close()
    await server.stop()


@pytest.mark.parametrize(
    ("asked", "loaded", "says"),
    [
        ("prodction", True, "this resolver answers for no environment 'prodction': did you mean production?"),
        ("qqq", True, "this resolver answers for no environment 'qqq': there are production, staging"),
        ("production", True, None),
        ("prodction", False, None),  # it may be loaded in a moment
    ],
)
async def test_an_environment_that_is_not_there_is_an_error(
    asked: str, loaded: bool, says: str | None, tmp_path: Path
) -> None:
    async with serving(PRODUCTION, STAGING, loaded=loaded) as resolver:
        server = TailServer(tmp_path / "tail.sock", resolver.querylog, lambda: resolver.environments)
        await server.start()
        reader, writer = await tail(tmp_path / "tail.sock", json.dumps({"environment": asked}).encode())
        if says:
            assert (await next_line(reader))["error"] == says
        else:
            await until(lambda: resolver.querylog.is_on)
        writer.close()
        await server.stop()
