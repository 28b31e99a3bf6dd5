"""What nobody announces: documents that are changed by hand, an index that disagrees, large garbage."""

from __future__ import annotations

from typing import Any

import pytest

from store import mending
from store.keys import Keys
from store.store import Store
from tests.store.servers import inside, redis_of
from tests.waiting import until
from tests.watcher.harness import commit_raw, following
from tests.worlds import NOW, PRODUCTION, STAGING, build, build_on, make_host, toggled
from watcher import damage
from watcher.damage import SAMPLE_STEP, Sample
from watcher.watcher import Watcher
from zones import document
from zones.edits import DeleteInstance, PutService, apply
from zones.model import Environment
from zones.names import EnvironmentId


async def fill(store: Store) -> tuple[Environment, Environment]:
    production, staging = build(PRODUCTION, 1, PutService("api")), build(STAGING, 2, PutService("api"))
    await store.environments.commit(production, 0)
    await store.environments.commit(staging, 0)
    return production, staging


async def compared_again(watcher: Watcher, times: int = 2) -> None:
    before = watcher.counts.compared
    await until(lambda: watcher.counts.compared > before + times)


async def test_a_document_that_was_changed_by_hand_is_noticed_and_the_last_good_one_stays(
    store: Store, store_url: str, quick: None
) -> None:
    production, staging = await fill(store)
    by_hand = document.encode(staging).replace(b'"api"', b'"web"')
    async with following(store) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await redis.set(keys.environment(STAGING), by_hand)
        await until(lambda: STAGING in watcher.quarantined)
        assert "changed by hand" in watcher.quarantined[STAGING]
        await compared_again(watcher)
        assert recorder.holds(production, staging)
        assert watcher.counts.repaired == 0
        adopted = await mending.adopt(store, STAGING)
        assert adopted
        assert set(adopted.services) == {"web"}
        await until(lambda: recorder.holds(production, adopted))
        assert not watcher.quarantined


async def test_one_that_was_changed_by_hand_is_served_where_no_better_one_is_known(
    store: Store, store_url: str, quick: None
) -> None:
    await fill(store)
    async with inside(store, store_url) as (redis, keys):
        written = await redis.get(keys.environment(STAGING))
        await redis.set(keys.environment(STAGING), written.replace(b'"api"', b'"web"'))
        async with following(store) as (watcher, recorder):
            assert set(recorder.zones[STAGING].environment.services) == {"web"}
            assert list(watcher.quarantined) == [STAGING]
            published = watcher.counts.published
            await compared_again(watcher)
            assert (watcher.counts.published, watcher.counts.repaired) == (published, 0)
            await redis.set(keys.environment(STAGING), written)
            await until(lambda: set(recorder.zones[STAGING].environment.services) == {"api"})
            await until(lambda: not watcher.quarantined)


@pytest.mark.parametrize("line", ["9 0123456789abcdef -", "garbage", f"{10**30} digest -", "9 deleted"])
async def test_an_index_that_disagrees_is_named_and_counts_as_no_repair(
    store: Store, store_url: str, quick: None, line: str
) -> None:
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await redis.hset(keys.environments, STAGING, line)
        await until(lambda: STAGING in watcher.quarantined)
        await compared_again(watcher)
        assert recorder.holds(production, staging)
        assert (watcher.counts.repaired, watcher.counts.rollbacks) == (0, 0)
        adopted = await mending.adopt(store, STAGING)
        assert adopted
        await until(lambda: recorder.holds(production, adopted))
        assert not watcher.quarantined


async def line_of(redis: Any, keys: Keys, id_: str, hosts: str) -> bytes:
    """Puts ``hosts`` into the line of ``id_`` in the index; gives the line that it was."""
    line: bytes = await redis.hget(keys.environments, id_)
    await redis.hset(keys.environments, id_, b" ".join([*line.split()[:2], hosts.encode()]))
    return line


async def test_an_index_that_names_other_hosts_is_named(store: Store, store_url: str, quick: None) -> None:
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        line = await line_of(redis, keys, STAGING, "h1,h2")
        await until(lambda: STAGING in watcher.quarantined)
        assert "names other hosts (h1, h2) than those with a member (-)" in watcher.quarantined[STAGING]
        await compared_again(watcher)
        assert recorder.holds(production, staging)
        assert (watcher.counts.repaired, watcher.counts.published) == (0, 2)
        await redis.hset(keys.environments, STAGING, line)
        await until(lambda: not watcher.quarantined)
        await line_of(redis, keys, STAGING, "h1")
        await until(lambda: STAGING in watcher.quarantined)
        staging = toggled(staging)  # nobody refuses a write, and it puts the line right
        await store.environments.commit(staging, staging.revision - 1)
        await until(lambda: recorder.holds(production, staging))
        assert not watcher.quarantined


async def test_hosts_that_are_lost_from_the_index_withdraw_nothing(store: Store, store_url: str, quick: None) -> None:
    """An agent follows what the index says that its host has, and the document knows better."""
    here, elsewhere = build_on(PRODUCTION, 1, "h1"), build_on(STAGING, 2, "h2")
    for environment in (here, elsewhere):
        await store.environments.commit(environment, 0)
    async with following(store, interest="h1") as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await line_of(redis, keys, PRODUCTION, "-")
        await until(lambda: PRODUCTION in watcher.quarantined)
        await compared_again(watcher)
        assert recorder.holds(here)
        assert (watcher.counts.repaired, watcher.counts.withdrawn) == (0, 0)
        # A newer document that has a member here all the same, by a line that does not say so.
        here = toggled(here)
        await commit_raw(store, redis, PRODUCTION, here.revision, document.encode(here), str(here.network), "h2")
        await compared_again(watcher)
        assert recorder.holds(here)
        assert list(watcher.quarantined) == [PRODUCTION]
        adopted = await mending.adopt(store, PRODUCTION)
        assert adopted
        await until(lambda: recorder.holds(adopted))
        assert not watcher.quarantined
        # One that has none, by a line that says so, is still withdrawn at once.
        await store.environments.commit(apply(adopted, [DeleteInstance("api", "on-h1")], NOW), adopted.revision)
        await until(lambda: not recorder.zones)
        assert not watcher.guard.held


