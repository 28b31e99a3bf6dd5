"""Environments that are damaged in the store: each request says so; replacing and deleting work."""

from __future__ import annotations

import pytest

from tests.admin.api import Api, E
from tests.store.servers import inside

REPLACE = f"{E}?replace=damaged"
DAMAGES = ["garbage", "changed by hand", "gone", "no line", "another digest"]
EACH = pytest.mark.parametrize("what", DAMAGES)


async def damage(api: Api, store_url: str, what: str) -> None:
    async with inside(api.store, store_url) as (redis, keys):
        match what:
            case "garbage":
                await redis.set(keys.environment("production"), b"garbage")
            case "changed by hand":
                written = await redis.get(keys.environment("production"))
                await redis.set(keys.environment("production"), written.replace(b'"ttl":60', b'"ttl":61'))
            case "gone":
                await redis.delete(keys.environment("production"))
            case "no line":
                await redis.hdel(keys.environments, "production")
            case "another digest":
                await redis.hset(keys.environments, "production", "4 digest -")


@EACH
async def test_each_request_says_so_and_changes_nothing(production: Api, store_url: str, what: str) -> None:
    token = await production.make_token()
    await production.put("/v1/environments/other", {})
    await damage(production, store_url, what)
    before = await production.store.changes.position()
    batch = {"edits": [{"op": "put-service", "name": "web"}]}
    for answer in (
        await production.get(E),
        await production.get(f"{E}/services"),
        await production.get(f"{E}/services/api/instances/a1", token=token),
        await production.put(E, {"enabled": False}),
        await production.put(f"{E}/services/web", {}, token=token),
        await production.delete(f"{E}/services/api"),
        await production.post(f"{E}/batch", batch),
        await production.post(f"{E}/tokens", {"name": "t"}),
    ):
        assert (answer.status, answer.problem) == (409, "damaged"), answer
        assert "environment 'production' is damaged in the store: " in answer.body["detail"]
        assert "?replace=damaged" in answer.body["detail"]
        assert "interlock store check" in answer.body["detail"]
    assert await production.store.changes.position() == before
    listed = (await production.get("/v1/environments")).body
    if what != "no line":  # else only 'interlock store check' finds it
        assert listed["unreadable"] == ["production"]
    assert [each["id"] for each in listed["environments"]] == ["other"]
    assert (await production.put("/v1/environments/other/services/api", {})).status == 201


@EACH
async def test_it_is_replaced_where_the_client_says_so(production: Api, store_url: str, what: str) -> None:
    network = (await production.get(E)).body["network"]
    etag = (await production.get(E)).headers["ETag"]
    await damage(production, store_url, what)
    for condition in ({"If-Match": etag}, {"If-None-Match": "*"}):
        assert (await production.put(REPLACE, {}, headers=condition)).status == 412
    replaced = await production.put(REPLACE, {"isolated": True})
    assert (replaced.status, replaced.body["network"], replaced.body["isolated"]) == (200, network, True)
    assert replaced.body["revision"] > 4
    shown = await production.get(E)
    assert (shown.status, shown.body["services"], shown.headers["ETag"]) == (200, [], replaced.headers["ETag"])
    assert (await production.put(f"{E}/services/api", {})).status == 201


@EACH
async def test_it_is_deleted_with_its_tokens(production: Api, store_url: str, what: str) -> None:
    token, etag = await production.make_token(), (await production.get(E)).headers["ETag"]
    await damage(production, store_url, what)
    assert (await production.delete(E, headers={"If-Match": etag})).status == 412
    assert (await production.delete(E)).status == 204
    assert (await production.get(E)).status == 404
    assert (await production.get(E, token=token)).status == 401
    assert (await production.put(E, {})).status == 201


async def test_the_word_changes_nothing_about_one_that_is_well_or_new(production: Api) -> None:
    before = (await production.get(E)).body
    assert (await production.put(REPLACE, {})).status == 200
    assert (await production.get(E)).body == before
    assert (await production.put("/v1/environments/new?replace=damaged", {})).status == 201
    refused = await production.put(f"{E}?replace=all", {})
    assert (refused.status, refused.body["field"]) == (400, "replace")


async def test_a_key_of_a_wrong_type_is_named(production: Api, store_url: str) -> None:
    """It was 201, and no reader ever heard of it."""
    async with inside(production.store, store_url) as (redis, keys):
        before = await redis.hgetall(keys.environments)
        await redis.delete(keys.changes)
        await redis.rpush(keys.changes, "something else")
        refused = await production.put(f"{E}/services/web", {})
        assert (refused.status, refused.problem) == (503, "store-damaged")
        assert f"{keys.changes} is of the type list, and must be a stream" in refused.body["detail"]
        assert "Retry-After" not in refused.headers
        assert await redis.hgetall(keys.environments) == before


async def test_a_token_that_cannot_be_read_opens_nothing_and_hinders_nothing(production: Api, store_url: str) -> None:
    token = await production.make_token()
    async with inside(production.store, store_url) as (redis, keys):
        for digest in await redis.hkeys(keys.tokens):
            await redis.hset(keys.tokens, digest, b"\xff")
    assert (await production.get(E, token=token)).status == 401
    assert (await production.get(f"{E}/tokens")).body["tokens"] == []
    assert (await production.delete(E)).status == 204


async def test_a_network_that_is_anothers_by_the_list_is_named_and_the_environment_can_be_deleted(
    production: Api, store_url: str
) -> None:
    """In place of "send it again" for ever."""
    network = (await production.get(E)).body["network"]
    async with inside(production.store, store_url) as (redis, keys):
        await redis.hset(keys.networks, network, "ghost")
    refused = await production.put(f"{E}/services/web", {})
    assert (refused.status, refused.problem) == (409, "damaged")
    assert f"the network {network} belongs or belonged to 'ghost'" in refused.body["detail"]
    assert "'interlock store check'" in refused.body["detail"]
    assert "send the request again" not in refused.body["detail"]
    assert (await production.get(E)).status == 200
    assert (await production.delete(E)).status == 204
