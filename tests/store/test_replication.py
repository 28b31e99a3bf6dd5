"""Which replicas hold what was written, by real ones: linked to the primary, to another replica, or to nobody."""

from __future__ import annotations

import signal
import time
from dataclasses import replace

from store.client import arguments_of
from store.finder import Electable
from store.replication import Position, Replicas, followers_of, position_of
from store.url import Address
from tests.store.servers import Server, StartServer, free_port, redis_of
from tests.waiting import DEADLINE

ONE, TWO, THREE = (("192.0.2.1", port) for port in (1, 2, 3))


def address_of(server: Server) -> Address:
    return "127.0.0.1", server.port


async def position_after(primary: Server, key: str) -> Position:
    """Where ``primary`` is when it has written ``key``."""
    async with redis_of(primary.url) as redis:
        await redis.set(key, "1")
        return position_of(await redis.info("replication"))


async def test_replicas_say_themselves_what_they_hold(start_server: StartServer) -> None:
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}", tcp=True)
    last = await start_server("--replicaof", f"127.0.0.1 {replica.port}", "--repl-diskless-sync-delay", "0", tcp=True)
    replicas = Replicas(lambda address: arguments_of(f"redis://{address[0]}:{address[1]}"), "shown")
    both = [address_of(replica), address_of(last)]
    try:
        position = await position_after(primary, "a")
        assert await replicas.count_holding(both, position, time.monotonic() + DEADLINE) == 2
        now = time.monotonic()
        ahead = replace(position, offset=position.offset + 1_000_000)
        other = replace(position, history="0" * 40)  # that of another primary, whatever its offset
        for wrong in (ahead, other):
            assert await replicas.count_holding(both, wrong, now) == 0
        nobody = ("127.0.0.1", free_port())
        assert await replicas.count_holding([address_of(primary), nobody], position, now) == 0
        last.signal(signal.SIGSTOP)
        position = await position_after(primary, "b")
        assert await replicas.count_holding([address_of(last)], position, now) == 0
        last.signal(signal.SIGCONT)
        assert await replicas.count_holding(both, position, time.monotonic() + DEADLINE) == 2
        async with redis_of(last.url) as redis:
            await redis.execute_command("REPLICAOF", "NO", "ONE")
        # It holds the write, and goes on with a history of its own: what comes next it will not have.
        assert await replicas.count_holding([address_of(last)], position, now) == 0
    finally:
        await replicas.close()


def test_a_replica_in_step_is_a_follower() -> None:
    online, syncing = ({"ip": ip, "port": port, "state": "online"} for ip, port in (ONE, TWO))
    syncing["state"] = "wait_bgsave"
    assert followers_of({"role": "master", "slave0": online, "slave1": syncing, "slaves": 2}) == {ONE}


def test_a_replica_that_seems_to_be_down_for_a_moment_counts() -> None:
    now = Electable(frozenset({ONE}), frozenset({THREE}), are_known=True)
    assert now.since(Electable(frozenset({ONE, TWO, THREE}))).up == {ONE, TWO}


def test_one_replica_at_least_must_confirm() -> None:
    assert [Electable(are_known=known).number for known in (False, True)] == [0, 1]
