"""The judge of leases, on a real store: it has hosts called down and back, and waits for a store that is away."""

from __future__ import annotations

import asyncio
import logging

import pytest

from admin.hosts.judge import LeaseJudge
from store.store import Store
from tests.store.servers import inside
from tests.waiting import cancel, until, until_true
from tests.worlds import LONG_LEASE, lease_of, make_host


async def test_hosts_are_called_down_and_back(store: Store, store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in (1, 2):
        await store.hosts.register(make_host(number))
        await store.leases.renew(lease_of(f"h{number}"), LONG_LEASE)

    async def has_looked() -> bool:
        async with inside(store, store_url) as (redis, keys):
            return bool(await redis.hexists(keys.hosts_missed, "@looked"))

    async def is_down() -> bool:
        return await store.hosts.down() == {"h2"}

    judge = asyncio.create_task(LeaseJudge(store.leases, grace=0.2).run())
    try:
        await until_true(has_looked)
        async with inside(store, store_url) as (redis, keys):
            await redis.delete(keys.lease("h2"))
        await until_true(is_down)
        await until(lambda: _events(caplog, "host_down") == ["h2"])
        await store.leases.renew(lease_of("h2"), LONG_LEASE)
        assert await store.hosts.down() == frozenset()
    finally:
        await cancel(judge)


def _events(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [record.__dict__["host"] for record in caplog.records if record.getMessage() == name]
