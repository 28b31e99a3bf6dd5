"""The last deploys: of one environment for its token, of all for the root token."""

from __future__ import annotations

import pytest

from tests.admin.api import Api, E


async def test_a_token_sees_the_deploys_of_its_own_environment_alone(production: Api) -> None:
    token = await production.make_token()
    found = await production.get(f"{E}/deploys?limit=7", token=token)
    assert found.body["unheard"] == [{"host": "production", "reason": "7"}]
    assert (await production.get("/v1/deploys?environment=staging")).body["unheard"][0]["host"] == "staging"
    assert (await production.get("/v1/deploys")).body["unheard"][0] == {"host": "None", "reason": "50"}
    for path in ("/v1/deploys", "/v1/environments/staging/deploys"):
        assert (await production.get(path, token=token)).status == 403


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "colour=red", "environment=A%20b"])
async def test_what_cannot_be_asked_is_refused(production: Api, query: str) -> None:
    assert (await production.get(f"/v1/deploys?{query}")).status == 400
