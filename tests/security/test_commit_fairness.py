"""One environment of 30,000 instances that is written all the time does not slow the commits of another.

What is counted are the commits of the large environment that another environment's commit waits for: that is the same
on a slow machine. Changes that wait together are one commit, however many they are.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession

from tests.security.installation import Installation, installation

SERVICES, INSTANCES = 30, 1000  # of each service
WRITERS = 50  # at once, in the large environment
READERS = 5
COMMITS = 30  # at least, of the other environment
SERVED = 10  # requests about the large environment, at least, meanwhile
MOST_BEFORE = 3  # commits of the large environment that one of the other waits for, half of the time


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("up")) as made:
        yield made


class Large:
    """An environment of 30,000 instances, and those who write and read it."""

    def __init__(self, client: ClientSession, path: str) -> None:
        self.served = 0
        """Requests about it that were answered."""
        self._client = client
        self._path = path
        self._tasks: list[asyncio.Task[None]] = []

    async def fill(self) -> None:
        for service in range(SERVICES):
            edits: list[dict[str, str]] = [{"op": "put-service", "name": f"s{service}"}]
            edits += [
                {"op": "put-instance", "service": f"s{service}", "id": f"i{number}"} for number in range(INSTANCES - 1)
            ]
            async with self._client.post(f"{self._path}/batch", json={"edits": edits}) as reply:
                assert reply.status == 200, await reply.text()

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """All of them at once, all the time."""
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(WRITERS)]
        self._tasks += [asyncio.create_task(self._read()) for _ in range(READERS)]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        for task in self._tasks:
            assert not task.done(), task.exception()

    async def _write(self, writer: int) -> None:
        for number in itertools.count():
            await self._request("PUT", f"/services/s0/instances/w{writer}", {"region": f"r{number}"})

    async def _read(self) -> None:
        while True:
            await self._request("GET")

    async def _request(self, method: str, part: str = "", body: object = None) -> None:
        async with self._client.request(method, self._path + part, json=body) as reply:
            # It is seconds of work: where the machine is slow, some are told to come again.
            assert reply.status in (200, 201, 503), await reply.text()
            self.served += 1


async def test_a_large_busy_environment_delays_no_other(up: Installation) -> None:
    seconds, before = list[float](), list[int]()
    async with ClientSession(headers={"Authorization": f"Bearer {up.token}"}) as client:
        large = Large(client, f"{up.api}/v1/environments/noisy")
        await large.fill()
        async with large.busy():
            while len(seconds) < COMMITS or large.served < SERVED:
                number, earlier, began = len(seconds), up.metric("interlock_commits_total"), time.monotonic()
                url = f"{up.api}/v1/environments/neighbour/services/api/instances/a{number % COMMITS}"
                async with client.put(url, json={"region": f"r{number}"}) as reply:
                    assert reply.status in (200, 201), await reply.text()
                seconds.append(time.monotonic() - began)
                before.append(int(up.metric("interlock_commits_total") - earlier - 1))
                large.check()
    print(
        f"{len(seconds)} commits: median {statistics.median(seconds):.3f} s, most {max(seconds):.3f} s;"
        f" commits before one: median {statistics.median(before)}, most {max(before)}; {large.served} requests in all"
    )
    assert statistics.median(before) <= MOST_BEFORE
