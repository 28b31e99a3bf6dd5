"""Several control planes: an agent goes from one that dies to another, and hears all that is there, once."""

from __future__ import annotations

from tests.admin.api import Api, E
from tests.admin.hosts.agents import ControlPlane, LightAgent
from tests.admin.hosts.conftest import Enrol
from tests.waiting import until
from watcher.session.protocol import Close, PutInstance, Renew
from zones.model import State
from zones.names import EnvironmentId

PRODUCTION = EnvironmentId("production")


async def test_one_dies_and_the_agent_goes_on_at_another(plane: ControlPlane, production: Api, enrolled: Enrol) -> None:
    files = await enrolled("h1")
    async with LightAgent(plane.url, files) as agent:
        async with ControlPlane(production.store) as other, LightAgent(other.url, files) as before:
            await before.join("192.0.2.1:51820")
            first = await before.do(PutInstance, PRODUCTION, "api", "b1", State.READY)
            await before.wait_until(lambda heard: heard.environments == {PRODUCTION: first.revision})
            other.service.sessions.end_all("this control plane ends")
            assert await before.wait_for_end() == Close.GOING
        await agent.wait_until(lambda heard: heard.loaded)
        await agent.do(Renew, True)
        await agent.wait_until(lambda heard: heard.environments == {PRODUCTION: first.revision})
        assert (await production.put(f"{E}/services/api/instances/b1", {"state": "draining"})).status == 200
        await agent.wait_until(lambda heard: heard.environments == {PRODUCTION: first.revision + 1})
        assert [type(one).__name__ for one in agent.heard].count("Loaded") == 1


async def test_a_second_session_of_one_agent_ends_the_first(plane: ControlPlane, enrolled: Enrol) -> None:
    files = await enrolled("h1")
    async with LightAgent(plane.url, files) as first, LightAgent(plane.url, files) as second:
        assert await first.wait_for_end() == Close.REPLACED
        await second.do(Renew, True)
    await until(lambda: plane.service.counts.sessions == 0)
    assert list(plane.service.sessions.hosts) == []


async def test_a_host_has_few_sessions(plane: ControlPlane, enrolled: Enrol) -> None:
    files = await enrolled("h1")
    most = plane.service.limits.sessions
    agents = [await LightAgent(plane.url, files, f"i{number}").__aenter__() for number in range(most + 1)]
    try:
        assert await agents[0].wait_for_end() == Close.CROWDED
        for agent in agents[1:]:
            assert not agent.socket.closed
    finally:
        for agent in agents:
            await agent.__aexit__()
