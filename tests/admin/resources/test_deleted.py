"""Deleted environments through the API: listed, brought back, and for the root token alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from store.store import Store
from tests.admin.api import Api, E


@pytest_asyncio.fixture
async def kept(store: Store) -> AsyncIterator[Api]:
    """An API that keeps what is deleted for an hour, with `production`, its service `api` and an instance."""
    async with Api(store, keep_deleted=3600) as api:
        await api.put(E, {"isolated": True})
        await api.put(f"{E}/services/api", {})
        await api.put(f"{E}/services/api/instances/a1", {})
        yield api


async def test_it_comes_back_at_the_same_addresses(kept: Api) -> None:
    before = (await kept.get(E)).body
    token = (await kept.post(f"{E}/tokens", {"name": "t"})).body["token"]
    assert (await kept.delete(E)).status == 204
    ((listed,), next_) = (await kept.get("/v1/deleted")).body.values()
    assert next_ is None
    assert (listed["id"], listed["network"], listed["services"], listed["instances"]) == (
        "production", before["network"], 1, 1,
    )  # fmt: skip
    answer = await kept.post(f"{E}/undelete", {})
    assert (answer.status, answer.body["revision"]) == (201, before["revision"] + 2)
    after = (await kept.get(E)).body
    assert {**after, "revision": 0} == {**before, "revision": 0}
    assert (await kept.get(E, token=token)).status == 401
    assert (await kept.get("/v1/deleted")).body["environments"] == []


async def test_what_is_refused(kept: Api) -> None:
    assert (await kept.post(f"{E}/undelete", {})).problem == "conflict"
    assert (await kept.post("/v1/environments/staging/undelete", {})).problem == "missing"
    token = (await kept.post(f"{E}/tokens", {"name": "t"})).body["token"]
    assert (await kept.post(f"{E}/undelete", {}, token=token)).problem == "forbidden"
    assert (await kept.get("/v1/deleted", token=token)).problem == "forbidden"
    await kept.delete(E)
    assert (await kept.post(f"{E}/undelete", {"revision": 1})).problem == "missing"
