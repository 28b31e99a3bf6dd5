"""Hosts and documents that must not be applied: agents reject them, report them, and apply all others.

The admin API and the agents never write such data, and the store's scripts refuse a part of it; so these tests write
it to the store directly.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from agent.keys import PrivateKey
from store.index import IndexEntry
from store.keys import Keys
from store.store import Store
from tests.clients.builds import Build
from tests.mesh.members import Layout, PopulatedEnvironment, populated
from tests.mesh.mesh import Mesh, Node, until
from tests.mesh.talking import ConnectionTimes
from tests.mesh.topology import V4
from tests.mesh.traffic import Traffic
from tests.store.servers import redis_of
from zones import document
from zones.hosts import Host, encode_host, hosts_of
from zones.model import Environment
from zones.names import EnvironmentId

T = TypeVar("T")

KEYS = Keys()
LAYOUT: Layout = {"web": {"w1": "h1", "w2": "h2", "w3": "h3", "w4": "h4"}}


@pytest.fixture
def environment(mesh: Mesh, programs: dict[str, Build]) -> Iterator[PopulatedEnvironment]:
    with populated(mesh, "rejections", LAYOUT, programs) as environment:
        yield environment


def check_all_reach_all(environment: PopulatedEnvironment) -> None:
    for one, other in environment.pairs():
        found = one.server.tcp(other.name)
        assert isinstance(found, ConnectionTimes), f"{one.name} to {other.name}: {found.text}"


def test_an_agent_with_the_key_of_another_host_does_not_start(mesh: Mesh) -> None:
    (victim, *_), thief = mesh.nodes.values(), mesh.boot("thief")
    try:
        thief.state.mkdir(mode=0o700)
        shutil.copy(victim.state / "wireguard.key", thief.state)
        thief.agent.start()
        until(lambda: not thief.agent.is_running, "it still runs")
        message = thief.agent.log.splitlines()[-1]
        assert message.startswith(f"interlock: host {victim.name!r} has this public key")
    finally:
        mesh.remove(thief)
    mesh.until_healthy()


def test_a_host_with_the_key_of_another_is_rejected_and_reported_by_all(
    mesh: Mesh, environment: PopulatedEnvironment
) -> None:
    owner = mesh.nodes["h2"]
    thief = Host("thief", f"{V4}99:51820", owner.ask("mesh")["public_key"])
    instances = ("environments", environment.id, "services", "web", "instances")
    address = ""
    with Traffic(environment, environment.members) as traffic, written_host(mesh, thief):
        address = mesh.client.put(*instances, "stolen", body={"host": "thief", "state": "ready"})["address"]
        try:
            for node in mesh.nodes.values():
                reason = f"its public key is that of {'this host' if node is owner else 'another host'}"
                until_reported(node, f"rejected: host thief: {reason}")
                assert {"what": "host thief", "reason": reason}.items() <= node.agent.events("rejected")[-1].items()
                assert node.metrics()["interlock_mesh_rejected"] == 1
                # The peer with this key is still its owner, and gets no address of the other host.
                assert address not in node.host.run(["wg", "show", "interlock0", "allowed-ips"]).stdout
            check_all_reach_all(environment)
        finally:
            mesh.client.delete(*instances, "stolen")
    traffic.check()
    mesh.until_healthy()


def _claim_twice(services: Any) -> str:
    web = services["web"]["instances"]
    web["w2"]["address"] = web["w1"]["address"]
    return str(web["w1"]["address"])


def _claim_outside(services: Any) -> str:
    services["web"]["instances"]["w2"]["address"] = "fd12:dead:beef:1::1"
    return "fd12:dead:beef:1::1"


@pytest.mark.parametrize("spoil", [_claim_twice, _claim_outside], ids=["claimed twice", "outside its environment"])
def test_a_document_with_an_impossible_address_is_quarantined_and_reported(
    mesh: Mesh, environment: PopulatedEnvironment, spoil: Callable[[Any], str]
) -> None:
    with Traffic(environment, environment.members) as traffic, spoilt_document(mesh, environment.id, spoil) as address:
        for node in mesh.nodes.values():
            until_reported(node, address)
            assert address in node.agent.events("document_quarantined")[-1]["reason"]
            assert node.metrics()["interlock_environments_quarantined"] == 1
        check_all_reach_all(environment)  # the last good document is still applied
    traffic.check()
    mesh.until_healthy()


def until_reported(node: Node, text: str) -> None:
    """Returns when `interlock mesh` on ``node`` shows ``text``."""
    until(
        lambda: text in node.interlock("mesh").stdout, lambda: f"{text!r} is not in:\n{node.interlock('mesh').stdout}"
    )


@contextmanager
def written_host(mesh: Mesh, host: Host) -> Iterator[None]:
    """Writes ``host`` to the store, also if another host has its key."""
    touching = Host("bystander", f"{V4}98:51820", PrivateKey.generate().public)

    async def write(store: Store) -> None:
        async with redis_of(mesh.store.url) as redis:
            await redis.hset(KEYS.hosts, host.id, encode_host(host))
        await store.hosts.register(touching)  # agents read all hosts when one of them was changed

    async def forget(store: Store) -> None:
        await store.hosts.forget(host.id)
        await store.hosts.forget(touching.id)

    _do(mesh, write)
    try:
        yield
    finally:
        _do(mesh, forget)


@contextmanager
def spoilt_document(mesh: Mesh, id_: str, spoil: Callable[[Any], str]) -> Iterator[str]:
    """Writes a newer document of an environment to the store that ``spoil`` has made invalid; gives its result."""
    environment = EnvironmentId(id_)

    async def spoil_it(store: Store) -> tuple[str, Environment]:
        revision, before = await store.environments.read(environment)
        assert before is not None
        fields = json.loads(document.encode(before))
        fields["revision"] = revision + 1
        address = spoil(fields["services"])
        written = json.dumps(fields).encode()
        entry = IndexEntry(revision + 1, document.digest(written), hosts_of(before))
        await store.environments._write(environment, str(before.network), revision, entry, written)
        return address, replace(before, revision=revision + 2)

    address, repaired = _do(mesh, spoil_it)
    try:
        yield address
    finally:
        _do(mesh, lambda store: store.environments.commit(repaired, repaired.revision - 1))


def _do(mesh: Mesh, what: Callable[[Store], Awaitable[T]]) -> T:
    async def with_store() -> T:
        store = Store(mesh.store.url)
        try:
            return await what(store)
        finally:
            await store.close()

    return asyncio.run(with_store())
