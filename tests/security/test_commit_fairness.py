"""One environment of 30,000 instances that is written all the time does not slow the commits of another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from aiohttp import ClientSession

from tests.security.installation import Installation, installation
from tests.waiting import scaled

SERVICES, INSTANCES = 30, 1000  # of each service
WRITERS = 50  # at once, in the large environment
READERS = 5
ROUNDS = 30  # commits of the other environment
MOST = scaled(1.0)  # seconds for one of them; it was twelve


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("up")) as made:
        yield made


async def test_a_large_busy_environment_delays_no_other(up: Installation) -> None:
    path, small = f"{up.api}/v1/environments/noisy", f"{up.api}/v1/environments/neighbour"
    async with ClientSession(headers={"Authorization": f"Bearer {up.token}"}) as client:

        async def put(url: str, body: object) -> None:
            async with client.put(url, json=body) as reply:
                assert reply.status in (200, 201), await reply.text()

        for service in range(SERVICES):
            edits: list[dict[str, str]] = [{"op": "put-service", "name": f"s{service}"}]
            edits += [
                {"op": "put-instance", "service": f"s{service}", "id": f"i{number}"} for number in range(INSTANCES - 1)
            ]
            async with client.post(f"{path}/batch", json={"edits": edits}) as reply:
                assert reply.status == 200, await reply.text()

        made = 0

        async def write(writer: int) -> None:
            nonlocal made
            for number in range(1_000_000):
                await put(f"{path}/services/s0/instances/w{writer}", {"region": f"r{number}"})
                made += 1

        async def read() -> None:
            while True:
                async with client.get(path) as reply:
                    assert reply.status == 200

        busy = [asyncio.create_task(write(number)) for number in range(WRITERS)]
        busy += [asyncio.create_task(read()) for _ in range(READERS)]
        try:
            seconds = []
            for number in range(ROUNDS):
                began = time.monotonic()
                await put(f"{small}/services/api/instances/a{number}", {})
                seconds.append(time.monotonic() - began)
                for task in busy:
                    assert not task.done()
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
    print(
        f"{ROUNDS} commits: median {sorted(seconds)[ROUNDS // 2]:.3f} s, most {max(seconds):.3f} s; {made} beside them"
    )
    assert max(seconds) < MOST
    assert made
