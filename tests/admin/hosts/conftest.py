"""A control plane on each of the real stores, and the admin API beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from store.store import Store
from tests.admin.api import Api
from tests.admin.hosts.agents import ControlPlane, Files, enrol

Enrol = Callable[..., Awaitable[Files]]


@pytest_asyncio.fixture
async def plane(store: Store) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(store) as plane:
        yield plane


@pytest.fixture
def enrolled(api: Api, plane: ControlPlane) -> Enrol:
    """Enrols a host, by a token of the API."""

    async def enrolled(host: str, **body: object) -> Files:
        made = await api.post(f"/v1/hosts/{host}/enrolments", body)
        assert made.status == 201, made
        return await enrol(plane.url, host, made.body["token"])

    return enrolled
