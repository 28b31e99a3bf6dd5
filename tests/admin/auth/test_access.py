"""Access: every route, by every kind of token."""

from __future__ import annotations

import re
from typing import Any

import pytest

from admin.auth.access import Access
from admin.auth.tokens import make_token
from admin.http.route import Route
from admin.routes import ROUTES
from tests.admin.api import NO_TOKEN, ROOT, Api, E, make_host, make_key

OWN, OTHER, NONE = "production", "staging", "nosuch"  # the tenant's environment, another, one that does not exist
INSIDE_OF_IT: list[dict[str, Any]] = [
    {"op": "put-service", "name": "api"},
    {"op": "put-instance", "service": "api", "id": "a1"},
    {"op": "put-record", "name": "db", "type": "CNAME", "ttl": 60, "values": ["api.railway.internal."]},
    {"op": "put-peer", "id": "laptop", "public_key": make_key(9), "gateway": "h1"},
]
BODIES: dict[str, Any] = {
    "put_record": {"ttl": 5, "values": ["web.railway.internal."]},
    "post_batch": {"edits": [{"op": "put-service", "name": "web"}]},
    "post_token": {"name": "test"},
    "post_admin_token": {"name": "test"},
}
PARTS = {
    "service": "api", "instance": "a1", "name": "db", "type": "CNAME", "revision": "1", "peer": "laptop", "host": "h1",
}  # fmt: skip
QUERIES = {
    "get_report": "?environment={environment}",
    "get_explanation": "?environment={environment}&name=api.railway.internal",
    "delete_host": "?confirm=instances",  # it is the gateway of the peer in both
}


def status_of(route: Route) -> int:
    """The status of ``route`` for a client that may use it, where all that its path names exists."""
    if route.name in ("post_token", "post_admin_token", "post_enrolment", "post_undelete", "post_sign_in_link"):
        return 201
    return 204 if route.method == "DELETE" else 200


def tenant_statuses(route: Route) -> dict[str, int]:
    """The status of ``route`` in each environment for the token of `OWN`."""
    own = status_of(route)
    match route.access:
        case Access.OPEN:
            return {OWN: own, OTHER: own, NONE: own}
        case Access.ANY if route.name in ("list_environments", "post_sign_in_link"):  # they name no environment
            return {OWN: own, OTHER: own, NONE: own}
        case Access.ANY | Access.INSIDE:
            return {OWN: own, OTHER: 403, NONE: 403}
        case Access.ROOT | Access.ROOT_ALONE:
            return {OWN: 403, OTHER: 403, NONE: 403}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_every_route_by_every_token(production: Api, route: Route) -> None:
    await production.store.hosts.register(make_host(1))
    token_ids = {NONE: "0" * 12}
    for environment in (OWN, OTHER):
        path = f"/v1/environments/{environment}"
        await production.put(path, {})
        assert (await production.post(f"{path}/batch", {"edits": INSIDE_OF_IT})).status == 200
        token_ids[environment] = (await production.post(f"{path}/tokens", {"name": "test"})).body["id"]
    admins = [(await production.post("/v1/tokens", {"name": "a", "read_only": only})).body for only in (False, True)]
    tenant = await production.make_token(OWN)

    async def ask(environment: str, token: str) -> int:
        id_ = admins[0]["id"] if route.name == "delete_admin_token" else token_ids[environment]
        parts = {**PARTS, "environment": environment, "token_id": id_}
        path = re.sub(r"{(\w+)}", lambda match: parts[match[1]], route.path)
        path += QUERIES.get(route.name, "").format(environment=environment)
        body = BODIES.get(route.name, {}) if route.body else None
        answer = await production.send(route.method, path, body, token=token)
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="interlock"')
        return answer.status

    for token in (NO_TOKEN, make_token(), "not one of ours"):
        assert await ask(OWN, token) == (200 if route.access is Access.OPEN else 401)
    assert {environment: await ask(environment, tenant) for environment in (OWN, OTHER, NONE)} == tenant_statuses(route)
    reads = (await production.post(f"/v1/environments/{OWN}/tokens", {"name": "r", "read_only": True})).body["token"]
    for token in (reads, admins[1]["token"]):
        if route.is_write:
            assert await ask(OWN, token) == 403, "it only reads"
    for environment in (OWN, OTHER):
        assert (await production.get(f"/v1/environments/{environment}")).status == 200, "only root may delete it"
    if route.access is Access.ROOT_ALONE or not route.is_write:
        assert await ask(OTHER, admins[0]["token"]) == (403 if route.access is Access.ROOT_ALONE else status_of(route))
    if route.name == "post_undelete":  # what its path names is a deleted environment that is kept
        async with Api(production.store, keep_deleted=3600) as keeping:
            assert (await keeping.delete(f"/v1/environments/{OTHER}")).status == 204
    assert await ask(OTHER, ROOT) == status_of(route)


async def test_a_refusal_says_nothing_about_what_exists(production: Api) -> None:
    await production.put(f"/v1/environments/{OTHER}", {})
    tenant = await production.make_token()
    for path in ("/v1/environments/{}", "/v1/environments/{}/services", "/v1/explain?name=x.&environment={}"):
        answers = [await production.get(path.format(id_), token=tenant) for id_ in (OTHER, NONE)]
        for answer in answers:
            answer.body.pop("instance")
        assert answers[0].body == answers[1].body
        assert answers[0].status == 403


async def test_a_list_holds_what_the_token_may_see(production: Api) -> None:
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
    refused = await api.get("/v1/environments", token=NO_TOKEN, headers=headers)
    assert (refused.problem, refused.headers["WWW-Authenticate"]) == ("unauthenticated", challenge)


async def test_the_scheme_is_written_in_any_case(production: Api) -> None:
    answer = await production.get(E, token=NO_TOKEN, headers={"Authorization": f"bearer {ROOT}"})
    assert answer.status == 200
