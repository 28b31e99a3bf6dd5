"""Environments in a real store: commits, conflicts, networks, deletion."""

from __future__ import annotations

import asyncio
import random

import pytest
from msgspec.structs import replace

from store.changes import Change, Position
from store.errors import NetworkTaken, RevisionConflict
from store.index import IndexEntry
from store.store import Store
from tests import worlds
from tests.store.reading import documents
from tests.store.servers import inside, opened
from tests.worlds import PLATFORM, PRODUCTION, build, toggled
from zones import document
from zones.edits import (
    DeleteInstance,
    DeletePeer,
    DeleteService,
    Edit,
    PutInstance,
    PutPeer,
    PutService,
    apply,
)
from zones.model import Environment
from zones.names import EnvironmentId


def other_network(environment: Environment, bits: int, revision: int) -> Environment:
    return replace(environment, network=PLATFORM.environment_network(bits), revision=revision, services={}, records={})


# Committing


async def test_an_empty_store_holds_nothing(store: Store) -> None:
    assert await store.changes.position() == Position(None, "0-0")
    assert await store.environments.index() == {}
    assert await store.environments.read(PRODUCTION) == (0, None)
    assert await documents(store, [PRODUCTION]) == {PRODUCTION: (None, None)}
    await store.ping()


async def test_a_committed_environment_is_read_back(store: Store) -> None:
    production = worlds.production()
    await store.environments.commit(production, 0)
    written = document.encode(production)
    entry = IndexEntry(production.revision, document.digest(written), frozenset({"h1", "h2"}))
    assert await store.environments.read(PRODUCTION) == (production.revision, production)
    assert await store.environments.index() == {PRODUCTION: entry}
    assert await documents(store, [PRODUCTION]) == {PRODUCTION: (entry, written)}
    position = await store.changes.position()
    assert position.epoch
    [change] = await store.changes.read_after("0-0")
    assert change == Change(
        position.change, "0-0", PRODUCTION, production.revision, entry.hosts, digest=entry.digest or ""
    )


async def test_what_was_committed_here_is_known_as_it_would_be_read(store: Store, store_url: str) -> None:
    production = worlds.production()
    await store.environments.commit(production, 0)
    after = toggled(production)
    await store.environments.commit(after, production.revision)
    *_, change = await store.changes.read_after("0-0")
    own = store.environments.written(PRODUCTION, change.revision, change.digest)
    assert own == (await store.environments.stored([PRODUCTION]))[PRODUCTION]
    assert store.environments.written(PRODUCTION, change.revision, document.digest(b"")) is None
    assert store.environments.written(PRODUCTION, production.revision, change.digest) is None
    async with opened(store_url, store.connection.keys.prefix) as other:
        assert other.environments.written(PRODUCTION, change.revision, change.digest) is None


async def test_what_was_refused_is_not_what_a_change_tells_of(store: Store, store_url: str) -> None:
    """Another writer was first, with the same revision."""
    production = worlds.production()
    async with opened(store_url, store.connection.keys.prefix) as other:
        await other.environments.commit(production, 0)
    with pytest.raises(RevisionConflict):
        await store.environments.commit(replace(production, enabled=not production.enabled), 0)
    [change] = await store.changes.read_after("0-0")
    assert store.environments.written(PRODUCTION, change.revision, change.digest) is None


async def test_the_first_commit_sets_the_epoch_for_ever(store: Store) -> None:
    production = worlds.production()
    await store.environments.commit(production, 0)
    epoch = (await store.changes.position()).epoch
    await store.environments.commit(toggled(production), production.revision)
    assert (await store.changes.position()).epoch == epoch


@pytest.mark.parametrize(("expected", "held"), [(1, 0), (0, 3), (2, 3), (4, 3)])
async def test_a_commit_at_another_revision_than_the_newest_is_a_conflict(
    store: Store, expected: int, held: int
) -> None:
    environment = replace(build("production", 1), revision=max(held, 1))
    if held:
        await store.environments.commit(environment, 0)
    before = (await documents(store, [PRODUCTION]), await store.changes.position())
    with pytest.raises(RevisionConflict, match=f"is at revision {held}, not {expected}") as conflict:
        await store.environments.commit(replace(environment, revision=expected + 1), expected)
    assert (conflict.value.expected, conflict.value.actual) == (expected, held)
    assert (await documents(store, [PRODUCTION]), await store.changes.position()) == before


