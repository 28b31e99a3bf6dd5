"""The API on each of the real stores, with the environment `production` in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.admin.api import PORT, Api, E
from watcher.store import Store


@pytest_asyncio.fixture
async def api(store: Store) -> AsyncIterator[Api]:
    async with Api(store) as api:
        yield api


@pytest_asyncio.fixture
async def production(api: Api) -> Api:
    """The API, with an environment at revision 4: the service `api`, its instance `a1`, the record `db`."""
    for path, body in (
        (E, {}),
        (f"{E}/services/api", {"ports": [PORT]}),
        (f"{E}/services/api/instances/a1", {"region": "eu"}),
        (f"{E}/records/db/CNAME", {"ttl": 60, "values": ["api.railway.internal."]}),
    ):
        assert (await api.put(path, body)).status == 201
    return api
