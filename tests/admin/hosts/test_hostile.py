"""Sessions that take more than their share, or send what is no message: they are bounded, and nobody else waits."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from msgspec import structs

from admin.hosts.limits import HostLimits
from store.store import Store
from tests.admin.api import Api
from tests.admin.hosts.agents import DEADLINE, ControlPlane, LightAgent, enrol
from tests.waiting import until, waited_for_processor
from watcher.session.protocol import (
    MAX_REQUEST,
    Acknowledge,
    Close,
    Hello,
    PutInstance,
    Register,
    Renew,
    Wait,
    encode,
)
from zones.model import State
from zones.names import EnvironmentId

PRODUCTION = EnvironmentId("production")
LIMITS = HostLimits(
    strangers=40, strangers_of_one=20, stranger_seconds=60.0, rate=20.0, burst=40.0, waiting=50, send_seconds=3.0
)  # a slow machine takes seconds to begin a session; where strangers should be brief, the limit is another one


@pytest_asyncio.fixture
async def bounded(store: Store) -> Any:
    async with ControlPlane(store, LIMITS) as plane:
        yield plane


@pytest_asyncio.fixture
async def slowed(store: Store) -> Any:
    """Its limits are reached where the machine is busy too."""
    async with ControlPlane(store, replace(LIMITS, rate=5.0, burst=10.0)) as plane:
        yield plane


async def agent_of(api: Api, plane: ControlPlane, host: str) -> LightAgent:
    made = await api.post(f"/v1/hosts/{host}/enrolments", {})
    return await LightAgent(plane.url, await enrol(plane.url, host, made.body["token"])).__aenter__()


@pytest.mark.parametrize(
    "sent", [b"", b"no JSON", b'{"is":"hello","number":1}', b"[" * 100_000, b'{"is":"renew","number":"x"}']
)
async def test_what_is_no_message_ends_the_session(api: Api, bounded: ControlPlane, sent: bytes) -> None:
    agent = await agent_of(api, bounded, "h1")
    await agent.socket.send_bytes(sent)
    assert await agent.wait_for_end() == Close.BROKEN
    await agent.__aexit__()


async def test_a_message_that_is_too_large_ends_the_session(api: Api, bounded: ControlPlane) -> None:
    agent = await agent_of(api, bounded, "h1")
    with_much = encode(Acknowledge(7, {f"e{number}": 1 for number in range(100_000)}))
    assert len(with_much) > MAX_REQUEST
    await agent.socket.send_bytes(with_much)
    assert await agent.wait_for_end() in (1009, 1006)
    await agent.__aexit__()


async def test_before_hello_nothing_is_answered_and_hello_once(api: Api, bounded: ControlPlane) -> None:
    agent = await agent_of(api, bounded, "h1")
    for hello in (Hello(8, 1, "i1", ""), Hello(9, 0, "i2", "")):
        with pytest.raises(Exception, match="invalid: the session has begun already"):
            await agent.ask(hello)
    await agent.__aexit__()


async def test_a_flood_of_requests_slows_its_own_host_alone(api: Api, slowed: ControlPlane) -> None:
    limits = slowed.service.limits
    flooding, calm = await agent_of(api, slowed, "h1"), await agent_of(api, slowed, "h2")
    await calm.join("192.0.2.2:51820")

    async def flood() -> None:
        for number in range(5_000):
            await flooding.socket.send_bytes(encode(Renew(1000 + number, True)))
            await asyncio.sleep(0)

    flood_task = asyncio.create_task(flood())
    await until(lambda: slowed.service.counts.throttled > 10, "throttled")
    began = time.monotonic()
    answered = slowed.service.counts.requests["Renew", "done"]
    slowest, calm_requests = 0.0, 0
    while calm_requests < 5 or time.monotonic() - began < 2:  # long enough that the burst does not count for much
        before, waited = time.monotonic(), waited_for_processor()
        await calm.do(Renew, True)
        calm_requests += 1
        slowest = max(slowest, time.monotonic() - before - (waited_for_processor() - waited))
        await asyncio.sleep(1 / limits.rate)
    seconds = time.monotonic() - began
    flooded = slowed.service.counts.requests["Renew", "done"] - answered - calm_requests
    print(
        f"the flooding host is answered {flooded / seconds:.0f} times a second, the calm one after"
        f" {slowest * 1000:.0f} ms at most"
    )
    assert flooded <= limits.burst + limits.at_once + limits.rate * seconds
    assert slowest < 2.0
    flood_task.cancel()
    await asyncio.gather(flood_task, return_exceptions=True)
    await flooding.__aexit__()
    await calm.__aexit__()


async def test_waits_are_bounded(api: Api, bounded: ControlPlane) -> None:
    agent, other = await agent_of(api, bounded, "h1"), await agent_of(api, bounded, "h2")
    for number, one in enumerate((agent, other), 1):
        await one.join(f"192.0.2.{number}:51820")
    asked = [asyncio.create_task(agent.do(Wait, "@hosts", 2, 5.0)) for _ in range(LIMITS.waiting + 5)]
    done, _ = await asyncio.wait(asked, timeout=DEADLINE, return_when=asyncio.FIRST_EXCEPTION)
    assert any("already" in str(one.exception()) for one in done if one.exception())
    await agent.do(Renew, True)  # which does not wait behind them
    for waiting in asked:
        waiting.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await agent.__aexit__()
    await other.__aexit__()


async def test_who_does_not_read_is_cut_off_and_holds_nobody_up(
    api: Api, bounded: ControlPlane, monkeypatch: Any
) -> None:
    monkeypatch.setattr("admin.hosts.session.IDLE", 300.0)  # neither says anything meanwhile, which is no matter here
    monkeypatch.setattr("admin.hosts.app.IDLE", 300.0)
    await api.put("/v1/environments/production", {})
    await api.put("/v1/environments/production/services/api", {})
    slow, other = await agent_of(api, bounded, "h1"), await agent_of(api, bounded, "h2")
    for number, one in enumerate((slow, other), 1):
        await one.join(f"192.0.2.{number}:51820")
        await one.do(PutInstance, PRODUCTION, "api", f"b{number}", State.READY)
    slow._reading.cancel()
    await asyncio.wait({slow._reading})
    connection = slow.socket._response.connection
    assert connection
    assert isinstance(connection.transport, asyncio.Transport)
    connection.transport.pause_reading()
    sending = 0
    while not bounded.service.counts.ended["slow"]:
        sending += 1
        values = [f"{number:04}{sending:06}" + "x" * 240 for number in range(240)]
        edits = [
            {"op": "put-record", "name": f"r{number}", "type": "TXT", "ttl": 60, "values": values}
            for number in range(8)
        ]
        done = await api.post("/v1/environments/production/batch", {"edits": edits})
        assert done.status == 200, done
        revision = done.revision
        await other.wait_until(lambda heard: heard.environments[PRODUCTION] >= revision)  # noqa: B023 it is at once
        assert sending < 1000
    print(f"cut off after {sending} commits of half a megabyte")
    connection.transport.resume_reading()
    await slow.__aexit__()
    await other.__aexit__()


async def strangers(plane: ControlPlane, number: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """So many connections, on which nothing is sent."""
    host, port = plane.service.listening[0]
    return [await asyncio.open_connection(host, port) for _ in range(number)]


async def test_connections_without_a_session_are_few(api: Api, bounded: ControlPlane) -> None:
    agent = await agent_of(api, bounded, "h1")
    opened = await strangers(bounded, LIMITS.strangers_of_one + 80)
    await until(lambda: bounded.service.counts.refused["strangers_of_one"] == 80, "turned away")
    await agent.do(Renew, True)
    for _, writer in opened:
        writer.close()
    late = await agent_of(api, bounded, "h2")
    await late.do(Renew, True)
    await late.__aexit__()
    await agent.__aexit__()


async def test_connections_without_a_session_are_brief(store: Store) -> None:
    async with ControlPlane(store, replace(LIMITS, stranger_seconds=0.5)) as plane:
        for _ in range(2):  # those who come later find room again
            opened = await strangers(plane, LIMITS.strangers_of_one)
            began = time.monotonic()
            for reader, writer in opened:
                with suppress(ConnectionError):
                    async with asyncio.timeout(DEADLINE):
                        assert await reader.read(1) == b""
                writer.close()
            print(f"all of them were closed after {time.monotonic() - began:.1f} s")
        assert not plane.service.counts.refused["strangers_of_one"]


async def test_an_agent_that_says_nothing_is_left(api: Api, bounded: ControlPlane, monkeypatch: Any) -> None:
    monkeypatch.setattr("admin.hosts.session.IDLE", 0.3)
    agent = await agent_of(api, bounded, "h1")
    assert await agent.wait_for_end() == Close.IDLE
    await agent.__aexit__()


async def test_a_key_of_another_host_or_of_nobody_is_not_registered(api: Api, bounded: ControlPlane) -> None:
    agent, victim = await agent_of(api, bounded, "h1"), await agent_of(api, bounded, "h2")
    await victim.join("192.0.2.2:51820")
    proof = victim.wireguard.prove("h2", victim.welcome.challenge)
    host = (await api.store.hosts.read()).hosts["h2"]
    await agent.do(Renew, True)
    for claimed, given in (
        (host, proof),
        (structs.replace(host, id="h1", endpoint="192.0.2.1:51820"), proof),
        (structs.replace(host, id="h1", endpoint="192.0.2.1:51820"), ""),
        (structs.replace(host, id="h1", endpoint="192.0.2.1:51820", public_key="AQ" + "A" * 41 + "="), "0" * 64),
    ):
        with pytest.raises(Exception, match="refused"):
            await agent.do(Register, claimed, {claimed.public_key: given})
    assert (await api.store.hosts.read()).hosts == {"h2": host}
    await agent.__aexit__()
    await victim.__aexit__()
