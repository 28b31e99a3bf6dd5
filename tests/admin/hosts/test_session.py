"""A session from end to end: enrol, say hello, register, hear of what concerns the host, and of nothing else."""

from __future__ import annotations

from tests.admin.api import Api, E
from tests.admin.hosts.agents import ControlPlane, LightAgent, decode
from tests.admin.hosts.conftest import Enrol
from watcher.session.protocol import ALL_HOSTS, Acknowledge, PutInstance, Wait
from zones.model import State
from zones.names import EnvironmentId

PRODUCTION = EnvironmentId("production")


async def test_a_host_enrols_registers_and_attaches(plane: ControlPlane, production: Api, enrolled: Enrol) -> None:
    async with LightAgent(plane.url, await enrolled("h1")) as agent:
        assert agent.welcome.host is None
        host = await agent.join("192.0.2.1:51820", "eu")
        assert (await plane.service.store.hosts.read()).hosts == {"h1": host}
        await agent.wait_until(lambda heard: heard.loaded and heard.hosts == {"h1": host})
        assert agent.environments == {}

        committed = await agent.do(PutInstance, PRODUCTION, "api", "b1", State.STARTING)
        assert (committed.service, committed.enabled) == ("api", True)
        await agent.wait_until(lambda heard: heard.environments == {"production": committed.revision})
        document = decode(agent.documents["production"])
        assert document["services"]["api"]["instances"]["b1"]["host"] == "h1"

        await agent.do(Acknowledge, {"production": committed.revision, ALL_HOSTS: 1})
        assert (await agent.do(Wait, "production", committed.revision, 5.0)).lagging == ()
        shown = await production.get(f"{E}/revisions/{committed.revision}")
        assert shown.body["hosts"] == ["h1"]


async def test_it_hears_each_change_of_what_concerns_it(plane: ControlPlane, production: Api, enrolled: Enrol) -> None:
    async with (
        LightAgent(plane.url, await enrolled("h1")) as one,
        LightAgent(plane.url, await enrolled("h2")) as two,
    ):
        await one.join("192.0.2.1:51820")
        await two.join("192.0.2.2:51820")
        first = await one.do(PutInstance, PRODUCTION, "api", "b1", State.READY)
        await one.wait_until(lambda heard: heard.environments == {"production": first.revision})
        assert set(one.hosts) == {"h1"}
        second = await two.do(PutInstance, PRODUCTION, "api", "b2", State.READY)
        await one.wait_until(lambda heard: heard.environments == {"production": second.revision})
        assert set(one.hosts) == {"h1", "h2"}
        order = [message for message in one.heard if "h2" in str(message)]
        assert type(order[0]).__name__ == "HostIs"  # before the environment that needs it

        assert (await production.delete(f"{E}/services/api/instances/b2")).status == 204
        await one.wait_until(lambda heard: set(heard.hosts) == {"h1"})
        await two.wait_until(lambda heard: heard.environments == {})
        assert set(two.hosts) == {"h2"}
