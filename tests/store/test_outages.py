"""The store on servers that are away, hang, refuse, fail over, or lose a reply."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from store import changes as changes_module
from store import connection as connection_module
from store import store as store_module
from store.errors import StoreError, TooManyWaiting, Unavailable, Unreplicated, WrongKey
from store.keys import ALL_HOSTS
from store.options import ALL, StoreOptions
from store.replication import followers_of
from store.store import Store
from store.tokens import Token
from tests import worlds
from tests.store.servers import Proxy, Server, StartServer, free_port, inside, opened, redis_of
from tests.waiting import DEADLINE, cancel, until_true, waited_for_processor
from tests.worlds import LONG_LEASE, PRODUCTION, build, lease_of, toggled
from zones.edits import (
    PutInstance,
    PutService,
    apply,
)
from zones.hosts import Host
from zones.model import Environment
from zones.names import EnvironmentId

SECRET = "s3cr3t"


async def every_call(store: Store) -> list[BaseException | object]:
    """What each method of ``store`` returns or raises."""
    environment, host = build("production", 1), Host("h1", "192.0.2.1:1", worlds.public_key(1))
    token = Token("t", "*", "n", 1)
    calls = [
        store.ping(),
        store.environments.index(), store.environments.stored([PRODUCTION]), store.environments.read(PRODUCTION),
        store.environments.commit(environment, 0), store.environments.delete(environment),
        store.changes.position(), store.changes.read_after("0-0"),
        store.hosts.read(), store.hosts.register(host), store.hosts.forget("h1"),
        store.leases.renew(lease_of("h1"), 1000), store.leases.live(["h1"]),
        store.acks.acknowledge(lease_of("h1"), {PRODUCTION: 1}), store.acks.read(PRODUCTION),
        store.acks.lagging(PRODUCTION, 1, ["h1"]),
        store.tokens.read(), store.tokens.find("d"), store.tokens.add("d", token), store.tokens.remove({"d": token}),
        store.tokens.uses(), store.tokens.note_use("t1", 1),
    ]  # fmt: skip
    return list(await asyncio.gather(*calls, return_exceptions=True))


def assert_unavailable(outcomes: list[BaseException | object], fragment: str = "") -> None:
    for outcome in outcomes:
        assert isinstance(outcome, Unavailable), outcome
        assert fragment in str(outcome)
        assert SECRET not in str(outcome)
        assert "\n" not in str(outcome)


# The server is away or hangs


async def test_a_server_that_is_not_there() -> None:
    async with opened(f"redis://:{SECRET}@127.0.0.1:{free_port()}") as store:
        assert_unavailable(await every_call(store), "store redis://:…@127.0.0.1")


async def test_a_socket_that_is_not_there() -> None:
    async with opened("unix:///nowhere/store.sock") as store:
        assert_unavailable(await every_call(store), "/nowhere/store.sock")


async def test_a_server_that_is_killed_and_comes_back(start_server: StartServer) -> None:
    server = await start_server("--appendonly", "yes", "--appendfsync", "always")
    async with opened(server.url) as store:
        await store.environments.commit(build("production", 1), 0)
        server.kill()
        assert_unavailable(await every_call(store))
        await server.start()
        assert await store.environments.read(PRODUCTION) == (1, build("production", 1))


async def test_a_server_that_hangs(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT_MARGIN", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.2)
    server = await start_server()
    async with opened(server.url) as store:
        await store.ping()
        server.signal(signal.SIGSTOP)
        began, waited = time.monotonic(), waited_for_processor()
        assert_unavailable(await every_call(store))
        assert time.monotonic() - began - (waited_for_processor() - waited) < 3
        server.signal(signal.SIGCONT)
        await answers(store)


async def test_a_connection_that_swallows_requests(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT_MARGIN", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.2)
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await store.ping()
        proxy.swallow = True
        assert_unavailable(await every_call(store))
        proxy.swallow = False
        await answers(store)


async def answers(store: Store) -> None:
    """Returns when ``store`` answers again."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return await store.ping()
        except Unavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_a_call_that_is_cancelled_ends(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is connecting, sending, or waiting for changes."""
    monkeypatch.setattr(
        changes_module, "CHANGES_WAIT", 0.1
    )  # so long may it go on where the library swallows the cancellation
    for steps in range(50):
        async with opened(store_url) as store:
            call = asyncio.create_task(store.changes.read_after("0-0"))
            for _ in range(steps):
                await asyncio.sleep(0)
            assert not call.done()
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled(), f"after {steps} steps"


async def test_a_read_that_is_cancelled_ends_its_own_connection_alone(start_server: StartServer) -> None:
    """So a part of a process that starts again makes no command of the others fail."""
    server = await start_server()
    async with opened(server.url) as store, redis_of(server.url) as redis:
        await store.environments.commit(build("production", 1), 0)
        for _ in range(3):
            position = await store.changes.position()
            others = await clients(redis, blocked=False)
            reading = asyncio.create_task(store.changes.read_after(position.change))
            await until_true(lambda: clients(redis, blocked=True), "it does not wait for changes")
            await cancel(reading)
            # It may have missed a change, or read it at another server.
            with pytest.raises(Unavailable, match="where it stands is read again"):
                await store.changes.read_after(position.change)
            assert await clients(redis, blocked=False) == others
        await store.changes.position()
        assert [change.revision for change in await store.changes.read_after("0-0")] == [1]


async def clients(redis: Any, *, blocked: bool) -> set[str]:
    """The connections that the server has, of those that wait for changes, or of the others."""
    return {one["id"] for one in await redis.client_list() if ("b" in one["flags"]) == blocked}


# The server refuses


@pytest.mark.parametrize("userinfo", ["", f":wrong{SECRET}@", f"nobody:{SECRET}@"])
async def test_a_password_that_is_wrong(start_server: StartServer, userinfo: str) -> None:
    server = await start_server("--requirepass", SECRET, tcp=True)
    async with opened(server.url.replace("//", f"//{userinfo}")) as store:
        assert_unavailable(await every_call(store))
    async with opened(server.url.replace("//", f"//:{SECRET}@")) as store:
        await store.ping()
        assert SECRET not in store.url


async def test_a_replica_can_be_read_and_refuses_writes(start_server: StartServer) -> None:
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}")
    production = build("production", 1, PutService("api"), PutInstance("api", "a1", host="h1"))
    async with opened(primary.url) as writer, opened(replica.url, options=StoreOptions(replicas=True)) as reader:
        await writer.leases.renew(lease_of("h1"), LONG_LEASE)
        await writer.environments.commit(production, 0)
        await replicated(reader, PRODUCTION, 2)
        token = Token("t", "*", "n", 1)
        outcomes = await asyncio.gather(
            reader.environments.commit(toggled(production), 2),
            reader.environments.delete(production),
            reader.tokens.add("d", token),
            reader.hosts.register(Host("h1", "192.0.2.1:1", worlds.public_key(1))),
            reader.leases.renew(lease_of("h1"), 1000),
            reader.acks.acknowledge(lease_of("h1"), {PRODUCTION: 1}),
            return_exceptions=True,
        )
        assert_unavailable(list(outcomes), "read only replica")
        assert await reader.environments.read(PRODUCTION) == (2, production)


async def test_a_replica_is_no_store_unless_told_otherwise(start_server: StartServer) -> None:
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}")
    async with opened(replica.url) as store:
        assert_unavailable(await every_call(store), "is a replica")


async def test_a_primary_that_becomes_a_replica_is_noticed(start_server: StartServer) -> None:
    """As behind a name or a virtual address: the connections stay, and only the role is another."""
    one, other = [await start_server("--repl-diskless-sync-delay", "0", tcp=True) for _ in range(2)]
    async with Proxy(one.socket) as proxy, opened(proxy.url) as store, redis_of(one.url) as redis:
        await store.environments.commit(build("production", 1), 0)
        await store.changes.position()
        await redis.execute_command("REPLICAOF", "127.0.0.1", other.port)
        with pytest.raises(Unavailable, match="is a replica"):
            await store.ping()
        with pytest.raises(Unavailable, match="is a replica"):
            await store.changes.position()
        proxy.point_to(other.socket)
        await store.environments.commit(build("production", 1), 0)
        with pytest.raises(Unavailable, match="where it stands is read again"):
            await store.changes.read_after("0-0")
        await store.changes.position()
        assert [change.revision for change in await store.changes.read_after("0-0")] == [1]


async def test_one_failure_ends_both_connections(start_server: StartServer) -> None:
    """Else the reads that wait could go on at a server that is the primary no more."""
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await store.environments.commit(build("production", 1), 0)
        position = await store.changes.position()
        waiting = asyncio.create_task(store.changes.read_after(position.change))
        await asyncio.sleep(0)
        proxy.cut_after = b"EVALSHA"
        with pytest.raises(Unavailable):
            await store.changes.position()
        with pytest.raises(Unavailable):
            await waiting


# Writes that replicas confirm


async def test_a_write_waits_for_replicas(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "REPLICATION_TIMEOUT", 0.2)
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}")
    environment = build("production", 1)
    async with (
        opened(primary.url, options=StoreOptions(wait=1)) as store,
        opened(replica.url, options=StoreOptions(replicas=True)) as reader,
    ):
        environment = await confirmed_commit(store, environment)
        assert await reader.environments.read(PRODUCTION) == (environment.revision, environment)
        replica.signal(signal.SIGSTOP)
        environment = toggled(environment)
        with pytest.raises(Unreplicated, match="0 of 1 replicas"):
            await store.environments.commit(environment, environment.revision - 1)
        assert (await store.environments.read(PRODUCTION))[0] == environment.revision
        with pytest.raises(Unreplicated):
            await store.hosts.register(Host("h1", "192.0.2.1:1", worlds.public_key(1)))
        replica.signal(signal.SIGCONT)


async def confirmed_commit(store: Store, environment: Environment) -> Environment:
    """Commits ``environment``, or a later revision: until the replica is linked and has a processor, none confirms."""
    deadline = time.monotonic() + DEADLINE
    while True:
        with suppress(Unreplicated):
            await store.environments.commit(environment, environment.revision - 1)
            return environment
        environment = toggled(environment)
        assert time.monotonic() < deadline


# Memory, and many requests at once


async def test_a_store_without_memory_can_be_read(start_server: StartServer) -> None:
    server = await start_server()
    host = Host("h1", "192.0.2.1:1", worlds.public_key(1))
    async with opened(server.url) as store, redis_of(server.url) as redis:
        await store.environments.commit(build("production", 1), 0)
        await store.hosts.register(host)
        await store.leases.renew(lease_of("h1"), LONG_LEASE)
        await redis.config_set("maxmemory", "1")
        with pytest.raises(Unavailable, match="maxmemory"):
            await store.environments.commit(toggled(build("production", 1)), 1)
        async with opened(server.url) as restarted:
            for one in (store, restarted):
                assert (await one.changes.position()).epoch
                assert (await one.environments.index())[PRODUCTION].revision == 1
                assert await one.environments.read(PRODUCTION) == (1, build("production", 1))
                assert (await one.hosts.read()).hosts == {"h1": host}
                assert await one.acks.lagging(ALL_HOSTS, 1, ["h1"]) == {"h1"}
                assert len(await one.changes.read_after("0-0")) == 2


async def test_many_requests_at_once_wait_for_each_other(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "WAIT_TIMEOUT", DEADLINE)  # the last one waits for all on a busy machine
    server = await start_server()
    async with opened(server.url) as store, redis_of(server.url) as redis:
        await store.environments.commit(build("production", 1), 0)
        reads = await asyncio.gather(*(store.environments.read(PRODUCTION) for _ in range(500)))
        assert {revision for revision, _ in reads} == {1}
        assert len(await redis.client_list()) <= connection_module.MOST_CONNECTIONS + 1


async def test_the_queue_of_requests_has_bounds(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MOST_WAITING", 5)
    monkeypatch.setattr(connection_module, "MOST_CONNECTIONS", 1)
    monkeypatch.setattr(connection_module, "WAIT_TIMEOUT", 0.2)
    server = await start_server()
    async with opened(server.url) as store:
        await store.ping()
        server.signal(signal.SIGSTOP)
        outcomes = await asyncio.gather(*(store.environments.index() for _ in range(10)), return_exceptions=True)
        server.signal(signal.SIGCONT)
        told = [str(outcome) for outcome in outcomes if isinstance(outcome, TooManyWaiting)]
        assert sum("5 commands wait" in one for one in told) == 4, outcomes
        assert sum("no connection was free" in one for one in told) == 5
        await answers(store)


async def replicated(reader: Store, id_: EnvironmentId, revision: int) -> None:
    """Returns when ``reader`` holds ``revision``."""
    deadline = time.monotonic() + DEADLINE
    while (await reader.environments.read(id_))[0] != revision:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_server_that_is_loading_its_data(start_server: StartServer) -> None:
    server = await start_server("--appendonly", "yes", "--enable-debug-command", "yes")
    async with redis_of(server.url) as redis:
        await redis.execute_command("DEBUG", "POPULATE", "500", "filler")
        await redis.config_set("key-load-delay", "1000")  # microseconds for each key
        await redis.config_set("loading-process-events-interval-bytes", "1024")
        reloading = asyncio.create_task(redis.execute_command("DEBUG", "RELOAD"))
        async with opened(server.url) as store:
            outcomes: list[str] = []
            while not reloading.done():
                try:
                    await store.changes.position()
                except Unavailable as error:
                    outcomes.append(str(error))
                await asyncio.sleep(0.01)
            await reloading
            assert any("loading" in outcome.lower() for outcome in outcomes)
            await store.ping()


async def test_a_key_of_another_type(store: Store, store_url: str) -> None:
    async with inside(store, store_url) as (redis, keys):
        await redis.set(keys.environments, "not a hash")
        with pytest.raises(WrongKey, match="environments is of the type string"):
            await store.environments.index()
        with pytest.raises(WrongKey, match="environments is of the type string"):
            await store.environments.commit(build("production", 1), 0)


async def test_scripts_that_were_flushed_are_loaded_again(store: Store, store_url: str) -> None:
    await store.environments.commit(build("production", 1), 0)
    async with inside(store, store_url) as (redis, _):
        await redis.script_flush()
    await store.environments.commit(toggled(build("production", 1)), 1)


# A lost reply


async def test_a_commit_whose_reply_is_lost_was_made(start_server: StartServer) -> None:
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await store.environments.commit(build("production", 1), 0)
        proxy.cut_after = b"EVALSHA"
        await store.environments.commit(toggled(build("production", 1)), 1)
        assert proxy.cuts == 1
        assert await store.environments.read(PRODUCTION) == (2, toggled(build("production", 1)))
        proxy.cut_after = b"EVALSHA"
        assert await store.environments.delete(toggled(build("production", 1))) == 3
        assert proxy.cuts == 2
        assert [change.revision for change in await store.changes.read_after("0-0")] == [1, 2, 3]


async def test_a_conflict_whose_reply_is_lost_is_no_commit(start_server: StartServer) -> None:
    server = await start_server()
    async with Proxy(server.socket) as proxy, opened(proxy.url) as store:
        await store.environments.commit(build("production", 1), 0)
        await store.environments.commit(toggled(build("production", 1)), 1)
        proxy.cut_after = b"EVALSHA"
        with pytest.raises(Unavailable):
            await store.environments.commit(apply(build("production", 1), [PutService("api")], worlds.NOW), 1)
        assert proxy.cuts == 1
        assert (await store.environments.read(PRODUCTION))[0] == 2


# Sentinel


async def test_a_failover_by_sentinel(start_server: StartServer, sentinel_binary: str, tmp_path: Any) -> None:
    pair = watched_pair(start_server, sentinel_binary, tmp_path, "sentinel failover-timeout main 2000")
    async with (
        pair as (primary, replica, sentinel),
        opened(f"sentinel://127.0.0.1:{sentinel.port}/main") as store,
        opened(replica.url, options=StoreOptions(replicas=True)) as reader,
    ):
        await store.environments.commit(build("production", 1), 0)
        await replicated(reader, PRODUCTION, 1)
        await sentinel_knows(sentinel, replicas=1)
        primary.kill()
        with pytest.raises(Unavailable):
            await store.ping()
        await answers(store)
        await store.environments.commit(toggled(build("production", 1)), 1)
        assert (await reader.environments.read(PRODUCTION))[0] == 2


async def test_sentinels_with_a_password_of_their_own_by_tls(
    start_server: StartServer, sentinel_binary: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    tls = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "ca.pem"]
    tls = [str(tmp_path / word) if word.endswith(".pem") else word for word in tls] + ["--tls-auth-clients", "no"]
    secure = free_port()
    try:
        await start_server("--tls-port", str(secure), *tls, "--requirepass", SECRET, binary=sentinel_binary)
    except StoreError as error:
        pytest.skip(f"this redis-server knows no TLS: {error}")
    options = StoreOptions(ca=tmp_path / "ca.pem")
    async with opened(f"rediss://:{SECRET}@127.0.0.1:{secure}", options=options) as store:
        await store.environments.commit(build("production", 1), 0)
    async with opened(f"rediss://:{SECRET}@127.0.0.1:{secure}") as store:
        assert_unavailable([await failure(store.ping())], "certificate verify failed")
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"tls-replication yes\nsentinel monitor main 127.0.0.1 {secure} 1\nsentinel auth-pass main {SECRET}\n"
        f"requirepass watch{SECRET}\ntls-port {free_port()}\n"
        + "".join(f"{name[2:]} {value}\n" for name, value in zip(tls[::2], tls[1::2], strict=True))
    )
    sentinel = await start_sentinel(sentinel_binary, str(configuration), tmp_path / "sentinel")
    port = configuration.read_text().partition("tls-port ")[2].split()[0]
    try:
        url = f"sentinels://:{SECRET}@127.0.0.1:{port}/main?sentinel_password="
        async with opened(f"{url}watch{SECRET}", options=options) as store:
            await answers(store)
            assert (await store.environments.read(PRODUCTION))[0] == 1
            assert SECRET not in store.url
        async with opened(f"{url}wrong", options=options) as store:
            assert_unavailable([await failure(store.ping())], "No primary found")
    finally:
        sentinel.kill()


async def test_replicas_are_read_where_told_to(start_server: StartServer, sentinel_binary: str, tmp_path: Path) -> None:
    async with watched_pair(start_server, sentinel_binary, tmp_path) as (_, replica, sentinel):
        await sentinel_knows(sentinel, replicas=1)
        url = f"sentinel://127.0.0.1:{sentinel.port}/main"
        async with opened(url) as writer, opened(url, options=StoreOptions(replicas=True)) as reader:
            await writer.environments.commit(build("production", 1), 0)
            await replicated(reader, PRODUCTION, 1)
            async with redis_of(replica.url) as redis:
                before = (await redis.info("stats"))["total_commands_processed"]
                for _ in range(100):
                    await reader.environments.read(PRODUCTION)
                assert (await redis.info("stats"))["total_commands_processed"] >= before + 100
            replica.kill()
            await sentinel_knows(sentinel, replicas=0)
            await answers(reader)
            assert (await reader.environments.read(PRODUCTION))[0] == 1


async def test_a_write_waits_for_all_replicas_that_are_up(
    start_server: StartServer, sentinel_binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "REPLICATION_TIMEOUT", 0.2)
    # A machine that stands still for a moment must not make the Sentinel believe that a server is down.
    pair = watched_pair(start_server, sentinel_binary, tmp_path, "sentinel down-after-milliseconds main 2000")
    async with pair as (_, replica, sentinel):
        await sentinel_knows(sentinel, replicas=1)
        async with opened(f"sentinel://127.0.0.1:{sentinel.port}/main", options=StoreOptions(wait=ALL)) as store:
            environment = await confirmed_commit(store, build("production", 1))
            # As when Sentinel has promoted it: it is a replica no more, though nobody has told of another primary.
            async with redis_of(replica.url) as redis:
                await redis.execute_command("REPLICAOF", "NO", "ONE")
            with pytest.raises(Unreplicated, match="0 of 1 replicas"):
                await store.environments.commit(toggled(environment), environment.revision)
            replica.kill()
            await sentinel_knows(sentinel, replicas=0)
            await asyncio.sleep(connection_module.VERIFY_EVERY)  # it asks the Sentinels once in this time
            await store.ping()
            with pytest.raises(Unreplicated, match="0 of 1 replicas"):  # one at least
                await store.environments.commit(toggled(toggled(environment)), environment.revision + 1)


async def test_a_write_is_confirmed_by_a_replica_that_follows_another_one(
    start_server: StartServer, sentinel_binary: str, tmp_path: Path
) -> None:
    pair = watched_pair(start_server, sentinel_binary, tmp_path, "sentinel down-after-milliseconds main 30000")
    async with pair as (primary, replica, sentinel):
        last = await start_server("--replicaof", f"127.0.0.1 {primary.port}", tcp=True, binary=sentinel_binary)
        await sentinel_knows(sentinel, replicas=2)
        async with opened(f"sentinel://127.0.0.1:{sentinel.port}/main", options=StoreOptions(wait=ALL)) as store:
            environment = await confirmed_commit(store, build("production", 1))
            # As a server that comes back with the configuration of before a failover. The Sentinel would have it follow
            # the primary after eight seconds or more.
            await followed(last, replica)
            async with redis_of(last.url) as redis:
                await redis.execute_command("ACL", "SETUSER", "default", "-slaveof", "-replicaof")
            environment = await confirmed_commit(store, toggled(environment))
            # It can still be promoted, so no write is acknowledged that it lacks.
            last.signal(signal.SIGSTOP)
            with pytest.raises(Unreplicated, match="1 of 2 replicas"):
                await store.environments.commit(toggled(environment), environment.revision)
            last.signal(signal.SIGCONT)
            async with redis_of(last.url) as redis:
                await redis.execute_command("ACL", "SETUSER", "default", "+replicaof")
                await redis.execute_command("REPLICAOF", "NO", "ONE")
            with pytest.raises(Unreplicated, match="1 of 2 replicas"):
                await store.environments.commit(toggled(toggled(environment)), environment.revision + 1)


async def test_a_replica_that_no_sentinel_promotes_confirms_nothing_for_others(
    start_server: StartServer, sentinel_binary: str, tmp_path: Path
) -> None:
    pair = watched_pair(start_server, sentinel_binary, tmp_path, "sentinel down-after-milliseconds main 30000")
    async with pair as (primary, replica, sentinel):
        hidden = ("--replicaof", f"127.0.0.1 {primary.port}", "--replica-announced", "no")
        await start_server(*hidden, tcp=True, binary=sentinel_binary)
        await sentinel_knows(sentinel, replicas=1)
        async with opened(f"sentinel://127.0.0.1:{sentinel.port}/main", options=StoreOptions(wait=ALL)) as store:
            environment = await confirmed_commit(store, build("production", 1))
            async with redis_of(primary.url) as redis:

                async def is_linked() -> bool:
                    return len(followers_of(await redis.info("replication"))) == 2

                await until_true(is_linked)
            environment = await confirmed_commit(store, toggled(environment))
            replica.signal(signal.SIGSTOP)
            with pytest.raises(Unreplicated, match="0 of 1 replicas"):
                await store.environments.commit(toggled(environment), environment.revision)
            replica.signal(signal.SIGCONT)


async def test_a_sentinel_names_the_promoted_replica_while_others_do_not_follow_it_yet(
    start_server: StartServer, sentinel_binary: str, tmp_path: Path
) -> None:
    pair = watched_pair(start_server, sentinel_binary, tmp_path, "sentinel down-after-milliseconds main 30000")
    async with pair as (primary, replica, sentinel):
        silent = await start_server(
            "--replicaof", f"127.0.0.1 {primary.port}", "--replica-priority", "200", tcp=True, binary=sentinel_binary
        )
        await sentinel_knows(sentinel, replicas=2)
        async with opened(f"sentinel://127.0.0.1:{sentinel.port}/main") as store:
            await store.environments.commit(build("production", 1), 0)
            silent.signal(signal.SIGSTOP)
            async with redis_of(f"redis://127.0.0.1:{sentinel.port}") as redis:
                await redis.sentinel_failover("main")
            await promoted(sentinel, replica)
            # The Sentinel waits for the silent one, and meanwhile its own primary is still the one of before.
            await asyncio.sleep(connection_module.VERIFY_EVERY)  # it asks the Sentinels once in this time
            with suppress(Unavailable):
                await store.ping()
            await answers(store)
            await store.environments.commit(toggled(build("production", 1)), 1)
        async with opened(replica.url) as store:
            assert (await store.environments.read(PRODUCTION))[0] == 2
        silent.signal(signal.SIGCONT)


async def test_only_sentinels_know_all_replicas() -> None:
    with pytest.raises(ValueError, match="names no Sentinels"):
        Store("redis://localhost", options=StoreOptions(wait=ALL))


async def failure(call: Awaitable[None]) -> BaseException | None:
    """What ``call`` raises."""
    try:
        await call
    except StoreError as error:
        return error
    return None


@asynccontextmanager
async def watched_pair(
    start_server: StartServer, binary: str, directory: Path, *settings: str
) -> AsyncIterator[tuple[Server, Server, Server]]:
    """A primary, its replica, and the Sentinel that watches them with ``settings`` too."""
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True, binary=binary)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}", tcp=True, binary=binary)
    configuration = directory / "sentinel.conf"
    watching = (f"sentinel monitor main 127.0.0.1 {primary.port} 1", "sentinel down-after-milliseconds main 300")
    configuration.write_text("".join(f"{line}\n" for line in (*watching, *settings)))
    sentinel = await start_sentinel(binary, str(configuration), directory / "sentinel")
    try:
        yield primary, replica, sentinel
    finally:
        sentinel.kill()


async def start_sentinel(binary: str, configuration: str, directory: Any) -> Server:
    server = Server(binary, directory, port=free_port())
    server._command = [binary, configuration, "--sentinel", "--port", str(server.port), "--bind", "127.0.0.1"]
    return await server.start()


async def sentinel_knows(sentinel: Server, replicas: int) -> None:
    """Returns when ``sentinel`` knows so many replicas that are up."""
    async with redis_of(f"redis://127.0.0.1:{sentinel.port}") as redis:
        deadline = time.monotonic() + DEADLINE
        while True:
            known = await redis.sentinel_slaves("main")
            up = [one for one in known if one["master-link-status"] == "ok" and not one["is_sdown"]]
            if len(up) == replicas:
                return
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def followed(follower: Server, leader: Server) -> None:
    """Has ``follower`` follow ``leader``, and returns when it does."""
    async with redis_of(follower.url) as redis:
        await redis.execute_command("REPLICAOF", "127.0.0.1", leader.port)

        async def is_linked() -> bool:
            found = await redis.info("replication")
            return (found["master_port"], found["master_link_status"]) == (leader.port, "up")

        await until_true(is_linked)


async def promoted(sentinel: Server, server: Server) -> None:
    """Returns when ``sentinel`` has made ``server`` the primary, and is about to tell the other replicas."""
    async with redis_of(f"redis://127.0.0.1:{sentinel.port}") as redis:

        async def is_named() -> bool:
            return int((await redis.sentinel_get_master_addr_by_name("main"))[1]) == server.port

        await until_true(is_named)


async def test_sentinels_that_are_not_there() -> None:
    async with opened(f"sentinel://:{SECRET}@127.0.0.1:{free_port()}/main") as store:
        assert_unavailable(await every_call(store), "No primary found")
