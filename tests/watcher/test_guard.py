"""The guard against mass deletion: what each step may take away, and what a watcher of a real store holds back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from store.changes import Position
from store.guard import Confirmation
from store.index import IndexEntry
from store.store import Store
from tests.store.reading import documents
from tests.store.servers import Proxy, StartServer, inside, opened, redis_of
from tests.waiting import until
from tests.watcher.harness import Recorder, commit_raw, following
from tests.worlds import NOW, PRODUCTION, STAGING, build, build_on, compiled, make_host, toggled
from watcher.guard import (
    Guard,
    GuardPolicy,
    Kind,
    environments_to_hold,
    hosts_to_hold,
    is_older_copy,
    loses_many_names,
)
from watcher.watcher import Watcher
from zones import document
from zones.edits import DeleteService, PutInstance, PutRecord, PutService, apply
from zones.hosts import Hosts
from zones.model import Environment, RecordSet
from zones.names import EnvironmentId

POLICY = GuardPolicy()
OFF = GuardPolicy(share=1)


def ids(*numbers: int) -> frozenset[EnvironmentId]:
    return frozenset(EnvironmentId(f"e{number}") for number in numbers)


# What one step may take away

ENVIRONMENTS: dict[str, tuple[int, frozenset[EnvironmentId], frozenset[EnvironmentId], frozenset[EnvironmentId]]] = {
    # served, deleted, missing, held
    "nothing": (10, ids(), ids(), ids()),
    "the only one is deleted": (1, ids(1), ids(), ids()),
    "one of two is deleted": (2, ids(1), ids(), ids()),
    "some of many are deleted": (10, ids(1, 2, 3), ids(), ids()),
    "too many are deleted": (10, ids(1, 2, 3, 4), ids(), ids(1, 2, 3, 4)),
    "one is missing": (1000, ids(), ids(1), ids(1)),
    "one is deleted, and one is missing": (10, ids(1), ids(2), ids(2)),
    "all are missing": (3, ids(), ids(1, 2, 3), ids(1, 2, 3)),
}


@pytest.mark.parametrize("what", ENVIRONMENTS)
def test_environments_that_stay(what: str) -> None:
    served, deleted, missing, held = ENVIRONMENTS[what]
    assert environments_to_hold(POLICY, served, deleted, missing) == held
    assert environments_to_hold(OFF, served, deleted, missing) == ids()


@given(st.integers(0, 50), st.sets(st.integers(0, 49)), st.sets(st.integers(0, 49)), st.floats(0, 0.99))
def test_what_is_missing_always_stays_and_nothing_else_is_held(
    more: int, deleted: set[int], missing: set[int], share: float
) -> None:
    gone, lost = ids(*(deleted - missing)), ids(*missing)
    held = environments_to_hold(GuardPolicy(share=share), len(gone | lost) + more, gone, lost)
    assert lost <= held <= gone | lost
    assert held in (lost, gone | lost)


def crowd(*names: str, copies: int = 10, records: int = 0) -> Environment:
    edits: list[Any] = [PutService(name) for name in names]
    edits += [PutInstance(name, f"{name}-{number}") for name in names for number in range(copies)]
    edits += [PutRecord(f"r{number}", "TXT", RecordSet(60, ("x",))) for number in range(records)]
    return build(PRODUCTION, 1, *edits)


def ahead(environment: Environment, commits: int) -> Environment:
    return replace(environment, revision=environment.revision + commits)


DOCUMENTS: dict[str, tuple[Environment, Environment, str]] = {
    "a service of many": (crowd("a", "b", "c"), crowd("a", "b"), ""),
    "most services": (crowd("a", "b", "c"), crowd("a"), "22 of 33 names"),
    "all that there is": (crowd("a"), crowd(), "11 of 11 names"),
    "all of very few": (crowd("a", copies=3), crowd(), ""),
    "most copies": (crowd("a", copies=30), crowd("a", copies=5), "25 of 31 names"),
    "a deploy with other copies": (
        crowd("a", copies=20),
        apply(crowd("a", copies=0), [PutInstance("a", f"new{number}") for number in range(20)], NOW),
        "",
    ),
    "a rename": (crowd("a", copies=20), apply(crowd("a", copies=20), [PutService("a", rename="b")], NOW), ""),
    "a rename without an overlap": (
        crowd("a", copies=20),
        apply(crowd("a", copies=20), [PutService("a", rename="b", overlap=0)], NOW),
        "21 of 21 names",
    ),
    "records": (crowd(records=20), crowd(), "20 of 20 names"),
    "more than there was": (crowd("a"), crowd("a", "b"), ""),
    "one by one, in as many commits": (crowd("a", copies=30), ahead(crowd("a", copies=5), 25), ""),
    "an older revision": (crowd("a", copies=30), replace(crowd(), revision=0 + 1), "31 of 31 names"),
}


@pytest.mark.parametrize("what", DOCUMENTS)
def test_names_that_a_document_lacks(what: str) -> None:
    before, after, lacking = DOCUMENTS[what]
    if not what.startswith(("one by one", "an older")):
        after = replace(after, revision=before.revision + 1)
    assert loses_many_names(POLICY, compiled(before), compiled(after)) == lacking
    assert not loses_many_names(OFF, compiled(before), compiled(after))


def hosts(*numbers: int) -> Hosts:
    return Hosts(1, {f"h{number}": make_host(number) for number in numbers}, {})


HOSTS: dict[str, tuple[Hosts, Hosts, set[str], set[str]]] = {
    # before, after, forgotten, held
    "one of many": (hosts(1, 2, 3), hosts(1, 2), set(), set()),
    "one of two": (hosts(1, 2), hosts(1), set(), set()),
    "all": (hosts(1, 2), hosts(), set(), {"h1", "h2"}),
    "the only one": (hosts(1), hosts(), set(), {"h1"}),
    "the only one is forgotten": (hosts(1), hosts(), {"h1"}, set()),
    "two of three": (hosts(1, 2, 3), hosts(1), set(), {"h2", "h3"}),
    "two of three, one of them forgotten": (hosts(1, 2, 3), hosts(1), {"h2"}, set()),
    "a document that cannot be read": (hosts(1), Hosts(2, {}, {"h1": "bad"}), set(), set()),
}


@pytest.mark.parametrize("what", HOSTS)
def test_hosts_that_stay(what: str) -> None:
    before, after, forgotten, held = HOSTS[what]
    assert hosts_to_hold(POLICY, before, after, forgotten) == held
    assert hosts_to_hold(OFF, before, after, forgotten) == set()


def test_an_older_copy_lacks_more_than_a_failover_loses() -> None:
    assert is_older_copy("60002-0", "1-0")
    assert not is_older_copy("60001-5", "1-0")
    assert is_older_copy("60002-0", "0-0")
    assert not is_older_copy("5-0", "5-0")


CONFIRMATIONS: dict[str, tuple[Confirmation, Position | None, str, bool]] = {
    # given, found, applied, covers
    "after all that was applied": (Confirmation(Position("b", "0-0"), "9-0"), None, "5-0", True),
    "of an older copy of the data": (Confirmation(Position("a", "3-0"), "4-0"), None, "5-0", False),
    "of an older copy, found after an empty store": (
        Confirmation(Position("a", "3-0"), "4-0"), Position(None, "0-0"), "5-0", False,
    ),
    "of what was found, by a clock that is behind": (
        Confirmation(Position("b", "2-0"), "3-0"), Position("b", "1-0"), "5-0", True,
    ),
    "of what was found, before it was found": (
        Confirmation(Position("b", "2-0"), "3-0"), Position("b", "4-0"), "5-0", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CONFIRMATIONS)
def test_what_a_confirmation_is_about(what: str) -> None:
    confirmation, found, applied, covers = CONFIRMATIONS[what]
    assert Guard(applied=applied, found=found).is_confirmed(confirmation) is covers


def test_a_hold_ends_when_nothing_of_it_is_left(caplog: pytest.LogCaptureFixture) -> None:
    now = [10.0]
    guard = Guard(clock=lambda: now[0])
    guard.hold(Kind.ENVIRONMENTS, ["b", "a"], "they have vanished")
    now[0] = 22.0
    guard.hold_also(Kind.ENVIRONMENTS, ["c"], "they have vanished")
    assert guard.texts == (
        "they have vanished (a, b, c), held for 12 s: bring the data back, or run 'interlock guard confirm' if they"
        " are to be withdrawn",
    )
    assert guard.holds == {Kind.ENVIRONMENTS: 1}
    for name in "abc":
        guard.let_go(Kind.ENVIRONMENTS, name)
    assert not guard.held
    assert [record.message for record in caplog.records] == ["withdrawal_held"] * 4 + ["withdrawal_released"]


def test_a_hold_is_overdue_after_its_time() -> None:
    now = [0.0]
    guard = Guard(GuardPolicy(release_after=60), clock=lambda: now[0])
    guard.hold(Kind.NAMES, ["a"], "they have vanished")
    now[0] = 59.0
    assert not guard.overdue
    now[0] = 60.0
    assert guard.overdue == {Kind.NAMES}
    assert not Guard(clock=lambda: 1e9).overdue


# On real servers


async def fill(store: Store, number: int = 5) -> list[Environment]:
    environments = [build_on(f"e{one}", 1 + one, "h1") for one in range(number)]
    for environment in environments:
        await store.environments.commit(environment, 0)
    return environments


async def held(watcher: Watcher, *kinds: Kind) -> None:
    await until(lambda: {one.kind for one in watcher.guard.held} == set(kinds), f"{kinds} are held")


async def one_more_comparison(watcher: Watcher) -> None:
    before = watcher.counts.compared
    await until(lambda: watcher.counts.compared > before + 1)


LOSSES: dict[str, tuple[Callable[[Any, Any], Any], Kind]] = {
    "FLUSHALL": (lambda redis, _keys: redis.flushall(), Kind.DATA_SET),
    "the index": (lambda redis, keys: redis.delete(keys.environments), Kind.ENVIRONMENTS),
    "one entry of the index": (lambda redis, keys: redis.hdel(keys.environments, "e0"), Kind.ENVIRONMENTS),
    "the epoch and the index": (lambda redis, keys: redis.delete(keys.epoch, keys.environments), Kind.DATA_SET),
    "the hosts": (lambda redis, keys: redis.delete(keys.hosts), Kind.HOSTS),
}


@pytest.mark.parametrize("what", LOSSES)
async def test_what_is_lost_is_held_and_a_confirmation_lets_it_go(
    start_server: StartServer, quick: None, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    lose, kind = LOSSES[what]
    server = await start_server()
    async with opened(server.url) as store, inside(store, server.url) as (redis, keys):
        environments = await fill(store)
        for number in (1, 2):
            await store.hosts.register(make_host(number))
        async with following(store, with_hosts=True, interest="h1") as (watcher, recorder):
            events = list(recorder.events)
            await lose(redis, keys)
            await held(watcher, kind)
            await one_more_comparison(watcher)
            assert recorder.events == events
            assert recorder.holds(*environments)
            assert sum(record.message == "withdrawal_held" for record in caplog.records) == 1
            await store.guard.confirm()
            index, present = await store.environments.index(), await store.hosts.read()
            await until(lambda: recorder.holds(*(one for one in environments if one.id in index)))
            await until(lambda: recorder.hosts[-1] == present)
            assert not watcher.guard.held
            again = build_on("again", 99, "h1")
            await store.environments.commit(again, 0)
            await until(lambda: "again" in recorder.zones)


async def test_what_is_lost_in_the_middle_of_a_comparison_is_held_whole(
    start_server: StartServer, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server()
    async with opened(server.url) as store, opened(server.url) as other, redis_of(server.url) as redis:
        environments = await fill(store)
        async with following(store) as (watcher, recorder):
            read, lost = store.environments.index, list[bool]()

            async def lose_and_read() -> dict[EnvironmentId, IndexEntry]:
                if not lost:
                    lost.append(True)
                    await redis.flushall()
                    await other.environments.commit(build("after", 99), 0)
                return await read()

            monkeypatch.setattr(store.environments, "index", lose_and_read)
            await held(watcher, Kind.DATA_SET)
            await one_more_comparison(watcher)
            assert recorder.holds(*environments), "one of the other data set is served beside them"


async def test_what_is_lost_is_held_until_it_is_back(start_server: StartServer, quick: None) -> None:
    server = await start_server()
    async with opened(server.url) as store, redis_of(server.url) as redis:
        environments = await fill(store)
        async with following(store) as (watcher, recorder):
            events = list(recorder.events)
            saved = {key: await redis.dump(key) for key in await redis.keys("*")}
            await redis.flushall()
            await held(watcher, Kind.DATA_SET)
            for (
                key,
                value,
            ) in saved.items():  # key by key, and so for a while the index without the epoch, or without it
                await redis.restore(key, 0, value)
                await one_more_comparison(watcher)
                assert recorder.events == events
            await held(watcher)
            changed = toggled(environments[0])
            await store.environments.commit(changed, environments[0].revision)
            await until(lambda: recorder.holds(changed, *environments[1:]))


async def test_what_is_lost_is_let_go_after_the_time_that_is_set(
    start_server: StartServer, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start_server()
    async with opened(server.url) as store, redis_of(server.url) as redis:
        environments = await fill(store)
        async with following(store) as (watcher, recorder):
            watcher.guard.policy = GuardPolicy(release_after=3600)
            await redis.flushall()
            await held(watcher, Kind.DATA_SET)
            assert recorder.holds(*environments)
            watcher.guard.policy = GuardPolicy(release_after=0.001)
            await until(lambda: not recorder.zones)
            released = [record for record in caplog.records if record.message == "withdrawal_released"]
            assert released[-1].__dict__["reason"] == "the time to hold it is over"


async def test_a_guard_that_is_off_follows_everything(start_server: StartServer, quick: None) -> None:
    server = await start_server()
    async with opened(server.url) as store, redis_of(server.url) as redis:
        await fill(store)
        async with following(store) as (watcher, recorder):
            watcher.guard.policy = OFF
            await redis.flushall()
            await until(lambda: not recorder.zones)
            assert not watcher.guard.holds


async def test_one_deletion_passes_at_once(store: Store) -> None:
    environments = await fill(store, 2)
    async with following(store) as (watcher, recorder):
        await store.environments.delete(environments[0])
        await until(lambda: recorder.holds(environments[1]))
        await store.environments.delete(environments[1])
        await until(lambda: recorder.holds())
        assert not watcher.guard.holds


async def test_many_deletions_in_one_step_are_held_and_the_rest_of_the_step_is_done(
    store: Store, store_url: str
) -> None:
    environments = await fill(store, 6)
    async with Proxy(Path(store_url.removeprefix("unix://"))) as proxy:
        behind = Store(proxy.url, store.connection.keys.prefix)
        async with following(behind) as (watcher, recorder):
            proxy.refuse = True
            proxy.drop()
            await until(lambda: not watcher.connected)
            for environment in environments[:3]:
                await store.environments.delete(environment)
            kept = toggled(environments[-1])
            await store.environments.commit(kept, environments[-1].revision)
            proxy.refuse = False
            await until(lambda: recorder.holds(*environments[:-1], kept))
            await held(watcher, Kind.ENVIRONMENTS)
            assert watcher.guard.held[0].names == ("e0", "e1", "e2")
            await store.environments.delete(environments[3])
            await until(lambda: EnvironmentId("e3") not in recorder.zones, "one at a time passes")
            await store.guard.confirm()
            await until(lambda: recorder.holds(environments[4], kept))
        await behind.close()


async def test_a_document_that_lacks_most_names_is_held_unless_it_was_asked_for(
    store: Store, store_url: str, quick: None
) -> None:
    before = crowd("a", "b", "c")
    await store.environments.commit(before, 0)
    staging = build_on(STAGING, 2, "h1")
    await store.environments.commit(staging, 0)
    async with following(store) as (watcher, recorder), redis_of(store_url) as redis:
        less = apply(before, [DeleteService("b"), DeleteService("c")], NOW)
        await commit_raw(store, redis, PRODUCTION, less.revision, document.encode(less), str(less.network))
        await held(watcher, Kind.NAMES)
        staging = toggled(staging)
        await store.environments.commit(staging, staging.revision - 1)
        await until(lambda: recorder.holds(before, staging))
        await one_more_comparison(watcher)
        counted = (watcher.counts.published, watcher.counts.repaired)
        await one_more_comparison(watcher)
        assert (watcher.counts.published, watcher.counts.repaired) == counted
        assert recorder.holds(before, staging)
        back = apply(less, [PutService("b"), *(PutInstance("b", f"b{number}") for number in range(10))], NOW)
        await store.environments.commit(back, less.revision)
        await until(lambda: recorder.holds(back, staging))
        await held(watcher)
        none = apply(back, [DeleteService("a"), DeleteService("b")], NOW)
        await store.guard.allow(PRODUCTION, none.revision)
        await store.environments.commit(none, back.revision)
        await until(lambda: recorder.holds(none, staging))
        assert watcher.guard.holds == {Kind.NAMES: 1}


async def test_an_older_copy_of_the_data_is_held_and_a_failover_is_not(
    store: Store, store_url: str, quick: None
) -> None:
    environments = await fill(store)
    async with inside(store, store_url) as (redis, keys), following(store) as (watcher, recorder):
        saved = {key: await redis.dump(key) for key in await redis.keys(keys.prefix + "*")}

        async def restore() -> None:
            async with redis.pipeline(transaction=True) as pipe:
                for key in await redis.keys(keys.prefix + "*"):
                    pipe.delete(key)
                for key, value in saved.items():
                    pipe.restore(key, 0, value)
                await pipe.execute()

        newer = [toggled(one) for one in environments]
        for one in newer:
            await store.environments.commit(one, one.revision - 1)
        await until(lambda: recorder.holds(*newer))
        await restore()
        await until(lambda: recorder.holds(*environments), "a failover that lost some seconds is followed")
        assert not watcher.guard.holds
        newest = (await store.changes.position()).change
        hour = f"{int(newest.partition('-')[0]) + 3_600_000}-0"
        await redis.xadd(keys.changes, {"environment": "", "revision": 0, "previous": newest}, id=hour)
        for one in newer:
            await store.environments.commit(one, one.revision - 1)
        await until(lambda: recorder.holds(*newer))
        await restore()
        await held(watcher, Kind.DATA_SET)
        later = apply(environments[0], [PutService("later")], NOW)
        await store.environments.commit(later, environments[0].revision)
        await one_more_comparison(watcher)
        assert recorder.holds(*newer)
        await store.guard.confirm()
        await until(lambda: recorder.holds(later, *environments[1:]))


async def test_a_confirmation_that_comes_back_with_an_old_copy_confirms_nothing(
    start_server: StartServer, quick: None
) -> None:
    server = await start_server()
    async with opened(server.url) as store, redis_of(server.url) as redis:
        environments = await fill(store, 2)
        await store.guard.confirm()
        saved = {key: await redis.dump(key) for key in await redis.keys("*")}
        async with following(store) as (watcher, recorder):
            third = build_on("third", 50, "h1")
            await store.environments.commit(third, 0)
            await until(lambda: recorder.holds(*environments, third))
            await redis.flushall()
            await held(watcher, Kind.DATA_SET)
            for key, value in saved.items():
                await redis.restore(key, 0, value)
            await held(watcher, Kind.ENVIRONMENTS)
            await one_more_comparison(watcher)
            assert recorder.holds(*environments, third)
            await store.environments.commit(replace(third, revision=4), 0)
            await held(watcher)


@pytest.mark.parametrize("left", [0, 2])
async def test_a_confirmation_that_was_followed_confirms_nothing_that_vanishes_later(
    store: Store, store_url: str, quick: None, left: int
) -> None:
    """Also where the stream has lost its newest changes, so that the confirmation seems to come after all of them."""
    environments = await fill(store)
    async with following(store) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await store.guard.confirm()
        await one_more_comparison(watcher)
        entries = await redis.xrange(keys.changes)
        await redis.xdel(keys.changes, *(position for position, _ in entries[left:]))
        await one_more_comparison(watcher)
        await redis.delete(keys.environments)
        await held(watcher, Kind.ENVIRONMENTS)
        await one_more_comparison(watcher)
        assert recorder.holds(*environments)


async def test_a_change_that_somebody_has_appended_by_hand_confirms_nothing(
    store: Store, store_url: str, quick: None
) -> None:
    environments = await fill(store)
    async with following(store) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await redis.delete(keys.environments)
        await held(watcher, Kind.ENVIRONMENTS)
        position = await store.changes.position()
        fields = {"environment": "", "revision": 0, "digest": "", "hosts": "-"}
        confirms = {"guard": f"{position.epoch} {position.change}", "previous": position.change}
        await redis.xadd(keys.changes, fields | confirms)
        await one_more_comparison(watcher)
        assert watcher.guard.holds_back(Kind.ENVIRONMENTS)
        assert recorder.holds(*environments)
        await store.guard.confirm()
        await until(lambda: not recorder.zones)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_lost_and_comes_back_nothing_is_withdrawn_that_was_not_deleted(
    start_server: StartServer, quick: None, seed: int
) -> None:
    chance = random.Random(seed)
    server = await start_server()
    async with opened(server.url) as store, inside(store, server.url) as (redis, keys):
        await fill(store)
        async with following(store) as (watcher, recorder):
            saved: dict[bytes, bytes] = {}
            deleted: set[str] = set()
            for _ in range(40):
                match chance.choice(["save", "commit", "commit", "delete", "lose", "lose", "lose", "restore"]):
                    case "save":
                        saved = {key: await redis.dump(key) for key in await redis.keys("*")}
                    case "commit":
                        await _commit_one(store, chance)
                    case "delete":
                        deleted |= await _delete_one(store, recorder)
                    case "restore":
                        for key, value in saved.items():
                            await redis.restore(key, 0, value, replace=True)
                    case "lose":
                        present = sorted(await redis.keys("*"))
                        some = chance.choice([present, chance.sample(present, len(present) // 2), [keys.environments]])
                        if some:
                            await redis.delete(*some)
                await asyncio.sleep(chance.choice([0, 0.02, 0.15]))
            await one_more_comparison(watcher)
            withdrawn = {id_ for event, id_ in recorder.events if event == "withdraw"}
            assert withdrawn <= deleted
            assert watcher.guard.holds, "something was held"


async def _commit_one(store: Store, chance: random.Random) -> None:
    id_ = EnvironmentId(f"e{chance.randrange(5)}")
    entry, written = (await documents(store, [id_]))[id_]
    if entry and written and entry.revision == document.decode(written).revision:
        await store.environments.commit(toggled(document.decode(written)), entry.revision)


async def _delete_one(store: Store, recorder: Recorder) -> set[str]:
    index = await store.environments.index()
    for id_, (entry, written) in (await documents(store, index)).items():
        if entry and written and id_ in recorder.zones and entry.revision == document.decode(written).revision:
            await store.environments.delete(document.decode(written))
            return {id_}
    return set()
