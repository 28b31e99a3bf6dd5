"""Who may do what: every route, by every sort of token."""

from __future__ import annotations

import re
from typing import Any

import pytest

from admin.auth.access import Access
from admin.auth.tokens import make_token
from admin.routes import ROUTES
from tests.admin.api import NOBODY, ROOT, Api, E, make_host, make_key

BODIES: dict[str, Any] = {
    "put_record": {"ttl": 5, "values": ["192.0.2.1"]},
    "post_batch": {"edits": [{"op": "put-service", "name": "web"}]},
    "post_token": {"name": "test"},
    "put_peer": {"public_key": make_key(9), "gateway": "h1"},
}
PARTS = {
    "service": "api", "instance": "a1", "name": "new", "type": "A", "revision": "1", "token_id": "0" * 12,
    "peer": "laptop", "host": "h1",
}  # fmt: skip
QUERIES = {"get_explanation": "?environment={environment}&name=api.railway.internal"}

ALLOWED = {200, 201, 204, 404}
OWN, OTHER, NONE = "production", "staging", "nosuch"
# access → may the token of `production` do it in production, in another environment, in one that does not exist?
TENANT = {
    Access.OPEN: {OWN: ALLOWED, OTHER: ALLOWED, NONE: ALLOWED},
    Access.ANY: {OWN: ALLOWED, OTHER: {200, 403}, NONE: {200, 403}},
    Access.INSIDE: {OWN: ALLOWED, OTHER: {403}, NONE: {403}},
    Access.ROOT: {OWN: {403}, OTHER: {403}, NONE: {403}},
}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_every_route_by_every_token(production: Api, route: Any) -> None:
    await production.put(f"/v1/environments/{OTHER}", {})
    await production.store.hosts.register(make_host(1))
    tenant = await production.make_token()

    async def ask(environment: str, token: str) -> int:
        parts = {**PARTS, "environment": environment}
        path = re.sub(r"{(\w+)}", lambda match: parts[match[1]], route.path)
        path += QUERIES.get(route.name, "").format(environment=environment)
        body = BODIES.get(route.name, {}) if route.body else None
        answer = await production.send(route.method, path, body, token=token)
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="interlock"')
        return answer.status

    for token in (NOBODY, make_token(), "not one of ours"):
        assert await ask(OWN, token) == (200 if route.access is Access.OPEN else 401)
    for environment, allowed in TENANT[route.access].items():
        assert await ask(environment, tenant) in allowed, environment
    assert (await production.get(E)).status == 200, "nobody but root has deleted it"
    assert await ask(OWN, ROOT) in ALLOWED


async def test_a_refusal_says_nothing_about_what_exists(production: Api) -> None:
    await production.put(f"/v1/environments/{OTHER}", {})
    tenant = await production.make_token()
    for path in ("/v1/environments/{}", "/v1/environments/{}/services", "/v1/explain?name=x.&environment={}"):
        answers = [await production.get(path.format(id_), token=tenant) for id_ in (OTHER, NONE)]
        for answer in answers:
            answer.body.pop("instance")
        assert answers[0].body == answers[1].body
        assert answers[0].status == 403


async def test_a_list_shows_each_its_own(production: Api) -> None:
    await production.put(f"/v1/environments/{OTHER}", {})
    tenant = await production.make_token()
    for token, seen in ((tenant, [OWN]), (ROOT, [OWN, OTHER])):
        listed = await production.get("/v1/environments", token=token)
        assert [each["id"] for each in listed.body["environments"]] == seen


CHALLENGES = [
    ({}, 'Bearer realm="interlock"'),
    ({"Authorization": "Basic cm9vdDpyb290"}, 'Bearer realm="interlock", error="invalid_token"'),
    ({"Authorization": "Bearer "}, 'Bearer realm="interlock", error="invalid_token"'),
    ({"Authorization": "Bearer \xff\xfe"}, 'Bearer realm="interlock", error="invalid_token"'),
]


@pytest.mark.parametrize(("headers", "challenge"), CHALLENGES)
async def test_the_challenge(api: Api, headers: dict[str, str], challenge: str) -> None:
    refused = await api.get("/v1/environments", token=NOBODY, headers=headers)
    assert (refused.problem, refused.headers["WWW-Authenticate"]) == ("unauthenticated", challenge)


async def test_the_scheme_is_written_in_any_case(production: Api) -> None:
    answer = await production.get(E, token=NOBODY, headers={"Authorization": f"bearer {ROOT}"})
    assert answer.status == 200
