"""Waits at two control planes that share a store: each hears of acknowledgements that arrive at the other one."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from admin.hosts.waits import ASK_LAST
from tests.admin.api import Api
from tests.admin.hosts.agents import ControlPlane, LightAgent, Refused
from tests.admin.hosts.conftest import Enrol
from watcher.session.protocol import ALL_HOSTS, Acknowledge, PutInstance, RemoveInstance, Renew, Wait
from zones.model import State
from zones.names import EnvironmentId

PRODUCTION = EnvironmentId("production")


async def test_a_wait_ends_with_the_last_acknowledgement_wherever_that_arrives(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    async with (
        ControlPlane(production.store) as other,
        LightAgent(plane.url, await enrolled("h1")) as one,
        LightAgent(plane.url, await enrolled("h2")) as near,
        LightAgent(other.url, await enrolled("h3")) as far,
    ):
        for number, agent in enumerate((one, near, far), 1):
            await agent.join(f"192.0.2.{number}:51820")
            committed = await agent.do(PutInstance, PRODUCTION, "api", f"b{number}", State.READY)
        revision = committed.revision
        waiting = asyncio.create_task(one.do(Wait, PRODUCTION, revision, 30.0))
        for_near = asyncio.create_task(one.do(Wait, PRODUCTION, revision, 30.0, ("h2",)))
        assert (await one.do(Wait, PRODUCTION, revision, 0.0)).lagging == ("h2", "h3")
        await near.do(Acknowledge, {PRODUCTION: revision})
        assert (await for_near).lagging == ()
        assert (await one.do(Wait, PRODUCTION, revision, 0.1)).lagging == ("h3",)
        assert not waiting.done()
        await far.do(Acknowledge, {PRODUCTION: revision})
        assert (await waiting).lagging == ()


async def test_a_wait_is_told_what_is_acknowledged_here_and_asks_the_store_no_more_than_it_must(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    """Once when it begins, and ten times a second for who has died meanwhile."""
    names = ["h1", "h2", "h3", "h4"]
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(LightAgent(plane.url, await enrolled(name))) for name in names]
        for number, agent in enumerate(agents, 1):
            await agent.join(f"192.0.2.{number}:51820")
            committed = await agent.do(PutInstance, PRODUCTION, "api", f"b{number}", State.READY)
        waits, began = plane.service.waits, time.monotonic()
        for revision in range(committed.revision - 2, committed.revision + 1):
            before = waits.asked
            waiting = asyncio.create_task(agents[0].do(Wait, PRODUCTION, revision, 30.0))
            for agent in agents[1:]:
                await agent.do(Acknowledge, {PRODUCTION: revision})
            assert (await waiting).lagging == ()
            assert waits.asked - before <= 1 + (time.monotonic() - began) / ASK_LAST


async def test_nobody_waits_for_who_is_unable_or_has_no_member_any_more(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    async with (
        LightAgent(plane.url, await enrolled("h1")) as one,
        LightAgent(plane.url, await enrolled("h2")) as two,
    ):
        for number, agent in enumerate((one, two), 1):
            await agent.join(f"192.0.2.{number}:51820")
            committed = await agent.do(PutInstance, PRODUCTION, "api", f"b{number}", State.READY)
        assert (await one.do(Wait, PRODUCTION, committed.revision, 0.0)).lagging == ("h2",)
        assert (await one.do(Wait, ALL_HOSTS, 2, 0.0)).lagging == ("h2",)
        await two.do(Renew, False)
        assert (await one.do(Wait, PRODUCTION, committed.revision, 10.0)).lagging == ()
        await two.do(Renew, True)
        removed = await two.do(RemoveInstance, PRODUCTION, "api", "b2")
        assert (await one.do(Wait, PRODUCTION, removed.revision, 10.0)).lagging == ()
        assert (await two.do(Wait, PRODUCTION, removed.revision, 0.0)).lagging == ("h1",)  # it had a member until then


async def test_a_host_may_not_wait_for_what_it_may_not_join(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    async with LightAgent(plane.url, await enrolled("h1", environments=["staging"])) as agent:
        with pytest.raises(Refused) as refused:
            await agent.do(Wait, PRODUCTION, 1, 1.0)
        assert refused.value.kind == "refused"
        assert (await agent.do(Wait, "staging", 1, 1.0)).lagging == ()
