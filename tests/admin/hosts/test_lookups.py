"""Hosts give look-ups while somebody watches: those of their own environments, and no others are believed."""

from __future__ import annotations

import pytest

from tests.admin.api import Api, E
from tests.admin.hosts.agents import ControlPlane, LightAgent
from tests.admin.hosts.conftest import Enrol
from tests.waiting import until
from watcher.session.lookups import Lookup, LookupFilter
from watcher.session.protocol import Seen, Watch

ALL = LookupFilter()


def lookup(name: str, environment: str | None = "production", **fields: str) -> Lookup:
    return Lookup(1.0, environment, "fd12::1", name, "AAAA", "NOERROR", **fields)  # type: ignore[arg-type]


def questions(agent: LightAgent) -> list[Watch]:
    return [one for one in agent.heard if isinstance(one, Watch)]


async def test_a_host_is_asked_while_somebody_watches_and_speaks_for_its_own_environments(
    production: Api, plane: ControlPlane, enrolled: Enrol
) -> None:
    await production.put("/v1/environments/staging", {})
    hub, own = plane.service.lookups, LookupFilter(environment="production")
    async with LightAgent(plane.url, await enrolled("h1")) as agent:
        await agent.join("192.0.2.1:51820")
        assert (await production.put(f"{E}/services/api/instances/a1", {"host": "h1"})).status == 200
        await agent.wait_until(lambda one: "production" in one.environments)
        assert not (await agent.do(Seen, (lookup("early."),))).changed
        async with hub.watched(ALL, "root") as all_, hub.watched(LookupFilter(environment="staging"), "a"):
            asked = (await agent.wait_until(questions))[-1]
            assert asked.filters == (ALL,)
            assert asked.most > 0
            lies = [lookup("a.", "staging"), lookup("b.", "nowhere"), lookup("c.", host="h2"), lookup("d.", None)]
            assert (await agent.do(Seen, tuple(lies), {"staging": 7, "production": 3}, 2)).changed
            batch = None
            while not batch or not batch.lookups:
                batch = await all_.next(10)
            assert [(one.name, one.host) for one in batch.lookups] == [("c.", "h1"), ("d.", "h1")]
            assert hub._groups[ALL].left_out == 3
            assert (hub.counts.refused, hub.counts.left_out) == (2, 3)
        await agent.wait_until(lambda one: questions(one)[-1].filters == ())
        # Of environments that it has no member of, a host does not hear that somebody watches.
        async with hub.watched(LookupFilter(environment="staging"), "a"), hub.watched(own, "b"):
            await agent.wait_until(lambda one: questions(one)[-1].filters == (own,))
    await until(lambda: not hub._sources)


async def test_a_host_that_says_too_much_is_cut_short(
    production: Api, plane: ControlPlane, enrolled: Enrol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin.lookups.hub.MOST_OF_ONE", 100)
    hub = plane.service.lookups
    async with LightAgent(plane.url, await enrolled("h1")) as agent, hub.watched(ALL, "root"):
        asked = (await agent.wait_until(questions))[-1]
        assert asked.most == 100
        await agent.do(Seen, (lookup("x.", None),) * 500)  # at once: they are looked at within a second, or two
        assert hub.counts.taken <= 2 * 1.5 * asked.most
        assert hub.counts.refused > 0


async def test_a_host_that_comes_later_is_asked_too(production: Api, plane: ControlPlane, enrolled: Enrol) -> None:
    async with plane.service.lookups.watched(ALL, "root"), LightAgent(plane.url, await enrolled("h1")) as agent:
        await agent.wait_until(questions)
