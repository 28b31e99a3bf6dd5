"""The watcher on real servers: what it serves while servers fail, data is lost, and documents are bad."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from store import changes as changes_module
from store import store as store_module
from store.changes import ChangeBatch
from store.environments import COMMIT_SCRIPT
from store.errors import NetworkTaken
from store.options import StoreOptions
from store.store import Store
from support import breaks
from support.clock import unix_milliseconds
from tests import worlds
from tests.store.reading import documents
from tests.store.servers import Proxy, StartServer, inside, redis_of
from tests.waiting import until, waited_for_processor
from tests.watcher.harness import Recorder, commit_arguments, commit_raw, following, served_documents
from tests.worlds import NOW, PLATFORM, PRODUCTION, STAGING, build, toggled
from watcher import publisher as publishing
from watcher import watcher as watcher_module
from watcher.watcher import BUSY, Watcher
from zones import document
from zones.edits import DeleteInstance, PutInstance, PutService, SetEnabled, apply
from zones.hosts import hosts_of
from zones.model import Environment
from zones.names import EnvironmentId, Name

API = Name.parse("api.railway.internal")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that gives up on a server within half a second."""
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT", 0.3)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.2)
    monkeypatch.setattr(changes_module, "CHANGES_WAIT_MARGIN", 0.3)


def small(id_: str, bits: int) -> Environment:
    return build(id_, bits, PutService("api"), PutInstance("api", "a1"))


async def change(store: Store, environment: Environment) -> Environment:
    """Commits the next revision of ``environment``, and returns it."""
    after = toggled(environment)
    await store.environments.commit(after, environment.revision)
    return after


async def fill(store: Store) -> tuple[Environment, Environment]:
    """Production and staging, committed."""
    production, staging = small(PRODUCTION, 1), small(STAGING, 2)
    await store.environments.commit(production, 0)
    await store.environments.commit(staging, 0)
    return production, staging


# Load and tail


async def test_an_empty_store_is_loaded(store: Store) -> None:
    async with following(store) as (watcher, recorder):
        assert recorder.events == [("loaded", "")]
        assert watcher.connected
        assert watcher.last_contact


async def test_what_exists_is_loaded_and_changes_are_followed(store: Store) -> None:
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder):
        assert recorder.holds(production, staging)
        assert recorder.events[-1] == ("loaded", "")
        assert watcher.revisions == {PRODUCTION: 2, STAGING: 2}
        production = await change(store, production)
        await until(lambda: recorder.holds(production, staging))
        assert watcher.counts.changes == 1
        assert recorder.events[3:] == [("publish", PRODUCTION)]
        await store.environments.delete(staging)
        await until(lambda: recorder.holds(production))
        assert recorder.events[4:] == [("withdraw", STAGING)]
        assert (watcher.counts.published, watcher.counts.withdrawn, watcher.counts.gaps) == (3, 1, 0)


async def test_a_deleted_environment_is_not_loaded(store: Store) -> None:
    production, staging = await fill(store)
    await store.environments.delete(staging)
    async with following(store) as (_, recorder):
        assert recorder.events == [("publish", PRODUCTION), ("loaded", "")]
        assert recorder.holds(production)


async def test_an_environment_comes_back_after_its_deletion(store: Store) -> None:
    production = small(PRODUCTION, 1)
    await store.environments.commit(production, 0)
    async with following(store) as (_, recorder):
        revision = await store.environments.delete(production)
        again = replace(small(PRODUCTION, 2), revision=revision + 1)
        await store.environments.commit(again, revision)
        await until(lambda: recorder.holds(again))


async def test_many_and_large_documents_are_loaded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "LARGE_DOCUMENT", 400)  # so each is compiled in a thread
    monkeypatch.setattr(breaks, "AFTER", 0.0)
    environments = [small(f"e{number}", 1 + number) for number in range(60)] + [worlds.production()]
    await asyncio.gather(*(store.environments.commit(environment, 0) for environment in environments))
    async with following(store) as (_, recorder):
        assert recorder.holds(*environments)


async def test_a_change_is_served_within_milliseconds(store: Store) -> None:
    production = small(PRODUCTION, 1)
    await store.environments.commit(production, 0)
    async with following(store) as (_, recorder):
        took = []
        for _ in range(20):
            production = await change(store, production)
            began, waited = time.monotonic(), waited_for_processor()
            await until(partial(recorder.holds, production))
            took.append(time.monotonic() - began - (waited_for_processor() - waited))
        assert sorted(took)[10] < 0.1  # half of them; the machine may be busy


