"""The API on each of the real stores, with the environment `production` in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from store.store import Store
from tests.admin.api import PORT, Api, E, enrol_host, make_host
from tests.worlds import lease_of

LEASE = 60_000  # milliseconds; longer than any test


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


@pytest_asyncio.fixture
async def hosted(production: Api) -> Api:
    """The API, with hosts: h1 and h2 live, h3 lives and is draining, h4 has died. Only h2 has a member, `a1`.

    All are enrolled for all environments. The environment is at revision 5, all hosts at 4.
    """
    store = production.store
    for number in (1, 2, 3, 4):
        await store.hosts.register(make_host(number, region="eu", draining=number == 3))
        await enrol_host(store, f"h{number}")
    for host in ("h1", "h2", "h3"):
        await store.leases.renew(lease_of(host), LEASE)
    assert (await production.put(f"{E}/services/api/instances/a1", {"host": "h2"})).status == 200
    return production