async def test_fifty_writers_at_once_lose_no_update(store: Store) -> None:
    await store.environments.commit(build("production", 1), 0)

    async def add(name: str) -> int:
        for tries in range(1000):
            revision, environment = await store.environments.read(PRODUCTION)
            assert environment
            try:
                await store.environments.commit(apply(environment, [PutService(name)], worlds.NOW), revision)
            except RevisionConflict:
                await asyncio.sleep(random.uniform(0, 0.2))  # as clients do after a conflict
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
    """Two readers compare the index, the documents and the stream with each other, while two writers commit."""
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
                for id_, (entry, written) in (await documents(other, both)).items():
                    told = IndexEntry(document.decode(written).revision, document.digest(written)) if written else None
                    live = entry if entry and entry.digest else None
                    if told != live:
                        torn.append((id_, entry, told))
                    seen.add(entry.revision if entry else 0)
                position = (await other.changes.position()).change
                index = await other.environments.index()  # read after the stream, so it cannot be older
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


async def test_many_documents_are_read_at_once(store: Store) -> None:
    ids = [EnvironmentId(f"e{number}") for number in range(8)]
    await asyncio.gather(*(store.environments.commit(build(id_, number + 1), 0) for number, id_ in enumerate(ids)))
    found = await documents(store, [*ids, EnvironmentId("none")])
    assert [document.decode(written).id for _, written in found.values() if written] == ids
    assert found[EnvironmentId("none")] == (None, None)


async def test_two_prefixes_are_two_stores(store: Store, store_url: str) -> None:
    await store.environments.commit(build("production", 1), 0)
    async with opened(store_url, store.connection.keys.prefix + "other:") as other:
        assert await other.environments.index() == {}
        await other.environments.commit(build("staging", 1), 0)
    assert list(await store.environments.index()) == ["production"]


# Networks


async def test_a_network_has_one_owner(store: Store) -> None:
    await store.environments.commit(build("production", 1), 0)
    with pytest.raises(NetworkTaken, match="fd12:0:1::/48 belongs or belonged to 'production'"):
        await store.environments.commit(build("staging", 1), 0)
    assert await store.environments.index() == {PRODUCTION: (await store.environments.index())[PRODUCTION]}
    await store.environments.commit(build("staging", 2), 0)


async def test_a_network_belongs_to_its_owner_after_deletion(store: Store) -> None:
    production = build("production", 1)
    await store.environments.commit(production, 0)
    await store.environments.delete(production)
    for again in (build("staging", 1), replace(production, revision=3)):
        with pytest.raises(NetworkTaken):
            await store.environments.commit(again, 2 if again.id == PRODUCTION else 0)
    assert (await store.environments.index())[PRODUCTION] == IndexEntry(2, None)


async def test_an_environment_that_changes_its_network_owns_both_for_ever(store: Store) -> None:
    production = build("production", 1)
    await store.environments.commit(production, 0)
    await store.environments.commit(other_network(production, 2, 2), 1)
    for bits in (1, 2):
        with pytest.raises(NetworkTaken):
            await store.environments.commit(build("staging", bits), 0)


async def test_of_two_writers_that_race_for_a_network_one_gets_it(store: Store, store_url: str) -> None:
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


# Deletion


async def test_a_deleted_environment_leaves_its_revision(store: Store, store_url: str) -> None:
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


async def test_an_environment_created_again_counts_on(store: Store) -> None:
    production = build("production", 1)
    await store.environments.commit(production, 0)
    await store.environments.delete(production)
    with pytest.raises(RevisionConflict):
        await store.environments.commit(other_network(production, 2, 1), 0)
    again = other_network(production, 2, 3)
    await store.environments.commit(again, 2)
    assert await store.environments.read(PRODUCTION) == (3, again)


# Hosts with a member


async def test_a_change_names_the_hosts_that_have_a_member_and_those_that_had_one(store: Store) -> None:
    environment = build("production", 1)
    commits: list[tuple[list[Edit], str, str]] = [
        # edits, hosts with a member after them, hosts that the change names
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


async def test_an_entry_of_a_release_without_hosts_can_be_committed_over(store: Store, store_url: str) -> None:
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
