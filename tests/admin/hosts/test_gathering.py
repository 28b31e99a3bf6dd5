"""What agents commit at the same time is one commit, and one deploy after the other waits for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from admin.hosts import gathering as module
from tests.admin.api import Api
from tests.admin.hosts.agents import ControlPlane, LightAgent
from tests.admin.hosts.conftest import Enrol
from tests.waiting import until
from watcher.session.protocol import Acknowledge, Committed, PutInstance
from zones.model import State
from zones.names import EnvironmentId

PRODUCTION = EnvironmentId("production")
FOR_EVER = 1_000.0  # seconds


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", FOR_EVER)


@pytest_asyncio.fixture
async def agents(plane: ControlPlane, production: Api, enrolled: Enrol) -> AsyncIterator[tuple[LightAgent, LightAgent]]:
    """Two hosts with an instance each; both have acknowledged all that there is."""
    async with (
        LightAgent(plane.url, await enrolled("h1")) as one,
        LightAgent(plane.url, await enrolled("h2")) as other,
    ):
        await one.join("192.0.2.1:51820")
        await acknowledge(await put(one, "b1"), one)
        await other.join("192.0.2.2:51820")
        await acknowledge(await put(other, "b2"), one, other)
        yield one, other


async def put(agent: LightAgent, instance: str) -> Committed:
    committed: Committed = await agent.do(PutInstance, PRODUCTION, "api", instance, State.READY)
    return committed


async def acknowledge(committed: Committed, *agents: LightAgent) -> None:
    """``agents`` have heard of what was committed, and acknowledge it."""
    for agent in agents:
        await agent.wait_until(lambda agent: agent.environments.get(PRODUCTION, 0) >= committed.revision)
        await agent.do(Acknowledge, {PRODUCTION: committed.revision})


async def changes(api: Api) -> int:
    """How many commits there were so far, each with as many revisions as it may have."""
    async with api.store.connection.client() as redis:
        found: int = await redis.xlen(api.store.connection.keys.changes)
    return found


async def test_what_is_put_while_a_host_has_a_commit_to_acknowledge_is_one_commit(
    plane: ControlPlane, production: Api, agents: tuple[LightAgent, LightAgent]
) -> None:
    one, other = agents
    first, gathering = await put(one, "first"), plane.service.gathering
    before = await changes(production)
    puts = [asyncio.create_task(put((one, other)[at % 2], f"c{at}")) for at in range(10)]
    await until(lambda: len(gathering._waiting.get(PRODUCTION, ())) == len(puts))
    assert await changes(production) == before
    await acknowledge(first, one, other)
    committed = await asyncio.gather(*puts)
    assert len({one.revision for one in committed}) == len(puts), "each has a revision of its own"
    assert await changes(production) == before + 1
    assert not gathering._waiting


async def test_one_after_the_other_waits_for_no_acknowledgement_of_its_own_host(
    production: Api, agents: tuple[LightAgent, LightAgent]
) -> None:
    one, other = agents
    for number in range(5):
        await acknowledge(await put(one, f"c{number}"), other)


async def test_a_host_that_acknowledges_nothing_holds_up_a_commit_for_a_moment(
    plane: ControlPlane, agents: tuple[LightAgent, LightAgent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.05)
    one, _ = agents
    for number in range(3):
        await put(one, f"c{number}")
    assert not plane.service.gathering._waiting


async def test_a_session_that_ends_while_it_waits_leaves_nothing_behind(
    plane: ControlPlane, agents: tuple[LightAgent, LightAgent], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = agents
    first, gathering = await put(one, "first"), plane.service.gathering
    waiting = asyncio.create_task(put(one, "second"))
    await until(lambda: bool(gathering._waiting.get(PRODUCTION)))
    await one.socket.close()
    await until(lambda: plane.service.counts.sessions == 1)
    with pytest.raises(ConnectionError):
        await waiting
    assert not gathering._waiting
    monkeypatch.setattr(module, "LONGEST", 0.05)  # for the host that has gone
    await acknowledge(first, other)
    await put(other, "third")
    assert not gathering._waiting
    assert not gathering._working
