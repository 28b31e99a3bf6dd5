"""Instances: made, moved, drained, deleted."""

from __future__ import annotations

from tests.admin.api import Api, E

S = f"{E}/services/api"


async def test_created_as_the_design_shows(api: Api) -> None:
    await api.put(E, {})
    subnet = (await api.put(S, {})).body["subnet"]
    made = await api.put(f"{S}/instances/a1", {"state": "ready", "region": "eu"})
    assert (made.status, made.revision) == (201, 3)
    assert made.body == {
        "id": "a1",
        "address": subnet.replace("/64", "1"),
        "state": "ready",
        "region": "eu",
        "host": None,
        "revision": 3,
    }


async def test_what_is_left_out_stays_and_null_removes(production: Api) -> None:
    address = (await production.get(f"{S}/instances/a1")).body["address"]
    for body, expected in (
        ({"state": "draining"}, ("draining", "eu", None, 5)),
        ({"host": "h1"}, ("draining", "eu", "h1", 6)),
        ({}, ("draining", "eu", "h1", 6)),
        ({"region": None, "host": None}, ("draining", None, None, 7)),
    ):
        changed = (await production.put(f"{S}/instances/a1", body)).body
        assert (changed["state"], changed["region"], changed["host"], changed["revision"]) == expected
        assert changed["address"] == address


async def test_an_address_is_not_given_again(production: Api) -> None:
    old = (await production.get(f"{S}/instances/a1")).body["address"]
    assert (await production.delete(f"{S}/instances/a1")).status == 204
    assert (await production.get(f"{S}/instances/a1")).problem == "missing"
    assert (await production.delete(f"{S}/instances/a1")).problem == "missing"
    made = await production.put(f"{S}/instances/a1", {})
    assert (made.status, made.body["address"]) == (201, old[:-1] + "2")


async def test_an_instance_needs_its_service(production: Api) -> None:
    refused = await production.put(f"{E}/services/nosuch/instances/a1", {})
    assert (refused.problem, refused.body["field"]) == ("missing", "service")


async def test_listed_by_page(production: Api) -> None:
    await production.put(f"{S}/instances/a2", {})
    page = (await production.get(f"{S}/instances?limit=1")).body
    assert ([each["id"] for each in page["instances"]], page["next"], page["revision"]) == (["a1"], "a1", 5)
    page = (await production.get(f"{S}/instances?after=a1")).body
    assert ([each["id"] for each in page["instances"]], page["next"]) == (["a2"], None)
