"""Tokens of an environment, and admin tokens: made, listed, revoked, expired."""

from __future__ import annotations

import pytest

from admin.auth import tokens
from tests.admin.api import Api, E
from tests.waiting import until_true


async def test_shown_once_and_kept_as_a_digest(production: Api) -> None:
    made = await production.post(f"{E}/tokens", {"name": "deploys"})
    assert made.status == 201
    assert list(made.body) == ["id", "name", "environment", "created", "token"]
    secret = made.body.pop("token")
    assert tokens.is_well_formed(secret)

    listed = await production.get(f"{E}/tokens")
    assert listed.body == {"tokens": [made.body]}
    assert secret not in str(listed)
    kept = await production.store.tokens.read()
    assert list(kept) == [tokens.digest(secret)]
    assert secret not in str(kept)


async def test_a_revoked_token_opens_nothing(production: Api) -> None:
    made = (await production.post(f"{E}/tokens", {"name": "deploys"})).body
    assert (await production.get(E, token=made["token"])).status == 200
    assert (await production.delete(f"/v1/environments/staging/tokens/{made['id']}")).status == 404
    assert (await production.delete(f"{E}/tokens/{made['id']}")).status == 204
    assert (await production.get(E, token=made["token"])).status == 401
    assert (await production.delete(f"{E}/tokens/{made['id']}")).problem == "missing"


async def test_a_token_needs_its_environment(api: Api) -> None:
    for answer in (await api.post(f"{E}/tokens", {"name": "x"}), await api.get(f"{E}/tokens")):
        assert (answer.problem, answer.body["field"]) == ("missing", "environment")


async def test_there_is_a_limited_number_of_admin_tokens(production: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.resources.tokens.MOST_ADMIN_TOKENS", 1)
    assert (await production.post("/v1/tokens", {"name": "x"})).status == 201
    assert (await production.post("/v1/tokens", {"name": "x"})).problem == "conflict"


async def test_a_token_that_expires(production: Api) -> None:
    made = await production.post(f"{E}/tokens", {"name": "visit", "expires_in_days": 1})
    assert made.status == 201
    assert made.body["expires"] > made.body["created"]
    assert (await production.get(E, token=made.body["token"])).status == 200
    production.store.clock.note(production.store.clock.now() + 86_401)  # a day later, by the store's clock
    refused = await production.get(E, token=made.body["token"])
    assert (refused.status, refused.problem) == (401, "unauthenticated")
    assert [token["id"] for token in (await production.get(f"{E}/tokens")).body["tokens"]] == [made.body["id"]]


@pytest.mark.parametrize("days", [0, -1, 3651, 1.5, "1"])
async def test_an_expiry_that_is_none(production: Api, days: object) -> None:
    refused = await production.post(f"{E}/tokens", {"name": "x", "expires_in_days": days})
    assert (refused.status, refused.body["field"]) == (400, "expires_in_days")


async def test_a_token_that_only_reads(production: Api) -> None:
    made = (await production.post(f"{E}/tokens", {"name": "dashboard", "read_only": True})).body
    assert made["read_only"] is True
    assert (await production.get(E, token=made["token"])).status == 200
    refused = await production.put(f"{E}/services/web", {}, token=made["token"])
    assert (refused.status, refused.problem) == (403, "forbidden")
    assert "only reads" in refused.body["detail"]


async def test_when_a_token_was_used_last(production: Api) -> None:
    made = (await production.post(f"{E}/tokens", {"name": "deploys"})).body
    assert "used" not in (await production.get(f"{E}/tokens")).body["tokens"][0]
    for _ in range(5):
        assert (await production.get(E, token=made["token"])).status == 200
    await until_true(production.store.tokens.uses, "its use is noted")
    listed = (await production.get(f"{E}/tokens")).body["tokens"][0]
    assert listed["used"] >= listed["created"]
    assert list(await production.store.tokens.uses()) == [made["id"]]


async def test_an_admin_token_is_named_and_does_all_but_make_another(production: Api) -> None:
    made = await production.post("/v1/tokens", {"name": "alice"})
    assert (made.status, made.body["environment"]) == (201, None)
    alice = made.body["token"]
    assert (await production.put("/v1/environments/staging", {}, token=alice)).status == 201
    assert (await production.post("/v1/environments/staging/tokens", {"name": "x"}, token=alice)).status == 201
    assert (await production.get("/v1/tokens", token=alice)).body["tokens"][0]["name"] == "alice"
    for refused in (
        await production.post("/v1/tokens", {"name": "mallory"}, token=alice),
        await production.delete(f"/v1/tokens/{made.body['id']}", token=alice),
    ):
        assert (refused.status, refused.problem) == (403, "forbidden")
    assert (await production.delete(f"/v1/tokens/{made.body['id']}")).status == 204
    assert (await production.get("/v1/hosts", token=alice)).status == 401
    assert (await production.delete(f"/v1/tokens/{made.body['id']}")).problem == "missing"


async def test_the_tokens_of_an_environment_are_not_admin_tokens(production: Api) -> None:
    admin = (await production.post("/v1/tokens", {"name": "alice"})).body
    tenant = (await production.post(f"{E}/tokens", {"name": "deploys"})).body
    assert (await production.delete(f"/v1/tokens/{tenant['id']}")).status == 404
    assert (await production.delete(f"{E}/tokens/{admin['id']}")).status == 404
    assert [one["id"] for one in (await production.get("/v1/tokens")).body["tokens"]] == [admin["id"]]
    assert [one["id"] for one in (await production.get(f"{E}/tokens")).body["tokens"]] == [tenant["id"]]
    assert (await production.delete(E)).status == 204
    assert (await production.get("/v1/hosts", token=admin["token"])).status == 200, "it is of no environment"
