"""The data of the store vanishes under hosts with workloads: no connection is lost, no name, no peer and no route."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.clients.builds import Build, Unavailable
from tests.mesh import talking
from tests.mesh.members import Layout, PopulatedEnvironment, populated
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.traffic import Traffic
from tests.store.servers import redis_of

LAYOUT: Layout = {"web": {"w1": "h1", "w2": "h2"}, "api": {"a1": "h1", "a2": "h2"}}
QUERIES = 1000  # at least so many are asked while the data are gone


@pytest.fixture
def environment(hosts: Mesh) -> Iterator[PopulatedEnvironment]:
    try:
        programs: dict[str, Build] = talking.programs()
    except Unavailable as error:
        pytest.skip(f"the test program cannot be built: {error}")
    with populated(hosts, "vanishing", LAYOUT, programs) as environment:
        yield environment


async def flush(url: str) -> dict[bytes, bytes]:
    """Removes all data of the store; gives them. Leases are no data: they end by themselves."""
    async with redis_of(url) as redis:
        saved = {key: await redis.dump(key) for key in await redis.keys("*") if b":lease:" not in key}
        await redis.flushall()
    return saved


async def restore(url: str, saved: dict[bytes, bytes]) -> None:
    async with redis_of(url) as redis, redis.pipeline(transaction=True) as pipe:
        for key, value in saved.items():
            pipe.restore(key, 0, value, replace=True)
        await pipe.execute()


def until_held(node: Node) -> None:
    until(lambda: "interlock guard confirm" in node.readyz(), lambda: f"{node.name} holds nothing: {node.readyz()}", 40)


def until_followed(node: Node) -> None:
    until(lambda: not node.ask("mesh")["environments"], f"{node.name} does not withdraw what is confirmed")


def peers(node: Node) -> list[str]:
    return [peer["host"] for peer in node.ask("mesh")["peers"]]


def test_no_connection_is_lost_while_the_data_are_gone(hosts: Mesh, environment: PopulatedEnvironment) -> None:
    nodes = [hosts.nodes["h1"], hosts.nodes["h2"]]
    hosts.until_healthy()
    with Traffic(environment, environment.members) as traffic:
        saved = asyncio.run(flush(hosts.store.url))
        hosts.client.put("environments", "after", body={})  # so that the hosts look
        for node in nodes:
            until_held(node)
        asked = traffic.prober.answers.total()
        until(lambda: traffic.prober.answers.total() > asked + QUERIES, "the prober does not get on", 60)
        assert [peers(node) for node in nodes] == [["h2"], ["h1"]]
        for node in nodes:
            assert any("interlock guard confirm" in problem for problem in node.ask("mesh")["problems"])
            assert node.is_ready
        asyncio.run(restore(hosts.store.url, saved))
        hosts.until_healthy()
    traffic.check()
    names = {member.name for member in environment.members}
    assert [answer for answer in traffic.prober.answers if answer.name in names and not answer.addresses] == []
    assert traffic.prober.unanswered == 0

    # And once it is confirmed, it is followed.
    asyncio.run(flush(hosts.store.url))
    hosts.client.put("environments", "after", body={})
    for node in nodes:
        until_held(node)
    hosts.interlock("guard", "confirm", "--yes")
    for node in nodes:
        until_followed(node)
    first = environment.members[0].server
    until(lambda: not first.lookup(environment.members[1].name).ok, "the names are answered still")
    hosts.client.put("environments", environment.id, body={})  # for the fixture, which deletes it
    # The credentials of the hosts were among the data: each enrols anew, as docs/mesh.md says.
    for node in nodes:
        hosts.enrol(node)
        node.agent.kill()
        node.agent.start()
        node.until_ready()
