"""A resolver gives its look-ups to the agent of its host, while that asks for them, and those that it asks for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from resolver import lookups as module
from resolver.lookups import LookupGiver, read_question
from resolver.querylog import Filter
from resolver.server import Resolver
from tests import worlds
from tests.resolver.messages import query
from tests.resolver.servers import DEADLINE, ask_udp, serving
from tests.waiting import until

PRODUCTION = worlds.compiled(worlds.production())
STAGING = worlds.compiled(worlds.staging())


class Agent:
    """The agent's end of the connection: it asks, and keeps what comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.connected = asyncio.Event()
        self.came: list[dict[str, Any]] = []

    async def __aenter__(self) -> Agent:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self.connected.is_set():
            self._writer.close()

    async def ask(self, *filters: dict[str, Any], most: int = 1000) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.connected.wait()
        self._writer.write(json.dumps({"filters": filters, "most": most}).encode() + b"\n")

    def cut(self) -> None:
        self.connected.clear()
        self._writer.close()

    @property
    def names(self) -> list[str]:
        return [one["name"].partition(".")[0] for one in self.came if "name" in one]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.connected.set()
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.came.append(json.loads(line))


@asynccontextmanager
async def giving(path: Path) -> AsyncIterator[tuple[Resolver, Agent]]:
    async with serving(PRODUCTION, STAGING) as resolver, Agent(path) as agent:
        task = asyncio.create_task(LookupGiver(path, resolver.querylog).run())
        try:
            yield resolver, agent
        finally:
            task.cancel()
            await asyncio.wait({task})
            assert not resolver.querylog.is_on


async def test_it_gives_what_is_asked_for_and_nothing_when_nobody_asks(tmp_path: Path) -> None:
    async with giving(tmp_path / "lookups.sock") as (resolver, agent):
        server, log = resolver.addresses[0], resolver.querylog
        await agent.ask()
        await ask_udp(server, query("one"), worlds.PRODUCTION_SOURCE)
        assert not log.is_on
        await agent.ask({"environment": "staging"}, {"name": "single.railway.internal"})
        await until(lambda: log.is_on)
        await ask_udp(server, query("db"), worlds.PRODUCTION_SOURCE)
        await ask_udp(server, query("single"), worlds.PRODUCTION_SOURCE)  # by the second filter
        await ask_udp(server, query("nosuch"), worlds.STAGING_SOURCE)
        await until(lambda: len(agent.names) == 2)
        assert agent.names == ["single", "nosuch"]
        await agent.ask({"rcode": "NXDOMAIN", "type": "aaaa", "source": worlds.PRODUCTION_SOURCE})
        await until(lambda: log._watches[0].filters[0].rcode == "NXDOMAIN")
        await ask_udp(server, query("nosuch"), worlds.STAGING_SOURCE)
        await ask_udp(server, query("gone", "A"), worlds.PRODUCTION_SOURCE)
        await ask_udp(server, query("gone"), worlds.PRODUCTION_SOURCE)
        await until(lambda: len(agent.names) == 3)
        assert (agent.names[2], agent.came[-1]["type"]) == ("gone", "AAAA")
        await agent.ask()
        await until(lambda: not log.is_on)


async def test_it_gives_no_more_than_it_is_asked_for_and_says_how_many_more_there_were(tmp_path: Path) -> None:
    async with giving(tmp_path / "lookups.sock") as (resolver, agent):
        resolver.querylog._clock = lambda: 100.0  # so that it is one moment for the log
        await agent.ask({}, most=25)  # 5 in each fifth of a second
        await until(lambda: resolver.querylog.is_on)
        for number in range(8):
            await ask_udp(resolver.addresses[0], query(f"n{number}"), worlds.PRODUCTION_SOURCE)
        resolver.querylog._clock = lambda: 101.0
        await ask_udp(resolver.addresses[0], query("last"), worlds.PRODUCTION_SOURCE)
        await until(lambda: "last" in agent.names and any("skipped" in one for one in agent.came))
        assert agent.names == ["n0", "n1", "n2", "n3", "n4", "last"]
        assert [one["skipped"] for one in agent.came if "skipped" in one] == [{"production": 3}]


async def test_it_connects_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)
    async with giving(tmp_path / "lookups.sock") as (resolver, agent):
        await agent.ask({})
        await until(lambda: resolver.querylog.is_on)
        agent.cut()
        await until(lambda: not resolver.querylog.is_on)
        await agent.ask({"failed": True})
        await until(lambda: resolver.querylog.is_on)


def test_a_question_is_read() -> None:
    assert read_question(b'{"filters": [{"ok": true}], "most": 7}') == ([Filter(ok=True)], 7)
    for wrong in (b"", b"[]", b"{}", b'{"filters": 3}', b'{"filters": [{"colour": "red"}], "most": 1}'):
        with pytest.raises(ValueError, match=r"."):
            read_question(wrong)
