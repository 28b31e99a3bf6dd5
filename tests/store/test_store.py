"""The store on real servers: commits, their conflicts and their faults."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Any

import pytest
from msgspec.structs import replace

from store import changes as changes_module
from store import environments as environments_module
from store import store as store_module
from store.changes import Change, Position
from store.errors import Corrupt, NetworkTaken, RevisionConflict, Unavailable
from store.index import IndexEntry
from store.store import Store
from store.tokens import Token
from tests import worlds
from tests.watcher.conftest import StartServer, free_port
from tests.watcher.harness import DEADLINE, Proxy, Server, inside, opened, redis_of
from tests.worlds import PLATFORM, PRODUCTION, build
from zones import document
from zones.edits import (
    DeleteInstance,
    DeletePeer,
    DeleteService,
    Edit,
    PutInstance,
    PutPeer,
    PutService,
    SetEnabled,
    apply,
)
from zones.hosts import Host
from zones.model import Environment
from zones.names import EnvironmentId

SECRET = "s3cr3t"


def toggled(environment: Environment) -> Environment:
    """The next revision of ``environment``."""
    return apply(environment, [SetEnabled(not environment.enabled)], worlds.NOW)


def other_network(environment: Environment, bits: int, revision: int) -> Environment:
    return replace(environment, network=PLATFORM.environment_network(bits), revision=revision, services={}, records={})


# Commits


async def test_an_empty_store_holds_nothing(store: Store) -> None:
    assert await store.changes.position() == Position(None, "0-0")
    assert await store.environments.index() == {}
    assert await store.environments.read(PRODUCTION) == (0, None)
    assert await store.environments.documents([PRODUCTION]) == {PRODUCTION: (None, None)}
    await store.ping()


async def test_what_is_committed_is_held(store: Store) -> None:
    production = worlds.production()
    await store.environments.commit(production, 0)
    written = document.encode(production)
    entry = IndexEntry(production.revision, document.digest(written), frozenset({"h1", "h2"}))
    assert await store.environments.read(PRODUCTION) == (production.revision, production)
    assert await store.environments.index() == {PRODUCTION: entry}
    assert await store.environments.documents([PRODUCTION]) == {PRODUCTION: (entry, written)}
    position = await store.changes.position()
    assert position.epoch
    [change] = await store.changes.read_after("0-0")
    assert change == Change(position.change, "0-0", PRODUCTION, production.revision, entry.hosts)


async def test_an_epoch_is_drawn_once(store: Store) -> None:
    production = worlds.production()
    await store.environments.commit(production, 0)
    epoch = (await store.changes.position()).epoch
    await store.environments.commit(toggled(production), production.revision)
    assert (await store.changes.position()).epoch == epoch


async def test_changes_are_chained(store: Store) -> None:
    environment = build("production", 1)
    await store.environments.commit(environment, 0)
    for _ in range(3):
        await store.environments.commit(toggled(environment), environment.revision)
        environment = toggled(environment)
    await store.environments.delete(environment)
    changes = await store.changes.read_after("0-0")
    assert [change.revision for change in changes] == [1, 2, 3, 4, 5]
    assert [change.previous for change in changes] == ["0-0", *(change.position for change in changes[:-1])]
    assert await store.changes.read_after(changes[2].position) == changes[3:]


# Who has a member


async def test_a_change_names_who_has_a_member_and_who_had_one(store: Store) -> None:
    environment = build("production", 1)
    commits: list[tuple[list[Edit], str, str]] = [
        # edits, members after them, who hears of it
        ([PutService("api"), PutInstance("api", "a1")], "", ""),
        ([PutInstance("api", "a1", host="h1"), PutInstance("api", "a2", host="h2")], "h1 h2", "h1 h2"),
        ([PutPeer("laptop", worlds.public_key(1), "h3")], "h1 h2 h3", "h1 h2 h3"),
        ([DeleteInstance("api", "a2")], "h1 h3", "h1 h2 h3"),
        ([PutInstance("api", "a1", host="h2")], "h2 h3", "h1 h2 h3"),
        ([DeletePeer("laptop")], "h2", "h2 h3"),
        ([DeleteService("api")], "", "h2"),
        ([PutService("db"), PutInstance("db", "d1", host="h1")], "h1", "h1"),
    ]
    await store.environments.commit(environment, 0)
    for edits, members, concerned in commits:
        position, revision = (await store.changes.position()).change, environment.revision
        environment = apply(environment, edits, worlds.NOW)
        await store.environments.commit(environment, revision)
        assert (await store.environments.index())[PRODUCTION].hosts == frozenset(members.split())
        [change] = await store.changes.read_after(position)
        assert change.hosts == frozenset(concerned.split())
    position = (await store.changes.position()).change
    await store.environments.delete(environment)
    assert (await store.environments.index())[PRODUCTION] == IndexEntry(environment.revision + 1, None)
    [change] = await store.changes.read_after(position)
    assert change.hosts == frozenset({"h1"})


INDEX = {
    # what an entry may say, by this release, by one before there were hosts, or by nobody's
    b"3 abc -": IndexEntry(3, "abc", frozenset()),
    b"3 abc h1": IndexEntry(3, "abc", frozenset({"h1"})),
    b"3 abc h1,h2": IndexEntry(3, "abc", frozenset({"h1", "h2"})),
    b"3 deleted": IndexEntry(3, None, frozenset()),
    b"3 abc": IndexEntry(3, "abc", None),
    b"3": IndexEntry(0, "3", None),
    b"abc": IndexEntry(0, "abc", None),
    b"x abc h1": IndexEntry(0, "x abc h1", None),
    b"": IndexEntry(0, "", None),
}


@pytest.mark.parametrize(("written", "read"), INDEX.items())
async def test_any_index_entry_is_read(store: Store, store_url: str, written: bytes, read: IndexEntry) -> None:
    async with inside(store, store_url) as (redis, keys):
        await redis.hset(keys.environments, PRODUCTION, written)
        assert await store.environments.index() == {PRODUCTION: read}


async def test_what_a_release_before_hosts_has_written_is_committed_to(store: Store, store_url: str) -> None:
    environment = worlds.production()
    await store.environments.commit(environment, 0)
    async with inside(store, store_url) as (redis, keys):
        entry = await redis.hget(keys.environments, PRODUCTION)
        await redis.hset(keys.environments, PRODUCTION, b" ".join(entry.split()[:2]))
    position = (await store.changes.position()).change
    await store.environments.commit(toggled(environment), environment.revision)
    assert (await store.environments.index())[PRODUCTION].hosts == frozenset({"h1", "h2"})
    [change] = await store.changes.read_after(position)
    assert change.hosts == frozenset({"h1", "h2"})


async def test_waiting_for_changes_ends_with_the_first(store: Store) -> None:
    waiting = asyncio.create_task(store.changes.read_after("0-0"))
    await store.environments.commit(build("production", 1), 0)
    assert [change.environment for change in await waiting] == ["production"]


async def test_no_change_is_an_answer_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.05)
    assert await store.changes.read_after("0-0") == []


@pytest.mark.parametrize(("expected", "held"), [(1, 0), (0, 3), (2, 3), (4, 3)])
async def test_another_revision_than_expected_is_a_conflict(store: Store, expected: int, held: int) -> None:
    environment = replace(build("production", 1), revision=max(held, 1))
    if held:
        await store.environments.commit(environment, 0)
    before = (await store.environments.documents([PRODUCTION]), await store.changes.position())
    with pytest.raises(RevisionConflict, match=f"is at revision {held}, not {expected}") as conflict:
        await store.environments.commit(replace(environment, revision=expected + 1), expected)
    assert (conflict.value.expected, conflict.value.actual) == (expected, held)
    assert (await store.environments.documents([PRODUCTION]), await store.changes.position()) == before


async def test_a_network_has_one_owner(store: Store) -> None:
    await store.environments.commit(build("production", 1), 0)
    with pytest.raises(NetworkTaken, match="fd12:0:1::/48 belongs or belonged to 'production'"):
        await store.environments.commit(build("staging", 1), 0)
    assert await store.environments.index() == {PRODUCTION: (await store.environments.index())[PRODUCTION]}
    await store.environments.commit(build("staging", 2), 0)


async def test_a_network_stays_its_owners_after_deletion(store: Store) -> None:
    production = build("production", 1)
    await store.environments.commit(production, 0)
    await store.environments.delete(production)
    for again in (build("staging", 1), replace(production, revision=3)):
        with pytest.raises(NetworkTaken):
            await store.environments.commit(again, 2 if again.id == PRODUCTION else 0)
    assert (await store.environments.index())[PRODUCTION] == IndexEntry(2, None)


async def test_a_change_of_network_takes_both_for_ever(store: Store) -> None:
    production = build("production", 1)
    await store.environments.commit(production, 0)
    await store.environments.commit(other_network(production, 2, 2), 1)
    for bits in (1, 2):
        with pytest.raises(NetworkTaken):
            await store.environments.commit(build("staging", bits), 0)


async def test_what_is_deleted_leaves_its_revision(store: Store, store_url: str) -> None:
    production = build("production", 1)
    await store.environments.commit(production, 0)
    async with inside(store, store_url) as (redis, keys):
        await redis.hset(keys.acks(PRODUCTION), "h1", 1)
        assert await store.acks.read(PRODUCTION) == {"h1": 1}
        assert await store.environments.delete(production) == 2
        assert await redis.exists(keys.environment(PRODUCTION)) == 0
        assert await redis.hget(keys.environments, PRODUCTION) == b"2 deleted"
    assert await store.environments.read(PRODUCTION) == (2, None)
    assert await store.acks.read(PRODUCTION) == {}
    with pytest.raises(RevisionConflict, match="is at revision 2, not 1"):
        await store.environments.delete(production)


async def test_what_is_created_anew_counts_on(store: Store) -> None:
    production = build("production", 1)
    await store.environments.commit(production, 0)
    await store.environments.delete(production)
    with pytest.raises(RevisionConflict):
        await store.environments.commit(other_network(production, 2, 1), 0)
    again = other_network(production, 2, 3)
    await store.environments.commit(again, 2)
    assert await store.environments.read(PRODUCTION) == (3, again)


async def test_two_that_race_for_a_network(store: Store, store_url: str) -> None:
    async with opened(store_url, store.connection.keys.prefix) as other:
        outcomes = await asyncio.gather(
            *(
                (store, other)[number % 2].environments.commit(build(f"e{number}", 1 + number // 2), 0)
                for number in range(20)
            ),
            return_exceptions=True,
        )  # fmt: skip
    assert [outcome is None for outcome in outcomes].count(True) == 10
    assert [isinstance(outcome, NetworkTaken) for outcome in outcomes].count(True) == 10
    networks = [
        environment.network
        for id_ in await store.environments.index()
        if (environment := (await store.environments.read(id_))[1])
    ]
    assert len(set(networks)) == len(networks) == 10


async def test_fifty_who_commit_at_once_lose_nothing(store: Store) -> None:
    await store.environments.commit(build("production", 1), 0)

    async def add(name: str) -> int:
        for tries in range(1000):
            revision, environment = await store.environments.read(PRODUCTION)
            assert environment
            try:
                await store.environments.commit(apply(environment, [PutService(name)], worlds.NOW), revision)
            except RevisionConflict:
                await asyncio.sleep(random.uniform(0, 0.2))  # as clients do who meet
                continue
            return tries
        raise AssertionError

    names = [f"s{number}" for number in range(50)]
    conflicts = sum(await asyncio.gather(*map(add, names)))
    revision, environment = await store.environments.read(PRODUCTION)
    assert environment
    assert revision == 51
    assert sorted(environment.services) == sorted(names)
    assert conflicts, "nobody met anybody: this proved nothing"


async def test_no_reader_sees_part_of_a_commit(store: Store, store_url: str) -> None:
    """Promise 3. The reader takes index, document and stream in three ways, while two writers commit."""
    torn: list[object] = []
    seen: set[int] = set()

    async def write(id_: str, bits: int) -> None:
        environment = build(id_, bits)
        await store.environments.commit(environment, 0)
        for number in range(60):
            if number % 10 == 9:
                deletion = await store.environments.delete(environment)
                environment = other_network(environment, bits * 100 + number, deletion + 1)
                await store.environments.commit(environment, deletion)
            else:
                environment = toggled(environment)
                await store.environments.commit(environment, environment.revision - 1)

    async def read() -> None:
        async with opened(store_url, store.connection.keys.prefix) as other:
            while not done.is_set():
                for id_, (entry, written) in (await other.environments.documents(both)).items():
                    told = IndexEntry(document.decode(written).revision, document.digest(written)) if written else None
                    live = entry if entry and entry.digest else None
                    if told != live:
                        torn.append((id_, entry, told))
                    seen.add(entry.revision if entry else 0)
                position = (await other.changes.position()).change
                index = await other.environments.index()  # read after the stream: never behind it
                torn.extend(
                    (change, index)
                    for change in (await other.changes.read_after("0-0") if position != "0-0" else [])
                    if change.position <= position and index[change.environment].revision < change.revision
                )

    both = [EnvironmentId("one"), EnvironmentId("two")]
    done = asyncio.Event()
    readers = [asyncio.create_task(read()) for _ in range(2)]
    await asyncio.gather(write("one", 1), write("two", 2))
    done.set()
    await asyncio.gather(*readers)
    assert not torn
    assert len(seen) > 10, "the readers came too late to see anything"


async def test_many_are_read_at_once(store: Store) -> None:
    ids = [EnvironmentId(f"e{number}") for number in range(8)]
    await asyncio.gather(*(store.environments.commit(build(id_, number + 1), 0) for number, id_ in enumerate(ids)))
    found = await store.environments.documents([*ids, EnvironmentId("none")])
    assert [document.decode(written).id for _, written in found.values() if written] == ids
    assert found[EnvironmentId("none")] == (None, None)


async def test_the_stream_is_trimmed(store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments_module, "CHANGES_KEPT", 100)
    environment = build("production", 1)
    await store.environments.commit(environment, 0)
    for _ in range(300):
        environment = toggled(environment)
        await store.environments.commit(environment, environment.revision - 1)
    async with inside(store, store_url) as (redis, keys):
        assert 100 <= await redis.xlen(keys.changes) <= 200


async def test_a_document_that_breaks_the_rules_is_named(store: Store, store_url: str) -> None:
    await store.environments.commit(build("production", 1), 0)
    async with inside(store, store_url) as (redis, keys):
        for bad in (b"{}", b"\xff", b'{"id":"\xff"}'):
            await redis.set(keys.environment(PRODUCTION), bad)
            with pytest.raises(Corrupt, match="environment:production: not a document"):
                await store.environments.read(PRODUCTION)


async def test_two_prefixes_are_two_stores(store: Store, store_url: str) -> None:
    await store.environments.commit(build("production", 1), 0)
    async with opened(store_url, store.connection.keys.prefix + "other:") as other:
        assert await other.environments.index() == {}
        await other.environments.commit(build("staging", 1), 0)
    assert list(await store.environments.index()) == ["production"]


async def test_tokens(store: Store) -> None:
    one, two = Token("t1", "*", "admin", 1), Token("t2", "production", "ci ü", 2)
    assert await store.tokens.read() == {}
    await store.tokens.add("d1", one)
    await store.tokens.add("d2", two)
    assert await store.tokens.read() == {"d1": one, "d2": two}
    assert await store.tokens.find("d2") == two
    assert await store.tokens.find("none") is None
    await store.tokens.remove(["d1", "none"])
    await store.tokens.remove([])
    assert await store.tokens.read() == {"d2": two}


# Faults


async def every_call(store: Store) -> list[BaseException | object]:
    """What each method of ``store`` gives."""
    environment, host = build("production", 1), Host("h1", "192.0.2.1:1", worlds.public_key(1))
    token = Token("t", "*", "n", 1)
    calls = [
        store.ping(),
        store.environments.index(), store.environments.documents([PRODUCTION]), store.environments.read(PRODUCTION),
        store.environments.commit(environment, 0), store.environments.delete(environment),
        store.changes.position(), store.changes.read_after("0-0"),
        store.hosts.read(), store.hosts.register(host), store.hosts.forget("h1"),
        store.hosts.renew_lease("h1", 1000), store.hosts.live(["h1"]),
        store.acks.acknowledge("h1", {PRODUCTION: 1}), store.acks.read(PRODUCTION),
        store.acks.lagging(PRODUCTION, 1, ["h1"]),
        store.tokens.read(), store.tokens.find("d"), store.tokens.add("d", token), store.tokens.remove(["d"]),
    ]  # fmt: skip
    return list(await asyncio.gather(*calls, return_exceptions=True))


def assert_unavailable(outcomes: list[BaseException | object], fragment: str = "") -> None:
    for outcome in outcomes:
        assert isinstance(outcome, Unavailable), outcome
        assert fragment in str(outcome)
        assert SECRET not in str(outcome)
        assert "\n" not in str(outcome)


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
        began = time.monotonic()
        assert_unavailable(await every_call(store))
        assert time.monotonic() - began < 3
        server.signal(signal.SIGCONT)
        await answers(store)


async def test_a_connection_that_swallows(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("userinfo", ["", f":wrong{SECRET}@", f"nobody:{SECRET}@"])
async def test_a_password_that_is_wrong(start_server: StartServer, userinfo: str) -> None:
    server = await start_server("--requirepass", SECRET, tcp=True)
    async with opened(server.url.replace("//", f"//{userinfo}")) as store:
        assert_unavailable(await every_call(store))
    async with opened(server.url.replace("//", f"//:{SECRET}@")) as store:
        await store.ping()
        assert SECRET not in store.url


async def test_a_replica_reads_and_does_not_write(start_server: StartServer) -> None:
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}")
    production = build("production", 1, PutService("api"), PutInstance("api", "a1", host="h1"))
    async with opened(primary.url) as writer, opened(replica.url) as reader:
        await writer.environments.commit(production, 0)
        await replicated(reader, PRODUCTION, 2)
        token = Token("t", "*", "n", 1)
        outcomes = await asyncio.gather(
            reader.environments.commit(toggled(production), 2),
            reader.environments.delete(production),
            reader.tokens.add("d", token),
            reader.hosts.register(Host("h1", "192.0.2.1:1", worlds.public_key(1))),
            reader.hosts.renew_lease("h1", 1000),
            reader.acks.acknowledge("h1", {PRODUCTION: 1}),
            return_exceptions=True,
        )
        assert_unavailable(list(outcomes), "read only replica")
        assert await reader.environments.read(PRODUCTION) == (2, production)


async def replicated(reader: Store, id_: EnvironmentId, revision: int) -> None:
    """Returns when ``reader`` holds ``revision``."""
    deadline = time.monotonic() + DEADLINE
    while (await reader.environments.read(id_))[0] != revision:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_server_that_is_loading(start_server: StartServer) -> None:
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
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            await store.environments.index()
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            await store.environments.commit(build("production", 1), 0)


async def test_scripts_that_were_flushed_are_loaded_again(store: Store, store_url: str) -> None:
    await store.environments.commit(build("production", 1), 0)
    async with inside(store, store_url) as (redis, _):
        await redis.script_flush()
    await store.environments.commit(toggled(build("production", 1)), 1)


async def test_a_call_that_is_cancelled_ends(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is doing just then: connecting, sending, or waiting for changes."""
    monkeypatch.setattr(
        changes_module, "CHANGES_WAIT", 0.1
    )  # how long it may go on, where the library forgets the cancellation
    for steps in range(50):
        async with opened(store_url) as store:
            call = asyncio.create_task(store.changes.read_after("0-0"))
            for _ in range(steps):
                await asyncio.sleep(0)
            assert not call.done()
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled(), f"after {steps} steps"


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
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True, binary=sentinel_binary)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}", tcp=True, binary=sentinel_binary)
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
    )
    sentinel = await start_sentinel(sentinel_binary, str(configuration), tmp_path / "sentinel")
    try:
        async with opened(f"sentinel://127.0.0.1:{sentinel.port}/main") as store, opened(replica.url) as reader:
            await store.environments.commit(build("production", 1), 0)
            await replicated(reader, PRODUCTION, 1)
            await sentinel_knows(sentinel, replicas=1)
            primary.kill()
            with pytest.raises(Unavailable):
                await store.ping()
            await answers(store)
            await store.environments.commit(toggled(build("production", 1)), 1)
            assert (await reader.environments.read(PRODUCTION))[0] == 2
    finally:
        sentinel.kill()


async def start_sentinel(binary: str, configuration: str, directory: Any) -> Server:
    server = Server(binary, directory, port=free_port())
    server._command = [binary, configuration, "--sentinel", "--port", str(server.port), "--bind", "127.0.0.1"]
    return await server.start()


async def sentinel_knows(sentinel: Server, replicas: int) -> None:
    async with redis_of(f"redis://127.0.0.1:{sentinel.port}") as redis:
        deadline = time.monotonic() + DEADLINE
        while (await redis.sentinel_master("main"))["num-slaves"] < replicas:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_sentinels_that_are_not_there() -> None:
    async with opened(f"sentinel://:{SECRET}@127.0.0.1:{free_port()}/main") as store:
        assert_unavailable(await every_call(store), "No master found")
