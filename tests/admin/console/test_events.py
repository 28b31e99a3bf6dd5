"""The streams of events: who may look at what, how they go on after a break, and that they end with the sign-in."""

from __future__ import annotations

import asyncio

import pytest

from admin.console.pages import events
from tests.admin.api import Api, E
from tests.admin.console.browser import Browser
from tests.waiting import DEADLINE, until
from tests.worlds import build, compiled, toggled
from zones.edits import PutService

FIRST = build("production", 7, PutService("api"))
SECOND = toggled(FIRST)
VIEWERS = 40  # that two hundred cost no more than their writes is said in test_hub


async def test_a_change_reaches_whoever_looks(api: Api, root: Browser) -> None:
    async with root.events("environment/production") as stream:
        await until(lambda: api.console.hub.topics, "somebody looks")
        api.console.state.publish(compiled(FIRST))
        name, version, _ = await asyncio.wait_for(stream.next(), DEADLINE)
        assert (name, version) == ("environment/production", api.console.state.version_of("production"))


async def test_it_opens_with_what_is_so_now_also_after_a_break(api: Api, root: Browser) -> None:
    api.console.state.publish(compiled(FIRST))
    async with root.events("environment/production") as stream:
        _, version, id_ = await asyncio.wait_for(stream.next(), DEADLINE)
    api.console.state.publish(compiled(SECOND))
    async with root.events("environment/production", **{"Last-Event-ID": id_}) as stream:
        _, later, _ = await asyncio.wait_for(stream.next(), DEADLINE)
    assert later != version


async def test_the_figures_come_while_somebody_looks(api: Api, root: Browser) -> None:
    async with root.events("overview") as stream:
        name, data, _ = await asyncio.wait_for(stream.next(), DEADLINE)
        assert name == "overview"
        assert "Environments" in data


@pytest.mark.parametrize(
    "topics", ["", "nothing", "environment", "environment/", "overview/x", ",".join("abcdefghijklmnopq")]
)
async def test_topics_that_there_are_not(root: Browser, topics: str) -> None:
    async with root.events(topics) as stream:
        assert stream.response.status == 400


async def test_a_tenant_looks_at_its_environment_alone(production: Api, browser: Browser) -> None:
    await browser.sign_in(await production.make_token())
    for topics, status in (
        ("environment/production", 200),
        ("environment/staging", 403),
        ("overview", 403),
        ("environments", 403),
        ("environment/production,environment/staging", 403),
    ):
        async with browser.events(topics) as stream:
            assert stream.response.status == status, topics


async def test_nobody_looks_without_a_sign_in(browser: Browser) -> None:
    async with browser.session.get("/console/events?topics=overview", allow_redirects=False) as response:
        assert response.status == 303


async def test_the_stream_ends_when_the_token_is_revoked(
    production: Api, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "CHECK_EVERY", 0.05)
    await browser.sign_in(await production.make_token())
    async with browser.events("environment/production") as stream:
        (id_,) = [one["id"] for one in (await production.get(f"{E}/tokens")).body["tokens"]]
        await production.delete(f"{E}/tokens/{id_}")
        name, _, _ = await asyncio.wait_for(stream.next(), DEADLINE)
        assert name == events.SIGNED_OUT
        with pytest.raises(EOFError):
            await asyncio.wait_for(stream.next(), DEADLINE)


async def test_a_viewer_who_goes_is_forgotten(api: Api, root: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.05)
    async with root.events("environment/production") as stream:
        assert stream.response.status == 200
        await until(lambda: api.console.hub.topics, "somebody looks")
    await until(lambda: not api.console.hub.topics, "nobody looks")


async def test_many_look(api: Api, root: Browser) -> None:
    async with asyncio.TaskGroup() as group:
        opened = asyncio.Barrier(VIEWERS + 1)

        async def look() -> None:
            async with root.events("environment/production") as stream:
                await opened.wait()
                name, _, _ = await asyncio.wait_for(stream.next(), DEADLINE)
                assert name == "environment/production"

        for _ in range(VIEWERS):
            group.create_task(look())
        await asyncio.wait_for(opened.wait(), DEADLINE)
        api.console.state.publish(compiled(FIRST))