async def attempts(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Returns when a watcher of ``store`` has begun to load it ``number`` times more."""
    count, original = Counter[str](), store.clock.read

    async def read() -> None:  # what each load begins with
        count["begun"] += 1
        await original()

    with monkeypatch.context() as patch:
        patch.setattr(store.clock, "read", read)
        await until(lambda: count["begun"] >= number, "it does not try to load")


async def test_a_store_that_starts_late_is_waited_for(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server("--appendonly", "yes")
    server.kill()
    store = Store(server.url)
    async with following(store, loaded=False) as (watcher, recorder):
        await attempts(store, monkeypatch, 3)
        assert {kind for kind, _ in recorder.events} <= {"source_away"}
        assert not watcher.connected
        assert watcher.last_contact is None
        await server.start()
        await until(lambda: recorder.is_loaded)
        assert watcher.counts.lost_connections == 0
    await store.close()


# The store is gone, and answers go on


async def test_what_was_published_stays_while_the_server_is_dead(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server("--appendonly", "yes", "--appendfsync", "always")
    store = Store(server.url)
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder):
        before = (dict(recorder.zones), list(recorder.events))
        server.kill()
        await until(lambda: not watcher.connected)
        contact = watcher.last_contact
        await attempts(store, monkeypatch, 3)
        assert (recorder.zones, recorder.events) == before
        assert watcher.last_contact == contact
        await server.start()
        await until(lambda: watcher.connected)
        assert (recorder.zones, recorder.events) == before  # nothing has changed, so nothing is published
        assert watcher.counts.lost_connections == 1
        production = await change(store, production)
        await until(lambda: recorder.holds(production, staging))
        assert contact
        assert watcher.last_contact
        assert watcher.last_contact > contact
    await store.close()


async def test_what_was_published_stays_while_the_server_hangs(start_server: StartServer, impatient: None) -> None:
    server = await start_server()
    store = Store(server.url)
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder):
        events = list(recorder.events)
        server.signal(signal.SIGSTOP)
        await until(lambda: not watcher.connected)
        assert recorder.events == events
        server.signal(signal.SIGCONT)
        await until(lambda: watcher.connected)
        staging = await change(store, staging)
        await until(lambda: recorder.holds(production, staging))
    await store.close()


async def test_what_was_published_stays_while_the_password_is_wrong(start_server: StartServer) -> None:
    server = await start_server()
    store = Store(server.url)
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder), redis_of(server.url) as redis:
        events = list(recorder.events)
        await redis.config_set("requirepass", "s3cr3t")
        await redis.client_kill_filter(skipme=True, _type="normal")
        await until(lambda: not watcher.connected)
        assert recorder.events == events
        await redis.config_set("requirepass", "")
        await until(lambda: watcher.connected)
        assert recorder.holds(production, staging)
    await store.close()


async def test_a_replica_can_be_followed(start_server: StartServer) -> None:
    primary = await start_server("--repl-diskless-sync-delay", "0", tcp=True)
    replica = await start_server("--replicaof", f"127.0.0.1 {primary.port}")
    writer, reader = Store(primary.url), Store(replica.url, options=StoreOptions(replicas=True))
    async with following(reader) as (_, recorder):
        production, staging = await fill(writer)
        await until(lambda: recorder.holds(production, staging))
        production = await change(writer, production)
        await until(lambda: recorder.holds(production, staging))
    await writer.close()
    await reader.close()


# Changes that were missed


@pytest.mark.parametrize("loss", ["XTRIM", "DEL"])
async def test_a_gap_in_the_stream_is_noticed(store: Store, store_url: str, loss: str) -> None:
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder), redis_of(store_url) as redis:
        stream = store.connection.keys.changes
        await (redis.xtrim(stream, 0, approximate=False) if loss == "XTRIM" else redis.delete(stream))
        production = await change(store, production)
        await until(lambda: recorder.holds(production, staging))
        assert (watcher.counts.gaps, watcher.counts.lost_connections) == (1, 0)


@pytest.mark.parametrize("loss", ["XTRIM", "DEL", "nothing"])
async def test_changes_during_an_outage_are_caught_up(store: Store, store_url: str, loss: str) -> None:
    production, staging = await fill(store)
    async with Proxy(Path(store_url.removeprefix("unix://"))) as proxy, redis_of(store_url) as redis:
        behind = Store(proxy.url, store.connection.keys.prefix)
        async with following(behind) as (watcher, recorder):
            proxy.refuse = True
            proxy.drop()
            await until(lambda: not watcher.connected)
            production = await change(store, await change(store, production))
            await store.environments.delete(staging)
            third = small("third", 3)
            await store.environments.commit(third, 0)
            if loss == "XTRIM":
                await redis.xtrim(store.connection.keys.changes, 0, approximate=False)
            if loss == "DEL":
                await redis.delete(store.connection.keys.changes)
            assert not recorder.holds(production, third)
            proxy.refuse = False
            await until(lambda: recorder.holds(production, third))
            assert watcher.counts.lost_connections == 1
            third = await change(store, third)
            await until(lambda: recorder.holds(production, third))
        await behind.close()


async def one_more_contact(watcher: Watcher) -> None:
    before = watcher.last_contact
    await until(lambda: watcher.last_contact != before)


async def test_a_server_whose_clock_is_behind_is_followed(
    store: Store, store_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream of a new primary may number its changes below those of the old one; a read after those finds none."""
    production, staging = await fill(store)
    async with redis_of(store_url) as redis:
        await redis.xadd(store.connection.keys.changes, {"far": "ahead"}, id="99999999999999-0")
        async with following(store) as (watcher, recorder):
            await redis.delete(store.connection.keys.changes)
            production = await change(store, production)
            await until(lambda: recorder.holds(production, staging))
            monkeypatch.setattr(watcher_module, "COMPARE_EVERY", 1000.0)
            for _ in range(4):  # then the last comparison that was due is over, also if it was under way
                await one_more_contact(watcher)
            production = await change(store, production)
            await until(lambda: recorder.holds(production, staging), "the change arrived without a comparison")


# The data set is replaced


async def test_a_stream_that_goes_back_is_noticed_before_the_next_comparison(store: Store, store_url: str) -> None:
    """A read after our position would return nothing, as with a new primary that numbers its changes below it."""
    production, staging = await fill(store)
    async with following(store) as (watcher, recorder), inside(store, store_url) as (redis, keys):
        await redis.xadd(keys.changes, {"hello": "world"}, id="18446744073709551615-18446744073709551615")
        await until(lambda: watcher.counts.compared == 2)
        await redis.delete(keys.changes)
        production = await change(store, production)
        await until(lambda: recorder.holds(production, staging))


async def test_a_flushed_store_is_followed(start_server: StartServer, quick: None) -> None:
    server = await start_server()
    store = Store(server.url)
    await fill(store)
    async with following(store) as (watcher, recorder), redis_of(server.url) as redis:
        await redis.flushall()
        await until(lambda: watcher.guard.held)
        assert recorder.zones
        await store.guard.confirm()
        await until(lambda: not recorder.zones)
        production = small(PRODUCTION, 7)
        await store.environments.commit(production, 0)
        await until(lambda: recorder.holds(production))
    await store.close()


async def test_older_data_is_followed(store: Store, store_url: str, quick: None) -> None:
    production, staging = await fill(store)
    async with redis_of(store_url) as redis, following(store) as (_, recorder):
        older = await _save(redis, store.connection.keys.prefix)
        newer = await change(store, await change(store, production))
        await store.environments.delete(staging)
        third = small("third", 3)
        await store.environments.commit(third, 0)
        await until(lambda: recorder.holds(newer, third))
        await _restore(redis, store.connection.keys.prefix, older)
        await until(lambda: recorder.holds(production, staging, third))  # nobody has said that the third is deleted
        await store.guard.confirm()
        await until(lambda: recorder.holds(production, staging))
        production = await change(store, production)
        await until(lambda: recorder.holds(production, staging))


async def _save(redis: Any, prefix: str) -> dict[bytes, bytes]:
    return {key: await redis.dump(key) for key in await redis.keys(prefix + "*")}


async def _restore(redis: Any, prefix: str, saved: Mapping[bytes, bytes]) -> None:
    now = await redis.keys(prefix + "*")
    async with redis.pipeline(transaction=True) as pipe:
        if now:
            pipe.delete(*now)
        for key, value in saved.items():
            pipe.restore(key, 0, value)
        await pipe.execute()


async def test_a_document_that_changes_without_a_change_is_repaired(store: Store, store_url: str, quick: None) -> None:
    production, staging = await fill(store)
    async with redis_of(store_url) as redis, following(store) as (watcher, recorder):
        staging = toggled(staging)
        written = document.encode(staging)
        async with redis.pipeline(transaction=True) as pipe:
            pipe.set(store.connection.keys.environment(STAGING), written)
            pipe.hset(store.connection.keys.environments, STAGING, f"{staging.revision} {document.digest(written)}")
            await pipe.execute()
        await until(lambda: recorder.holds(production, staging))
        await until(lambda: watcher.counts.repaired)  # the comparison counts it when all of it is applied
        assert (watcher.counts.repaired, watcher.counts.gaps) == (1, 0)


# Bad documents

BAD_DOCUMENTS = {
    "no document": b"{}",
    "no JSON": b"\x00",
    "no UTF-8": b'{"id":"\xff"}',
    "another schema": document.encode(small(STAGING, 2)).replace(b'"revision"', b'"schema":2,"revision"'),
    "of another environment": document.encode(small("other", 2)),
    "a broken rule": document.encode(small(STAGING, 2)).replace(b'"api"', b'"ns"'),
}


@pytest.mark.parametrize("what", BAD_DOCUMENTS)
async def test_a_bad_document_is_quarantined(
    store: Store, store_url: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    production, staging = await fill(store)
    async with redis_of(store_url) as redis, following(store) as (watcher, recorder):
        await commit_raw(store, redis, STAGING, staging.revision + 1, BAD_DOCUMENTS[what], str(staging.network))
        await until(lambda: watcher.quarantined)
        production = await change(store, production)
        await until(lambda: recorder.holds(production, staging))  # the last good one stays
        assert list(watcher.quarantined) == [STAGING]
        [logged] = [record for record in caplog.records if record.message == "document_quarantined"]
        assert (logged.levelno, logged.__dict__["environment"]) == (logging.ERROR, STAGING)
        mended = replace(staging, revision=staging.revision + 2, enabled=False)
        await store.environments.commit(mended, staging.revision + 1)
        await until(lambda: recorder.holds(production, mended))
        assert not watcher.quarantined


async def test_a_bad_document_does_not_delay_the_start(store: Store, store_url: str) -> None:
    production, staging = await fill(store)
    async with redis_of(store_url) as redis:
        await redis.set(store.connection.keys.environment(STAGING), b"{}")
        async with following(store) as (watcher, recorder):
            assert recorder.holds(production)
            assert list(watcher.quarantined) == [STAGING]
            assert await store.environments.delete(staging)
            await until(lambda: not watcher.quarantined)
            assert ("withdraw", STAGING) not in recorder.events  # it was never published


async def test_a_document_that_was_mended_by_hand_is_served(store: Store, store_url: str, quick: None) -> None:
    production, staging = await fill(store)
    async with redis_of(store_url) as redis:
        good = await redis.getset(store.connection.keys.environment(STAGING), b"{}")
        async with following(store) as (watcher, recorder):
            assert recorder.holds(production)
            await redis.set(store.connection.keys.environment(STAGING), good)
            await until(lambda: recorder.holds(production, staging))
            assert not watcher.quarantined


async def test_the_last_good_zone_stays_when_a_document_is_lost(store: Store, store_url: str, quick: None) -> None:
    """The index still has its entry: so the document was evicted, or deleted by hand."""
    production, staging = await fill(store)
    async with redis_of(store_url) as redis, following(store) as (watcher, recorder):
        await redis.delete(store.connection.keys.environment(STAGING))
        previous = (await store.changes.position()).change
        await redis.xadd(
            store.connection.keys.changes, {"environment": STAGING, "revision": staging.revision, "previous": previous}
        )
        await until(lambda: STAGING in watcher.quarantined)
        assert recorder.holds(production, staging)
        await store.environments.delete(staging)
        await until(lambda: recorder.holds(production))
        assert not watcher.quarantined


async def test_a_document_cannot_take_the_network_of_another(store: Store, store_url: str) -> None:
    production, staging = await fill(store)
    async with redis_of(store_url) as redis, following(store) as (watcher, recorder):
        thief = replace(small(STAGING, 1), revision=3)
        await commit_raw(store, redis, STAGING, 3, document.encode(thief), str(staging.network))
        await until(lambda: watcher.quarantined)
        assert recorder.holds(production, staging)
        assert "belongs to 'production'" in watcher.quarantined[STAGING]


async def test_index_entries_written_by_hand_do_no_harm(store: Store, store_url: str, quick: None) -> None:
    production, staging = await fill(store)
    async with redis_of(store_url) as redis, following(store) as (watcher, recorder):
        index = store.connection.keys.environments
        good = await redis.hget(index, STAGING)
        await redis.hset(index, mapping={STAGING: b"garbage", b"\xff\xfe": b"1 x", "": b"", "none": b"7 digest"})
        compared = watcher.counts.compared
        await until(lambda: watcher.counts.compared > compared + 1)
        production = await change(store, production)
        await until(lambda: recorder.holds(production, staging))
        await redis.hdel(index, b"\xff\xfe", "", "none")
        await redis.hset(index, STAGING, good)
        staging = await change(store, staging)
        await until(lambda: recorder.holds(production, staging))


# The same whatever the order of changes


async def test_changes_that_are_repeated_reordered_or_malformed_make_no_difference(
    store: Store, store_url: str
) -> None:
    production, staging = await fill(store)
    production = await change(store, production)
    async with redis_of(store_url) as redis, following(store) as (watcher, recorder):
        events = list(recorder.events)
        stream = store.connection.keys.changes
        entries = [fields for _, fields in await redis.xrange(stream)]
        odd: list[dict[Any, Any]] = [
            *entries,  # each a second time
            *reversed(entries),  # and in reverse order
            {"environment": "nosuch", "revision": 1, "digest": "x", "previous": "0-0"},
            {"environment": PRODUCTION, "revision": 10**20, "digest": "x", "previous": "0-0"},
            {"environment": PRODUCTION, "revision": "many", "previous": "0-0"},
            {"environment": b"\xff\xfe", "revision": 1, "previous": "0-0"},
            {"environment": "", "revision": 1, "previous": b"\xff"},
            {"hello": "world"},
        ]
        for fields in odd:
            await redis.xadd(stream, fields)
        for id_ in (PRODUCTION, "nosuch"):  # with the right predecessor, but nothing has changed
            previous = (await store.changes.position()).change
            await redis.xadd(stream, {"environment": id_, "revision": 99, "digest": "x", "previous": previous})
        staging = await change(store, staging)
        await until(lambda: recorder.holds(production, staging))
        assert recorder.events == [*events, ("publish", STAGING)]
        assert watcher.counts.gaps >= 1


async def test_a_watcher_that_starts_late_serves_the_same(store: Store) -> None:
    environments = [*await fill(store)]
    async with following(store) as (_, early):
        for _ in range(20):
            environments = [await change(store, environment) for environment in environments]
        await until(lambda: early.holds(*environments))
        stored = await served_documents(store)
    async with following(store) as (_, late):
        assert late.documents == early.documents == stored


# Other environments


async def test_a_change_publishes_no_other_environment(store: Store) -> None:
    environments = [small(f"e{number}", 1 + number) for number in range(10)]
    await asyncio.gather(*(store.environments.commit(environment, 0) for environment in environments))
    async with following(store) as (_, recorder):
        zones, before = dict(recorder.zones), len(recorder.events)
        after = apply(environments[3], [DeleteInstance("api", "a1"), PutService("new")], NOW)
        await store.environments.commit(after, environments[3].revision)
        await until(lambda: recorder.zones[after.id].revision == after.revision)
        assert recorder.events[before:] == [("publish", after.id)]
        assert all(recorder.zones[id_] is zone for id_, zone in zones.items() if id_ != after.id)


# Many changes at once


async def test_many_changes_at_once_are_published_together(start_server: StartServer) -> None:
    server = await start_server()
    store = Store(server.url)
    environments = [small(f"e{number}", 1 + number) for number in range(5)]
    await asyncio.gather(*(store.environments.commit(environment, 0) for environment in environments))
    async with following(store) as (watcher, recorder), redis_of(server.url) as redis:
        script = redis.register_script(COMMIT_SCRIPT.text)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        published = watcher.counts.published
        for _ in range(100):
            async with redis.pipeline(transaction=False) as pipe:
                for _ in range(10):
                    environments = [toggled(environment) for environment in environments]
                    for environment in environments:
                        id_, revision = environment.id, environment.revision
                        written, network = document.encode(environment), str(environment.network)
                        await script(*commit_arguments(store, id_, revision, written, network), client=pipe)
                assert all(outcome[0] == b"ok" for outcome in await pipe.execute())
        await until(lambda: recorder.holds(*environments))
        # A document that was read may be newer than the change that led to it, so the last changes can come later.
        last = (await store.changes.position()).change
        await until(lambda: watcher.guard.applied == last)
        assert watcher.counts.published - published < 2500
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 65_536  # KiB
    await store.close()


# Former names


class Clock:
    """A wall clock that a test sets, in seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def renamed() -> Environment:
    return apply(small(PRODUCTION, 1), [PutService("api", rename="v2", overlap=10)], NOW)


def answers_former_name(recorder: Recorder) -> bool:
    return recorder.zones[PRODUCTION].find(API) is not None


async def test_who_waits_for_a_slow_store_is_not_behind_for_four_times_as_long(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While changes come fast, following takes a fifth of the processor's time, and waiting takes none of that."""
    waits, pauses = 0.5, list[float]()
    sleep = asyncio.sleep
    many = ChangeBatch((), BUSY, "1-0", is_gapless=True)

    async def noted(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
            raise asyncio.CancelledError

    async def read(*_: object, **__: object) -> ChangeBatch:
        return many

    async def take(*_: object) -> None:
        await sleep(waits)

    watcher = Watcher(store, PLATFORM, Recorder())
    monkeypatch.setattr(store.changes, "read_batch", read)
    monkeypatch.setattr(Watcher, "_take", take)
    monkeypatch.setattr(asyncio, "sleep", noted)
    with pytest.raises(asyncio.CancelledError):
        await watcher._tail()
    assert len(pauses) == 1
    assert pauses[0] < waits


async def test_a_former_name_ends_when_its_time_is_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.05)
    await store.environments.commit(renamed(), 0)
    clock = Clock(NOW / 1000)
    async with following(store, clock) as (watcher, recorder):
        assert answers_former_name(recorder)
        clock.now += 9.9
        compared = watcher.last_contact
        await until(lambda: watcher.last_contact != compared)
        assert answers_former_name(recorder)
        clock.now += 0.1
        await until(lambda: not answers_former_name(recorder))
        assert recorder.holds(renamed())  # the document is the same
        assert watcher.counts.published == 2
        assert recorder.zones[PRODUCTION].valid_until is None


async def test_a_former_name_ends_while_the_store_is_gone(start_server: StartServer) -> None:
    server = await start_server()
    store = Store(server.url)
    await store.environments.commit(renamed(), 0)
    clock = Clock(NOW / 1000)
    async with following(store, clock) as (watcher, recorder):
        server.kill()
        await until(lambda: not watcher.connected)
        assert answers_former_name(recorder)
        clock.now += 10
        await until(lambda: not answers_former_name(recorder))
        assert recorder.holds(renamed())
    await store.close()


async def test_a_former_name_that_has_ended_is_not_loaded(store: Store) -> None:
    await store.environments.commit(renamed(), 0)
    async with following(store, Clock(NOW / 1000 + 10)) as (_, recorder):
        assert not answers_former_name(recorder)


def long_renamed() -> Environment:
    """Renamed a moment ago by the store's clock, which is this machine's; the former name lasts for an hour."""
    now = unix_milliseconds()
    return apply(small(PRODUCTION, 1), [PutService("api", rename="v2", overlap=3600)], now)


async def test_a_machine_whose_clock_is_a_day_ahead_ends_no_former_name_early(store: Store, store_url: str) -> None:
    await store.environments.commit(long_renamed(), 0)
    ahead = Store(store_url, store.connection.keys.prefix, wall_clock=lambda: time.time() + 86_400)
    async with following(ahead) as (_, recorder):
        assert answers_former_name(recorder)
        assert "ahead" in ahead.clock.warning
    await ahead.close()


async def test_a_former_name_that_was_ended_early_is_answered_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that was wrong, and has been set: as after a start without the store."""
    monkeypatch.setattr(changes_module, "CHANGES_WAIT", 0.05)
    await store.environments.commit(renamed(), 0)
    clock = Clock(NOW / 1000 + 86_400)
    async with following(store, clock) as (_, recorder):
        assert not answers_former_name(recorder)
        clock.now = NOW / 1000
        await until(lambda: answers_former_name(recorder))
        clock.now += 10
        await until(lambda: not answers_former_name(recorder))


# All faults together


@pytest.mark.parametrize("interest", [None, "h1"])
@pytest.mark.parametrize("seed", range(4))
async def test_after_any_faults_the_watcher_equals_the_store(
    store: Store, store_url: str, quick: None, seed: int, interest: str | None
) -> None:
    chance = random.Random(seed)
    async with Proxy(Path(store_url.removeprefix("unix://"))) as proxy, redis_of(store_url) as redis:
        behind = Store(proxy.url, store.connection.keys.prefix)
        async with following(behind, interest=interest) as (watcher, recorder):
            world = World(store, redis, proxy, chance)
            for _ in range(60):
                await world.step()
                await asyncio.sleep(chance.choice([0, 0, 0.01, 0.05]))
            proxy.refuse = False
            await world.mend()
            await store.guard.confirm()
            expected = {
                id_: written
                for id_, written in (await served_documents(store)).items()
                if interest is None or interest in hosts_of(document.decode(written))
            }
            await until(lambda: recorder.documents == expected, f"{recorder.documents.keys()} = {expected.keys()}")
            await until(lambda: not watcher.quarantined)
        await behind.close()


class World:
    """A store whose environments change, and to which all kinds of faults happen."""

    def __init__(self, store: Store, redis: Any, proxy: Proxy, chance: random.Random) -> None:
        self._store, self._redis, self._proxy, self._chance = store, redis, proxy, chance
        self._bits = 0
        self._saved: dict[bytes, bytes] = {}

    async def step(self) -> None:
        """One random event; most are commits."""
        events = [self._commit] * 10 + [
            self._delete, self._write_bad_document, self._lose_changes, self._trim_changes, self._append_malformed,
            self._cut, self._save, self._restore, self.mend,
        ]  # fmt: skip
        await self._chance.choice(events)()

    async def mend(self) -> None:
        """Makes every document good again."""
        for id_ in await self._store.environments.index():
            written = await self._redis.get(self._store.connection.keys.environment(id_))
            if written == b"spoilt":
                await self._commit(id_)

    async def _commit(self, id_: EnvironmentId | None = None) -> None:
        id_ = id_ or EnvironmentId(f"e{self._chance.randrange(6)}")
        entry, written = (await documents(self._store, [id_]))[id_]
        revision = entry.revision if entry else 0
        if written in (None, b"spoilt"):
            self._bits += 1
            environment = replace(small(id_, self._bits), revision=revision + 1)
        else:
            environment = document.decode(written or b"")
            moved = PutInstance("api", "a1", host=self._chance.choice([None, "h1", "h2"]))
            environment = apply(environment, [moved, SetEnabled(not environment.enabled)], NOW)
        with suppress(NetworkTaken):  # of data that was restored
            await self._store.environments.commit(environment, revision)

    async def _delete(self) -> None:
        id_ = EnvironmentId(f"e{self._chance.randrange(6)}")
        written = (await documents(self._store, [id_]))[id_][1]
        if written not in (None, b"spoilt"):
            await self._store.environments.delete(document.decode(written or b""))

    async def _write_bad_document(self) -> None:
        for id_, written in (await served_documents(self._store)).items():
            revision = (await self._store.environments.index())[id_].revision + 1
            if written != b"spoilt":
                network = str(document.decode(written).network)
                await commit_raw(self._store, self._redis, id_, revision, b"spoilt", network)
                return

    async def _lose_changes(self) -> None:
        await self._redis.delete(self._store.connection.keys.changes)

    async def _trim_changes(self) -> None:
        await self._redis.xtrim(self._store.connection.keys.changes, 1, approximate=False)

    async def _append_malformed(self) -> None:
        await self._redis.xadd(
            self._store.connection.keys.changes, {"environment": "e1", "revision": "x", "previous": "0-0"}
        )

    async def _cut(self) -> None:
        self._proxy.refuse = self._chance.random() < 0.5
        self._proxy.drop()

    async def _save(self) -> None:
        self._saved = await _save(self._redis, self._store.connection.keys.prefix)

    async def _restore(self) -> None:
        await _restore(self._redis, self._store.connection.keys.prefix, self._saved)


async def test_a_watcher_that_does_nothing_fails_the_comparison(store: Store) -> None:
    """The negative control: the same comparison fails for a watcher that never runs."""
    await fill(store)
    watcher, recorder = Watcher(store, PLATFORM, Recorder()), Recorder()
    assert watcher.revisions == {}
    assert recorder.documents != await served_documents(store)
    assert json.loads((await served_documents(store))[PRODUCTION])["id"] == PRODUCTION
