"""A session from end to end: enrol, say hello, register, hear of what concerns the host, and of nothing else."""

from __future__ import annotations

from collections import Counter
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from random import Random

import pytest
from msgspec.structs import replace

from tests.admin.api import Api, E
from tests.admin.hosts.agents import ControlPlane, LightAgent, Refused, decode
from tests.admin.hosts.conftest import Enrol
from watcher.session.protocol import (
    ALL_HOSTS,
    VERSION,
    Acknowledge,
    Connected,
    PutInstance,
    RemoveInstance,
    Renew,
    Wait,
)
from zones.model import State
from zones.names import EnvironmentId

PRODUCTION = EnvironmentId("production")


def _has(revision: int, agent: LightAgent) -> bool:
    return agent.environments.get("production") == revision


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


async def test_an_agent_is_sent_differences_if_it_speaks_a_version_that_has_them(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    """An older one is sent the whole environment each time; both know the same in the end."""
    async with (
        LightAgent(plane.url, await enrolled("h1"), version=VERSION) as one,
        LightAgent(plane.url, await enrolled("h2"), version=1) as older,
        LightAgent(plane.url, await enrolled("h3"), version=VERSION + 7) as later,
    ):
        everybody = (one, older, later)
        assert [agent.welcome.version for agent in everybody] == [VERSION, 1, VERSION]
        for number, agent in enumerate(everybody, 1):
            await agent.join(f"192.0.2.{number}:51820")
            await agent.do(PutInstance, PRODUCTION, "api", f"b{number}", State.READY)
        random, newest = Random(5), 0
        for number in range(32):
            service, instance = random.choice(("api", "web")), f"c{random.randrange(6)}"
            if random.random() < 0.3:
                await production.delete(f"{E}/services/{service}/instances/{instance}")
            elif random.random() < 0.2:
                await production.put(f"{E}/records/r{number}/TXT", {"ttl": 60, "values": ["v"]})
            else:
                await production.put(f"{E}/services/{service}", {})
                await production.put(f"{E}/services/{service}/instances/{instance}", {"state": "ready"})
            if number % 2 == 0:
                newest = (await production.get(E)).body["revision"]
                for agent in everybody:
                    await agent.do(Renew, True)  # one that says nothing for long has no session any more
                    await agent.wait_until(partial(_has, newest))
        newest = (await production.get(E)).body["revision"]
        for agent in everybody:
            await agent.wait_until(partial(_has, newest))
        documents = [decode(agent.documents["production"]) for agent in everybody]
        assert documents[0] == documents[1] == documents[2]
        kinds = [Counter(type(message).__name__ for message in agent.heard) for agent in everybody]
        assert [kind["EnvironmentIs"] for kind in (kinds[0], kinds[2])] == [1, 1]
        assert kinds[0]["EnvironmentChanged"] > 8
        assert kinds[1]["EnvironmentChanged"] == 0


async def test_what_is_connected_already_is_ready_with_its_commit_unless_another_host_was_first(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    async with LightAgent(plane.url, await enrolled("h1")) as one, LightAgent(plane.url, await enrolled("h2")) as two:
        await one.join("192.0.2.1:51820")
        await two.join("192.0.2.2:51820")
        await one.do(PutInstance, PRODUCTION, "api", "b1", State.READY)
        second = await two.do(PutInstance, PRODUCTION, "api", "b2", State.READY)
        ahead, after_it = _later(second.address, 2), _later(second.address, 3)

        of_one, of_two = Connected(ahead, ("api", "b1")), Connected(ahead, ("api", "b2"))
        committed = await one.do(PutInstance, PRODUCTION, "api", "b3", State.READY, connected=of_one)
        assert (committed.address, committed.is_starting) == (ahead, False)
        late = await two.do(PutInstance, PRODUCTION, "api", "b4", State.READY, connected=of_two)
        assert (late.address, late.is_starting) == (after_it, True)
        again = await one.do(PutInstance, PRODUCTION, "api", "b3", State.READY, ahead, connected=of_one)
        assert again == replace(committed, number=again.number, revision=late.revision)  # asked twice, it is done once
        assert await _states(production, "b3", "b4") == ["ready", "starting"]


@pytest.mark.parametrize("beside", ["a1", "b1", "b2", "b3", "gone"])
async def test_what_is_connected_waits_unless_its_host_has_let_others_through_all_the_time(
    plane: ControlPlane, production: Api, enrolled: Enrol, beside: str
) -> None:
    async with LightAgent(plane.url, await enrolled("h1")) as one, LightAgent(plane.url, await enrolled("h2")) as two:
        await one.join("192.0.2.1:51820")
        await two.join("192.0.2.2:51820")
        await one.do(PutInstance, PRODUCTION, "api", "b1", State.STARTING)
        await two.do(PutInstance, PRODUCTION, "api", "b2", State.READY)
        assert (await production.put(f"{E}/services/api/instances/b3", {"host": "h1"})).status == 201
        last = (await one.do(PutInstance, PRODUCTION, "api", "gone", State.READY)).address
        await one.do(RemoveInstance, PRODUCTION, "api", "gone")
        connected = Connected(_later(last, 1), ("api", beside))
        committed = await one.do(PutInstance, PRODUCTION, "api", "new", State.READY, connected=connected)
        assert committed.is_starting
        assert await _states(production, "new") == ["starting"]


async def test_an_instance_that_is_starting_counts_as_attached_once_its_workload_is_connected(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    """So it is answered under no name before there is a path to it."""

    async def placement(id_: str) -> str:
        shown = await production.get(f"{E}/services/api/instances/{id_}")
        return str(shown.body["placement"])

    async with LightAgent(plane.url, await enrolled("h1")) as agent:
        await agent.join("192.0.2.1:51820")
        await agent.do(PutInstance, PRODUCTION, "api", "b1", State.STARTING)
        assert await placement("b1") == "not attached"
        await agent.do(PutInstance, PRODUCTION, "api", "b1", State.READY)
        assert await placement("b1") == "attached"
        elsewhere = Connected("fd12::10", ("api", "b1"))
        await agent.do(PutInstance, PRODUCTION, "api", "b2", State.READY, connected=elsewhere)
        assert await placement("b2") == "not attached"
        await agent.do(PutInstance, PRODUCTION, "api", "b1", State.STARTING)  # it is connected anew
        assert await placement("b1") == "not attached"


async def test_no_address_of_a_request_is_taken_on_trust(plane: ControlPlane, production: Api, enrolled: Enrol) -> None:
    async with LightAgent(plane.url, await enrolled("h1")) as agent:
        await agent.join("192.0.2.1:51820")
        await agent.do(PutInstance, PRODUCTION, "api", "b", State.READY)
        subnet = IPv6Network((await production.get(f"{E}/services/api")).body["subnet"])
        for number, text in enumerate(("fd12::10", "::1", "2001:db8::1")):
            connected = Connected(text, ("api", "b"))
            committed = await agent.do(PutInstance, PRODUCTION, "api", f"b{number}", State.READY, connected=connected)
            assert IPv6Address(committed.address) in subnet
            assert committed.is_starting
        nonsense = Connected("nonsense", ("api", "b"))
        with pytest.raises(Refused, match="is not an IPv6 address"):
            await agent.do(PutInstance, PRODUCTION, "api", "b9", State.READY, connected=nonsense)


def _later(address: str, more: int) -> str:
    return str(IPv6Address(address) + more)


async def _states(api: Api, *ids: str) -> list[str]:
    shown = {one["id"]: one["state"] for one in (await api.get(f"{E}/services/api")).body["instances"]}
    return [shown[id_] for id_ in ids]


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
