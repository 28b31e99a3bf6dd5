"""The end of a credential: a host that is forgotten, or has shown a newer key, is out at once, everywhere."""

from __future__ import annotations

import pytest
from aiohttp import WSServerHandshakeError

from admin.hosts.sessions import HostSessions
from store.keys import ALL_HOSTS
from tests.admin.api import Api
from tests.admin.hosts.agents import ControlPlane, Files, LightAgent, Refused, new_key
from tests.admin.hosts.conftest import Enrol
from tests.store.servers import redis_of
from tests.waiting import until, until_true
from watcher.session.protocol import Acknowledge, Certify, Close, Confirmed, Leave, Loaded, PutInstance, Renew
from zones.model import State
from zones.names import EnvironmentId

PRODUCTION = EnvironmentId("production")


async def test_a_host_that_is_forgotten_is_out_at_once_everywhere(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    files = await enrolled("h1")
    async with (
        ControlPlane(production.store) as other,
        LightAgent(plane.url, files) as here,
        LightAgent(other.url, files) as there,
        LightAgent(other.url, await enrolled("h2")) as another,
    ):
        await here.join("192.0.2.1:51820")
        assert (await production.delete("/v1/hosts/h1")).problem == "conflict"
        assert (await production.delete("/v1/hosts/h1?confirm=live")).status == 204
        assert await here.wait_for_end() == await there.wait_for_end() == Close.CREDENTIAL
        with pytest.raises(WSServerHandshakeError) as refused:
            await LightAgent(plane.url, files).__aenter__()
        assert refused.value.status == 403
        await another.do(Renew, True)
    assert (await production.store.hosts.read()).hosts == {}
    assert not await production.store.leases.live(["h1"])


async def test_a_host_that_was_never_registered_can_be_forgotten(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    async with LightAgent(plane.url, await enrolled("h1")) as agent:
        assert (await production.delete("/v1/hosts/h1")).status == 204
        assert await agent.wait_for_end() == Close.CREDENTIAL
    assert (await production.post("/v1/hosts/h2/enrolments", {})).status == 201
    assert (await production.delete("/v1/hosts/h2")).status == 204
    assert await production.store.credentials.enrolments() == {}


async def test_a_rotation_ends_the_older_key_when_the_newer_is_shown(
    plane: ControlPlane, api: Api, enrolled: Enrol
) -> None:
    files = await enrolled("h1", environments=["production"])
    async with LightAgent(plane.url, files) as agent, LightAgent(plane.url, files, "thief") as thief:
        await agent.do(Renew, True)
        key = new_key()
        certified = await agent.do(Certify, files.request(key))
        newer = Files("h1", key, certified.certificate, files.authority)
        await agent.do(Renew, True)  # the answer might have been lost: the older key is still good
        async with LightAgent(plane.url, newer) as after:
            assert await agent.wait_for_end() == Close.CREDENTIAL
            assert await thief.wait_for_end() == Close.CREDENTIAL
            await after.do(Renew, True)
    with pytest.raises(WSServerHandshakeError):
        await LightAgent(plane.url, files).__aenter__()
    credential = (await api.store.credentials.read())["h1"]
    assert (credential.next_fingerprint, credential.environments) == ("", ("production",))


@pytest.mark.parametrize("unheard", ["_judge", "begun"])
async def test_an_older_key_is_the_reason_whatever_is_noticed_first(
    monkeypatch: pytest.MonkeyPatch, plane: ControlPlane, enrolled: Enrol, unheard: str
) -> None:
    """The change of the credential, and the newer session of the same agent: here one of them is noticed alone."""
    files = await enrolled("h1")
    async with LightAgent(plane.url, files) as agent:
        await agent.do(Renew, True)
        key = new_key()
        newer = Files("h1", key, (await agent.do(Certify, files.request(key))).certificate, files.authority)
        monkeypatch.setattr(HostSessions, unheard, lambda *_: None)
        async with LightAgent(plane.url, newer):
            assert await agent.wait_for_end() == Close.CREDENTIAL


async def test_a_copy_without_the_lease_cannot_rotate(plane: ControlPlane, enrolled: Enrol) -> None:
    files = await enrolled("h1")
    async with LightAgent(plane.url, files) as agent, LightAgent(plane.url, files, "copy") as copy:
        await agent.do(Renew, True)
        for kind, arguments in ((Renew, (True,)), (Certify, (files.request(new_key()),)), (Leave, ())):
            with pytest.raises(Refused) as refused:
                await copy.do(kind, *arguments)
            assert refused.value.kind == "lease"
        assert (await agent.do(Renew, True)).rival == "test, h1"


async def test_a_host_that_leaves_is_gone(plane: ControlPlane, api: Api, enrolled: Enrol) -> None:
    async with LightAgent(plane.url, await enrolled("h1")) as agent:
        await agent.join("192.0.2.1:51820")
        await agent.do(Leave)
        assert await agent.wait_for_end() == Close.CREDENTIAL
    assert await api.store.credentials.read() == {}
    assert (await api.store.hosts.read()).hosts == {}


async def test_what_a_host_may_place_can_be_changed(plane: ControlPlane, production: Api, enrolled: Enrol) -> None:
    async with LightAgent(plane.url, await enrolled("h1", environments=[])) as agent:
        await agent.join("192.0.2.1:51820")
        with pytest.raises(Refused) as refused:
            await agent.do(PutInstance, PRODUCTION, "api", "b1", State.READY)
        assert refused.value.kind == "refused"
        assert (await production.put("/v1/hosts/h1", {"environments": ["production"]})).status == 200

        async def is_placed() -> bool:
            try:
                return bool(await agent.do(PutInstance, PRODUCTION, "api", "b1", State.READY))
            except Refused:
                return False

        await until_true(is_placed)


async def test_a_host_that_was_away_during_a_confirmation_is_told_when_it_comes_back(
    plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    files, keys = await enrolled("h1"), production.store.connection.keys
    assert (await production.put("/v1/environments/other", {})).status == 201
    async with LightAgent(plane.url, files) as agent:
        await agent.join("192.0.2.1:51820")
        await agent.do(PutInstance, PRODUCTION, "api", "b1", State.READY)
        await agent.wait_until(lambda heard: heard.environments)
        assert not [one for one in agent.heard if isinstance(one, Confirmed)]
    async with production.store.connection.client() as redis:
        await redis.hdel(keys.environments, PRODUCTION)
        await redis.delete(keys.environment(PRODUCTION))
    assert (await production.delete("/v1/environments/other")).status == 204
    plane.watcher._environments.must_compare = True  # else it looks within 30 s
    await until(lambda: plane.watcher.guard.held, "held")
    assert (await production.post("/v1/guard/confirm", {})).status == 200
    await until(lambda: not plane.watcher.guard.held, "let go")
    async with LightAgent(plane.url, files) as agent:
        await agent.wait_until(lambda heard: any(isinstance(one, Confirmed) for one in heard.heard))
        kinds = [type(one) for one in agent.heard]
        assert kinds.index(Loaded) < kinds.index(Confirmed)
        assert agent.environments == {}


async def test_a_store_that_has_lost_its_data_ends_no_session(
    store_url: str, plane: ControlPlane, production: Api, enrolled: Enrol
) -> None:
    async with LightAgent(plane.url, await enrolled("h1")) as agent, redis_of(store_url) as redis:
        await agent.join("192.0.2.1:51820")
        committed = await agent.do(PutInstance, PRODUCTION, "api", "b1", State.READY)
        await agent.wait_until(lambda heard: heard.environments)
        prefix = production.store.connection.keys.prefix
        await redis.delete(*[key async for key in redis.scan_iter(f"{prefix}*")])
        # Somebody writes, so that the watcher looks; it finds another data set, and holds on to what it has.
        assert (await production.put("/v1/environments/another", {})).status == 201
        await until(lambda: plane.watcher.guard.held, "held")
        await agent.wait_until(lambda heard: any(type(one).__name__ == "Held" for one in heard.heard))
        assert agent.environments == {"production": committed.revision}
        await agent.do(Renew, True)
        await agent.do(Acknowledge, {ALL_HOSTS: 1})