async def test_an_index_that_was_evicted_withdraws_nothing_and_is_made_again(
    store: Store, store_url: str, quick: None
) -> None:
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await redis.delete(keys.environments)
        await compared_again(watcher)
        assert recorder.holds(production, staging)
        adopted = [await mending.adopt(store, id_) for id_ in (PRODUCTION, STAGING)]
        await until(lambda: recorder.holds(*(one for one in adopted if one)))
        await until(lambda: not watcher.guard.held)


async def output_of(redis: Any) -> int:
    """The octets that the server has sent so far."""
    return int((await redis.info("stats"))["total_net_output_bytes"])


@pytest.mark.parametrize("size", [50 << 20, 1 << 20])
async def test_large_garbage_is_read_once_at_most(store: Store, store_url: str, quick: None, size: int) -> None:
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await redis.set(keys.environment(STAGING), b"garbage")
        await redis.setrange(keys.environment(STAGING), size - 1, b"x")
        await until(lambda: STAGING in watcher.quarantined)
        await compared_again(watcher)
        before = await output_of(redis)
        await compared_again(watcher, times=5)
        assert await output_of(redis) - before < 100_000
        assert recorder.holds(production, staging)
        await redis.set(keys.environment(STAGING), document.encode(staging))  # mended by hand
        await until(lambda: not watcher.quarantined)
        await redis.set(keys.environment(STAGING), b"g" * size)
        await until(lambda: STAGING in watcher.quarantined)
        assert await mending.remove(store, STAGING)
        await until(lambda: recorder.holds(production))
        assert not watcher.quarantined


async def test_fifty_megabytes_are_never_read(store: Store, store_url: str, quick: None) -> None:
    """Reading them held up queries for a second."""
    production, _staging = await fill(store)
    async with redis_of(store_url) as redis:
        await redis.setrange(store.connection.keys.environment(STAGING), (50 << 20) - 1, b"x")
        before = await output_of(redis)
        async with following(store) as (watcher, recorder):
            await compared_again(watcher)
            assert recorder.holds(production)
            assert "52428800 octets" in watcher.quarantined[STAGING]
            production = toggled(production)
            await store.environments.commit(production, production.revision - 1)
            await until(lambda: recorder.holds(production))
        assert await output_of(redis) - before < 200_000


async def test_a_large_store_is_sampled_round_by_round(
    store: Store, store_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watcher.comparison.SAMPLE_OCTETS", 1)  # a step of the round with each comparison
    monkeypatch.setattr(damage, "SAMPLE_STEP", 2)
    ids = [EnvironmentId(f"e{number}") for number in range(7)]
    for number, id_ in enumerate(ids):
        await store.environments.commit(build(id_, number + 1), 0)
    async with following(store) as (watcher, _), inside(store, store_url) as (redis, keys):
        for id_ in ids:
            written = await redis.get(keys.environment(id_))
            await redis.set(keys.environment(id_), written.replace(b'"enabled":true', b'"enabled":false') + b" ")
        await until(lambda: set(watcher.quarantined) == set(ids))


def test_a_round_names_each_environment_once_and_goes_on_where_it_stopped() -> None:
    ids = {EnvironmentId(f"e{number}"): number for number in range(2 * SAMPLE_STEP + 5)}
    sample = Sample()
    first = next(sample.steps(ids))
    rest = [id_ for step in sample.steps(ids) for id_ in step]
    assert [*first, *rest] == list(ids)
    del ids[EnvironmentId("e0")]
    assert [id_ for step in sample.steps(ids) for id_ in step] == list(ids)  # the next round
    assert list(sample.steps({})) == []


@pytest.mark.parametrize(
    ("key", "what"),
    [("guard", "the list of confirmations"), ("hosts", "the list of hosts"), ("hosts:revision", "hosts")],
)
async def test_what_no_commit_needs_stops_no_commit_from_being_followed(
    store: Store, store_url: str, quick: None, key: str, what: str
) -> None:
    """A commit is acknowledged though such a key has a wrong type: so it is served, and the key is named."""
    production, staging = await fill(store)
    await store.hosts.register(make_host(1))
    wrong = store.connection.keys.prefix + key
    async with following(store, with_hosts=True) as (watcher, recorder), redis_of(store_url) as redis:
        await redis.rename(wrong, f"{wrong}:aside") if key != "guard" else None
        await redis.rpush(wrong, "something else")
        await until(lambda: watcher.guard.texts)
        [text] = watcher.guard.texts
        assert text.startswith(what if key != "hosts:revision" else "the list of hosts")
        assert f"{wrong} is of the type list" in text
        assert "interlock store check" in text
        changed = toggled(staging)
        await store.environments.commit(changed, staging.revision)
        await until(lambda: recorder.holds(production, changed))
        await compared_again(watcher)
        assert watcher.connected
        assert len(recorder.hosts) == 1
        await redis.delete(wrong)
        await redis.rename(f"{wrong}:aside", wrong) if key != "guard" else None
        await until(lambda: not watcher.guard.texts)
