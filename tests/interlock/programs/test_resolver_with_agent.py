"""`interlock resolver --agent-dir` as a process of its own: it answers the names that this host has routes to."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from resolver.client import ask
from tests.interlock.processes import DEADLINE, Running, get, interlock, run, run_here, started, wait_until
from tests.worlds import NOW, build
from watcher.feed.protocol import SOCKET
from watcher.feed.server import FeedServer
from zones.edits import PutInstance, PutService, apply
from zones.model import Environment
from zones.names import Name
from zones.records import RRType

SHOP = build("shop", 1, PutService("api"), PutInstance("api", "a1"))


@pytest.fixture
def resolver(tmp_path: Path) -> Iterator[Running]:
    command = interlock(
        "resolver", "--agent-dir", str(tmp_path / "agent"), "--state-dir", str(tmp_path), "--dns-listen", "127.0.0.1:0",
        "--ops-listen", "127.0.0.1:0", "--bind", "127.0.0.1=shop", "--upstream", "none",
    )  # fmt: skip
    with started(*command) as process:
        wait_until(lambda: event(process, "ready") is not None)
        yield process


@asynccontextmanager
async def agent(tmp_path: Path) -> AsyncIterator[FeedServer]:
    """The feed of an agent."""
    server = FeedServer(tmp_path / "agent" / SOCKET)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def event(process: Running, name: str) -> dict[str, object] | None:
    """The first event called ``name`` in the log of ``process``."""
    whole = process.errors.rpartition("\n")[0]
    return next((line for line in map(json.loads, whole.splitlines()) if line["event"] == name), None)


async def http_get(process: Running, path: str) -> tuple[int, str]:
    listening = event(process, "http_listening")
    assert listening is not None
    return await asyncio.to_thread(get, f"http://{listening['address']}{path}")


async def rcode(process: Running, name: str) -> str:
    listening = event(process, "dns_listening")
    assert listening is not None
    port = re.findall(r":(\d+)", str(listening["addresses"]))[0]
    qname = Name.parse(f"{name}.railway.internal")
    return (await asyncio.to_thread(ask, ("127.0.0.1", int(port)), qname, RRType.AAAA)).rcode


async def metric(process: Running, name: str) -> float:
    _status, text = await http_get(process, "/metrics")
    return float(re.findall(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)[0])


async def until_metric(process: Running, name: str, value: float) -> None:
    async with asyncio.timeout(DEADLINE):
        while await metric(process, name) != value:  # noqa: ASYNC110 another process
            await asyncio.sleep(0.02)


def with_service(environment: Environment, name: str) -> Environment:
    return apply(environment, [PutService(name), PutInstance(name, "i1")], NOW)


async def test_it_answers_the_names_that_the_agent_has_published(resolver: Running, tmp_path: Path) -> None:
    status, text = await http_get(resolver, "/readyz?verbose")
    assert status == 503
    assert "[-]names not loaded yet: does the agent of this host answer?" in text
    assert await rcode(resolver, "api") == "SERVFAIL"  # never NXDOMAIN, since no zone is known yet
    assert event(resolver, "agent_unavailable")
    async with agent(tmp_path) as server:
        await until_metric(resolver, "interlock_agent_connected", 1)
        server.announce(SHOP)
        await server.publish(SHOP)
        server.loaded()
        assert await rcode(resolver, "api") == "NOERROR"
        assert await rcode(resolver, "web") == "NXDOMAIN"
        assert await http_get(resolver, "/readyz") == (200, "ok\n")
        assert await metric(resolver, 'interlock_environment_revision{environment="shop"}') == SHOP.revision

        newer = with_service(SHOP, "web")
        server.announce(newer)
        await until_metric(resolver, "interlock_changes_total", 2)
        asked = asyncio.ensure_future(rcode(resolver, "web"))
        await until_metric(resolver, "interlock_queries_held_pending_total", 1)
        assert not asked.done()
        await server.publish(newer)
        assert await asked == "NOERROR"

        server.announce(with_service(newer, "never"))
        await until_metric(resolver, "interlock_changes_total", 3)
        assert await rcode(resolver, "never") == "SERVFAIL"
        assert await metric(resolver, "interlock_queries_pending_timeouts_total") == 1
        assert server.counts.unconfirmed == 0
    await until_metric(resolver, "interlock_agent_connected", 0)
    assert [await rcode(resolver, name) for name in ("api", "web", "nowhere")] == ["NOERROR", "NOERROR", "NXDOMAIN"]
    assert (await http_get(resolver, "/readyz"))[0] == 200  # its answers go on
    assert await metric(resolver, "interlock_agent_disconnects_total") == 1
    async with agent(tmp_path) as server:
        await until_metric(resolver, "interlock_agent_connected", 1)
        server.announce(SHOP)
        await server.publish(SHOP)
        server.loaded()
        assert await rcode(resolver, "web") == "NXDOMAIN"
    assert await asyncio.to_thread(partial(resolver.end, signal.SIGTERM)) == 0
    assert "Traceback" not in resolver.errors


def test_it_takes_a_store_or_an_agent_but_not_both() -> None:
    status, _out, err = run_here("resolver", "--agent-dir", "/run/interlock", "--redis", "redis://localhost")
    assert (status, err.count("\n")) == (78, 1)
    assert "leave out --redis or --agent-dir" in err
    status, _out, err = run_here("resolver")
    assert (status, err.count("\n")) == (78, 1)
    assert "'interlock resolver' needs a store: give --redis URL" in err
    assert "or --agent-dir to learn from this host's agent" in err


def test_a_variable_counts_as_a_flag_does(tmp_path: Path) -> None:
    ended = run(
        *interlock("resolver", "--redis", "redis://localhost"), environ={"INTERLOCK_AGENT_DIR": str(tmp_path)}
    )  # fmt: skip
    assert ended.returncode == 78
    assert ended.stderr.startswith("interlock: a resolver learns from the store or from this host's agent")
