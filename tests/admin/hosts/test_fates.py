"""What has become of an instance that a host had committed: removed by somebody, or lost with the data."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.admin.api import Api, E
from tests.admin.hosts.agents import ControlPlane, LightAgent
from tests.admin.hosts.conftest import Enrol
from watcher.session.protocol import AskFate, PutInstance
from zones.model import State
from zones.names import EnvironmentId

PRODUCTION = EnvironmentId("production")
INSTANCES = ("b1", "b2", "b3")


class Attached:
    """A host with three instances of the service `api`, committed at revisions that follow one another."""

    def __init__(self, api: Api, agent: LightAgent) -> None:
        self.api, self.agent = api, agent
        self.committed: dict[str, tuple[int, str]] = {}
        self.copy: tuple[bytes, bytes] | None = None

    async def attach(self) -> None:
        keys = self.api.store.connection.keys
        async with self.api.store.connection.client() as redis:
            self.copy = await redis.hget(keys.environments, PRODUCTION), await redis.get(keys.environment(PRODUCTION))
        for id_ in INSTANCES:
            done = await self.agent.do(PutInstance, PRODUCTION, "api", id_, State.READY)
            self.committed[id_] = (done.revision, done.address)

    async def fates(self) -> list[str]:
        return [(await self.agent.do(AskFate, PRODUCTION, "api", id_, *self.committed[id_])).fate for id_ in INSTANCES]

    async def bring_back(self) -> None:
        """Brings the copy of the environment back that was made before anything was attached."""
        assert self.copy
        keys = self.api.store.connection.keys
        async with self.api.store.connection.client() as redis:
            await redis.hset(keys.environments, PRODUCTION, self.copy[0])
            await redis.set(keys.environment(PRODUCTION), self.copy[1])

    async def lose_all(self) -> None:
        """Loses the environments, as after a loss that was confirmed."""
        keys = self.api.store.connection.keys
        async with self.api.store.connection.client() as redis:
            await redis.delete(keys.environments, keys.networks, keys.environment(PRODUCTION))

    async def make_again(self, revision: int) -> None:
        """Makes the environment and its service again, up to ``revision``."""
        for path in (E, f"{E}/services/api"):
            assert (await self.api.put(path, {})).status == 201
        for number in range(revision - 2):
            path = f"{E}/records/r{number}/TXT"
            assert (await self.api.put(path, {"ttl": 60, "values": ["x"]})).status == 201


@pytest_asyncio.fixture
async def attached(plane: ControlPlane, production: Api, enrolled: Enrol) -> AsyncIterator[Attached]:
    async with LightAgent(plane.url, await enrolled("h1")) as agent:
        await agent.join("192.0.2.1:51820")
        attached = Attached(production, agent)
        await attached.attach()
        yield attached


async def test_what_somebody_has_removed(attached: Attached) -> None:
    assert await attached.fates() == ["here"] * 3
    assert (await attached.api.delete(f"{E}/services/api/instances/b1")).status == 204
    assert await attached.fates() == ["removed", "here", "here"]
    assert (await attached.api.put(f"{E}/services/api", {"rename": "backend"})).status == 200
    assert await attached.fates() == ["removed", "here", "here"]
    assert (await attached.api.delete(f"{E}/services/backend?confirm=withdrawal")).status == 204
    assert await attached.fates() == ["removed"] * 3


async def test_of_an_environment_that_was_deleted_and_made_again(attached: Attached) -> None:
    assert (await attached.api.delete(E)).status == 204
    assert await attached.fates() == ["removed"] * 3
    await attached.make_again(2)
    assert await attached.fates() == ["removed"] * 3


@pytest.mark.parametrize("passed", [0, 1, 2, 3])
async def test_what_was_lost_with_the_data_however_many_revisions_there_are_since(
    attached: Attached, passed: int
) -> None:
    await attached.lose_all()
    await attached.make_again(attached.committed["b1"][0] - 1 + passed)
    assert await attached.fates() == ["lost"] * 3


async def test_what_an_older_copy_of_the_data_did_not_have(attached: Attached) -> None:
    await attached.bring_back()
    await attached.agent.do(PutInstance, PRODUCTION, "api", "c1", State.READY)  # with the address that b1 has
    for number in range(5):
        assert (await attached.api.put(f"{E}/services/s{number}", {})).status == 201
    assert await attached.fates() == ["lost"] * 3
