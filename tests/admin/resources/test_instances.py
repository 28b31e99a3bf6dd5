"""Instances: made, moved, drained, deleted."""

from __future__ import annotations

import asyncio
import json

from store.credentials import Enrolment
from tests.admin.api import PORT, Api, E, make_host
from tests.worlds import lease_of

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
        "placement": "unmanaged",
        "revision": 3,
    }


async def test_what_is_left_out_stays_and_null_removes(production: Api) -> None:
    await production.store.hosts.register(make_host(1))
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


async def test_a_host_that_does_not_exist(hosted: Api) -> None:
    for method, path, body in (
        ("PUT", f"{S}/instances/a1", {"host": "h9"}),
        ("PUT", f"{S}/instances/new", {"host": "h9"}),
        ("POST", f"{E}/batch", {"edits": [{"op": "put-instance", "service": "api", "id": "new", "host": "h9"}]}),
    ):
        refused = await hosted.send(method, path, body)
        assert (refused.status, refused.problem) == (409, "conflict"), path
        assert refused.body["field"].endswith("host")
        assert "there is no host 'h9'" in refused.body["detail"]
        assert "interlock host list" in refused.body["detail"]
    assert (await hosted.get(f"{S}/instances/a1")).revision == 5


async def test_a_batch_names_the_edit_with_the_unknown_host(hosted: Api) -> None:
    edits = [
        {"op": "put-instance", "service": "api", "id": id_, "host": host} for id_, host in (("x", "h1"), ("y", "h9"))
    ]
    refused = await hosted.send("POST", f"{E}/batch", {"edits": edits})
    assert (refused.status, refused.body["field"]) == (409, "edits[1].host")


async def test_a_host_that_was_let_in_may_be_named_before_it_comes(production: Api) -> None:
    await production.store.credentials.invite("h7", Enrolment("0" * 64, 10**15))
    put = await production.put(f"{S}/instances/a1", {"host": "h7"})
    assert (put.status, put.body["placement"]) == (200, "not attached")


async def test_each_reply_of_a_group_of_commits_says_that_the_host_is_down(hosted: Api) -> None:
    """Also in an environment that is too large to look through for each of them."""
    store, crowd = hosted.store, [{"op": "put-instance", "service": "api", "id": f"i{number}"} for number in range(600)]
    assert (await hosted.send("POST", f"{E}/batch", {"edits": crowd})).status == 200
    async with store.connection.client() as redis:
        await redis.hset(store.connection.keys.hosts_down, mapping={"h2": "1", "h4": "1"})
    regions = [f"r{number}" for number in range(8)]
    replies = await asyncio.gather(*(hosted.put(f"{S}/instances/a1", {"region": region}) for region in regions))
    assert [(each.body["region"], each.body["placement"]) for each in replies] == [(r, "host down") for r in regions]


async def test_what_is_not_attached_or_on_a_host_that_is_down_says_so(hosted: Api) -> None:
    """The entity tag differs, so that nobody is told 304; as a precondition it is the same."""
    store, path = hosted.store, f"{S}/instances/a1"
    before = await hosted.get(path)
    assert before.body["placement"] == "not attached"  # that a host is named does not attach it
    async with store.connection.client() as redis:
        await redis.hset(store.connection.keys.hosts_down, mapping={"h2": "1", "h4": "1"})
    after = await hosted.get(path)
    assert after.body["placement"] == "host down"
    assert after.headers["ETag"] != before.headers["ETag"]
    assert after.revision == before.revision
    for listed in (f"{S}/instances", S, f"{E}/services", E):
        assert '"placement": "host down"' in json.dumps((await hosted.get(listed)).body), listed
    changed = await hosted.put(S, {"ports": [PORT, PORT | {"name": "x"}]}, headers={"If-Match": after.headers["ETag"]})
    assert changed.status == 200
    await store.leases.renew(lease_of("h2"), 60_000)
    assert (await hosted.get(path)).body["placement"] == "not attached"
