"""Over TCP, what clients send of messages that they do not complete is bounded, and no other client notices."""

from __future__ import annotations

import asyncio

import pytest

from resolver.net import connections
from tests import worlds
from tests.resolver.messages import answers, query, read
from tests.resolver.servers import ask_tcp, serving
from tests.waiting import until

PRODUCTION, STAGING = worlds.compiled(worlds.production()), worlds.compiled(worlds.staging())
PARTIAL = b"\xff\xff" + bytes(65_000)  # of the longest message there is


@pytest.mark.parametrize(
    ("limit", "sources"),
    [
        ("MOST_RECEIVED", [f"127.0.3.{number}" for number in range(1, 41)]),
        ("MOST_RECEIVED_OF_ONE_CLIENT", ["127.0.0.2"] * 40),
    ],
)
async def test_who_holds_back_the_rest_of_a_message_for_longest_is_cut_off(
    limit: str, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, limit, 1 << 20)
    async with serving(PRODUCTION, STAGING) as resolver:
        server = resolver.addresses[0]
        held = resolver.tcp_connections
        idle = await asyncio.open_connection(*server, local_addr=("127.0.0.3", 0))
        slow = []
        for number, source in enumerate(sources, 1):
            slow.append(await asyncio.open_connection(*server, local_addr=(source, 0)))
            slow[-1][1].write(PARTIAL)
            least = min(number, 15) * len(PARTIAL)
            await until(lambda least=least: held.received >= least)  # type: ignore[misc]
            assert held.received <= 1 << 20
        await until(lambda: resolver.counts.dropped["tcp_too_large"] == 24)
        assert await slow[0][0].read() == b""
        assert not slow[-1][0].at_eof()
        assert answers(read(await ask_tcp(server, query("api"), "127.0.0.3")))
        assert not idle[0].at_eof()
        for _, writer in [*slow, idle]:
            writer.close()
        await until(lambda: not held.received and not len(held))


async def test_a_client_that_sends_many_queries_on_many_connections_waits_for_others_turns() -> None:
    """Ten connections with a thousand queries each, and a neighbour that asks one."""
    packet = query("nowhere", payload=1232)
    many = b"".join(
        len(one).to_bytes(2, "big") + one for one in (number.to_bytes(2, "big") + packet[2:] for number in range(1000))
    )
    async with serving(PRODUCTION, STAGING, source_rate=0) as resolver:
        server = resolver.addresses[0]
        noisy = [await asyncio.open_connection(*server, local_addr=("127.0.0.2", 0)) for _ in range(10)]
        for _, writer in noisy:
            writer.write(many)
        assert answers(read(await ask_tcp(server, query("api"), "127.0.0.3")))
        answered = resolver.counts.latency.count
        assert answered < 5000
        for reader, writer in noisy:
            for _ in range(1000):
                await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            writer.close()
