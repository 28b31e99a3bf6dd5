"""The store is down: 503 with what to do, and health checks still answer; all is well again when it is back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from store.options import StoreOptions
from store.store import Store
from tests.admin.api import ROOT, Api, E
from tests.conftest import _server_binaries, running_server
from tests.store.servers import StartServer, opened, redis_of


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_gone_and_back(kind: str, tmp_path: Path) -> None:
    binary = _server_binaries()[kind]
    if binary is None:
        pytest.skip(f"no {kind}-server on this machine: install the package redis-server")
    async with AsyncExitStack() as stack:
        with running_server(binary, tmp_path) as url:
            store = Store(url)
            stack.push_async_callback(store.close)
            api = await stack.enter_async_context(Api(store))
            assert (await api.put(E, {})).status == 201
            tenant = await api.make_token()

        for token in (ROOT, tenant):
            for answer in (await api.get(E, token=token), await api.put(f"{E}/services/api", {}, token=token)):
                assert (answer.status, answer.problem) == (503, "store-unavailable")
                assert answer.headers["Retry-After"] == "1"
                assert "again later" in answer.body["detail"]
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            assert (await api.get(path)).status == 200

        with running_server(binary, tmp_path):
            async with asyncio.timeout(10):
                answer = await api.put(f"{E}/services/api", {}, token=tenant)
                while answer.status == 503:  # while it loads its file
                    answer = await api.put(f"{E}/services/api", {}, token=tenant)
            assert (answer.status, answer.body["revision"]) == (201, 2)


async def test_a_write_that_was_made_is_not_to_be_sent_again_blindly(start_server: StartServer) -> None:
    """No replica has confirmed it: whoever reads "not written" or "send it again" would make it twice."""
    server = await start_server()
    async with opened(server.url, options=StoreOptions(wait=1)) as store, Api(store) as api:
        refused = await api.put(E, {})
        assert (refused.status, refused.problem) == (503, "unconfirmed")
        assert refused.body["title"] == "The write was made, and a failover may lose it"
        assert "0 of 1 replicas have confirmed it" in refused.body["detail"]
        assert "read before you send it again" in refused.body["detail"]
        assert "again later" not in refused.body["detail"]
        assert "Retry-After" not in refused.headers
        assert (await api.get(E)).status == 200


async def test_a_full_memory_is_said_without_the_place_in_a_script(start_server: StartServer) -> None:
    server = await start_server()
    async with opened(server.url) as store, redis_of(server.url) as redis, Api(store) as api:
        await redis.config_set("maxmemory", 1)
        refused = await api.put(E, {})
        assert (refused.status, refused.problem) == (503, "store-unavailable")
        assert refused.body["title"] == "The store refuses"
        assert "'maxmemory': send the request again later" in refused.body["detail"]
        assert "user_script" not in refused.body["detail"]
