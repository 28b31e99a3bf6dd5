"""The tokens of an environment: made, listed, revoked."""

from __future__ import annotations

import pytest

from admin.auth import tokens
from tests.admin.api import Api, E


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


async def test_an_environment_has_a_limited_number(production: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.resources.tokens.MAX_TOKENS", 1)
    await production.make_token()
    assert (await production.post(f"{E}/tokens", {"name": "x"})).problem == "conflict"
