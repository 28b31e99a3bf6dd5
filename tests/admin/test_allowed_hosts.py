"""A token of an environment brings it only to hosts that were enrolled for it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.admin.api import Api, E, make_key

A1 = f"{E}/services/api/instances/a1"
LAPTOP = f"{E}/peers/laptop"
KEY = make_key(0xA1)

# a1 is on h2, where an administrator put it
ASSIGNED: dict[str, tuple[str, ...] | None] = {"h1": None, "h2": ("staging",), "h3": (), "h4": ("production",)}

MOVES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", f"{E}/services/api/instances/a9", {"host": "{host}"}),
    ("PUT", LAPTOP, {"public_key": KEY, "gateway": "{host}"}),
    ("POST", f"{E}/batch", {"edits": [{"op": "put-instance", "service": "api", "id": "a9", "host": "{host}"}]}),
    ("POST", f"{E}/batch", {"edits": [{"op": "put-peer", "id": "tv", "public_key": KEY, "gateway": "{host}"}]}),
]


@pytest_asyncio.fixture
async def assigned(hosted: Api) -> Api:
    for host, environments in ASSIGNED.items():
        assert await hosted.store.credentials.assign(host, environments)
    return hosted


def _naming(body: Any, host: str) -> Any:
    match body:
        case dict():
            return {key: _naming(value, host) for key, value in body.items()}
        case list():
            return [_naming(value, host) for value in body]
    return body.format(host=host)


@pytest.mark.parametrize(("method", "path", "body"), MOVES)
async def test_only_to_hosts_that_were_enrolled_for_it(assigned: Api, method: str, path: str, body: Any) -> None:
    tenant, told = await assigned.make_token(), set()
    before = (await assigned.get(E)).body
    # Enrolled for another environment, for none, not at all: the token cannot tell them apart.
    for host in ("h2", "h3", "h9"):
        refused = await assigned.send(method, path, _naming(body, host), token=tenant)
        assert (refused.status, refused.problem) == (403, "forbidden"), (host, refused.body)
        told.add(refused.body["detail"].replace(host, "HOST"))
    assert len(told) == 1
    assert (await assigned.get(E)).body == before
    assert (await assigned.send(method, path, _naming(body, "h1"), token=tenant)).status in {200, 201}


async def test_what_is_there_may_stay_and_does_not_come_back(assigned: Api) -> None:
    tenant = await assigned.make_token()
    kept = await assigned.put(A1, {"host": "h2", "state": "draining"}, token=tenant)
    assert (kept.status, kept.body["host"]) == (200, "h2")
    assert (await assigned.put(A1, {"host": "h4"}, token=tenant)).status == 200
    assert (await assigned.put(A1, {"host": "h2"}, token=tenant)).status == 403
    assert (await assigned.put(A1, {"host": None}, token=tenant)).status == 200


async def test_a_gateway_is_chosen_among_those(assigned: Api) -> None:
    tenant = await assigned.make_token()
    made = await assigned.put(LAPTOP, {"public_key": KEY}, token=tenant)
    assert (made.status, made.body["gateway"]) == (201, "h1")


async def test_root_and_admin_tokens_name_any_host_that_there_is(assigned: Api) -> None:
    admin = (await assigned.post("/v1/tokens", {"name": "platform"})).body["token"]
    assert (await assigned.put(A1, {"host": "h3"}, token=admin)).status == 200
    assert (await assigned.put(A1, {"host": "h3"})).status == 200
    assert (await assigned.put(A1, {"host": "h9"}, token=admin)).problem == "conflict"
    assert (await assigned.put(A1, {"host": "h9"})).problem == "conflict"
