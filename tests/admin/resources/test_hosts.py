"""Hosts: shown as their agents have registered them, drained, and forgotten once they are gone."""

from __future__ import annotations

from typing import Any

import pytest

from store.writer import Writer
from tests.admin.api import Api, E, make_host, make_key
from tests.worlds import NOW, PRODUCTION, lease_of
from zones.edits import PutInstance

HOSTS = "/v1/hosts"


async def test_listed_by_page_with_whether_they_live(hosted: Api) -> None:
    first = (await hosted.get(f"{HOSTS}?limit=3")).body
    assert [(host["id"], host["draining"], host["live"]) for host in first["hosts"]] == [
        ("h1", False, True),
        ("h2", False, True),
        ("h3", True, True),
    ]
    assert (first["unreadable"], first["next"], first["revision"]) == ([], "h3", 4)
    last = (await hosted.get(f"{HOSTS}?after=h3")).body
    assert ([(host["id"], host["live"]) for host in last["hosts"]], last["next"]) == ([("h4", False)], None)


async def test_no_hosts(api: Api) -> None:
    assert (await api.get(HOSTS)).body == {
        "hosts": [],
        "unreadable": [],
        "unregistered": [],
        "next": None,
        "revision": 0,
    }


async def test_shown(hosted: Api) -> None:
    shown = await hosted.get(f"{HOSTS}/h1")
    assert shown.body == {
        "id": "h1",
        "region": "eu",
        "endpoint": "192.0.2.1:51820",
        "public_key": make_key(1),
        "draining": False,
        "behind_nat": False,
        "live": True,
        "enrolled": "1970-01-01T00:00:00Z",
        "environments": None,
        "enrolment_until": None,
        "revision": 4,
        "unknown": [],
    }
    assert "ETag" not in shown.headers


async def test_a_drain_begins_and_ends(hosted: Api) -> None:
    await hosted.store.hosts.register(make_host(1, region="eu", next_public_key=make_key(0xB1)))
    for draining, revision in ((True, 6), (True, 6), (False, 7)):
        changed = await hosted.put(f"{HOSTS}/h1", {"draining": draining})
        assert (changed.status, changed.body["draining"], changed.body["revision"]) == (200, draining, revision)
        assert changed.body == (await hosted.get(f"{HOSTS}/h1")).body
    assert (await hosted.put(f"{HOSTS}/h1", {})).body["revision"] == 7
    registered = (await hosted.store.hosts.read()).hosts["h1"]
    assert registered == make_host(1, region="eu", next_public_key=make_key(0xB1))  # and nothing else of it is changed


async def test_forgotten_once_it_is_gone(hosted: Api) -> None:
    for host in ("h1", "h3"):  # one that is draining lives as well
        refused = await hosted.delete(f"{HOSTS}/{host}")
        assert (refused.status, refused.body["field"]) == (409, "host")
        assert "is alive" in refused.body["detail"]
    assert (await hosted.delete(f"{HOSTS}/h4")).status == 204
    assert [host["id"] for host in (await hosted.get(HOSTS)).body["hosts"]] == ["h1", "h2", "h3"]
    assert (await hosted.delete(f"{HOSTS}/h1?confirm=live")).status == 204  # as one that was stolen must be
    assert [host["id"] for host in (await hosted.get(HOSTS)).body["hosts"]] == ["h2", "h3"]


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", {"draining": True}), ("DELETE", None)])
async def test_an_unknown_host(hosted: Api, method: str, body: Any) -> None:
    for host in ("h9", "H%201"):
        answer = await hosted.send(method, f"{HOSTS}/{host}", body)
        assert (answer.problem, answer.body["field"]) == ("missing", "host")
    assert (await hosted.get(HOSTS)).body["revision"] == 4


@pytest.mark.parametrize(
    ("body", "field"),
    [({"draining": 1}, "draining"), ({"draining": None}, "draining"), ({"endpoint": "x"}, "endpoint")],
)
async def test_what_the_agent_sets_cannot_be_put(hosted: Api, body: Any, field: str) -> None:
    refused = await hosted.put(f"{HOSTS}/h1", body)
    assert (refused.status, refused.body["field"]) == (400, field)


async def test_an_unreadable_host_is_listed_and_can_be_forgotten(hosted: Api) -> None:
    store = hosted.store
    async with store.connection.client() as redis:
        await redis.hset(store.connection.keys.hosts, "broken", b"{}")
    await store.leases.renew(lease_of("broken"), 60_000)
    listed = (await hosted.get(f"{HOSTS}?limit=1")).body
    assert ([host["id"] for host in listed["hosts"]], listed["unreadable"]) == (["h1"], ["broken"])
    assert (await hosted.get(f"{HOSTS}/broken")).problem == "missing"
    assert (await hosted.delete(f"{HOSTS}/broken")).status == 204
    assert (await hosted.get(HOSTS)).body["unreadable"] == []


async def test_a_host_with_instances_is_forgotten_only_if_that_is_said(hosted: Api) -> None:
    for host in ("h1", "h4"):
        await hosted.put(f"{E}/services/api/instances/{host}", {"host": host})
    await hosted.put(f"{E}/peers/laptop", {"public_key": make_key(0xC1), "gateway": "h1"})
    refused = await hosted.delete(f"{HOSTS}/h4")
    assert (refused.status, refused.body["field"]) == (409, "host")
    assert "on the host 'h4' are h4.api of production: delete them first" in refused.body["detail"]
    assert refused.body["detail"].endswith("?confirm=instances")
    refused = await hosted.delete(f"{HOSTS}/h1?confirm=live")
    assert "are h1.api of production, the gateway of laptop of production" in refused.body["detail"]
    assert refused.body["detail"].endswith("?confirm=live,instances")
    assert "is alive" in (await hosted.delete(f"{HOSTS}/h1?confirm=instances")).body["detail"]
    for forgotten in ("h4?confirm=instances", "h1?confirm=live,instances"):
        assert (await hosted.delete(f"{HOSTS}/{forgotten}")).status == 204
    assert [host["id"] for host in (await hosted.get(HOSTS)).body["hosts"]] == ["h2", "h3"]


async def test_an_instance_on_a_forgotten_host_stays_and_is_not_answered(hosted: Api) -> None:
    """Not even once another host has come under that name."""
    store, path = hosted.store, f"{E}/services/api/instances/a1"
    attached = [PutInstance("api", "a1", host="h4", attached=True)]
    await Writer(store).edit(PRODUCTION, attached, NOW)
    assert (await hosted.get(path)).body["placement"] == "attached"
    assert (await hosted.delete(f"{HOSTS}/h4?confirm=instances")).status == 204
    body = (await hosted.get(path)).body
    assert (body["host"], body["placement"]) == ("h4", "not attached")
    await store.hosts.register(make_host(4))
    assert (await hosted.get(path)).body["placement"] == "not attached"
