"""The garbage collector while queries are answered: it looks at little at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from functools import partial

import pytest
from msgspec.structs import replace

from interlock.process.collector import spare_zones
from store.environments import COMMIT_SCRIPT
from store.store import Store
from tests.store.servers import inside
from tests.waiting import until
from tests.watcher.harness import commit_arguments, following
from tests.worlds import build, toggled
from zones import document
from zones.edits import PutInstance, PutService

ENVIRONMENTS, ROUNDS = 100, 10
PARTS = [
    edit
    for service in range(5)
    for edit in (PutService(f"s{service}"), PutInstance(f"s{service}", "a"), PutInstance(f"s{service}", "b"))
]
FEW = 1_000  # objects; the collector takes some tenths of a millisecond for as many


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def test_what_many_changes_make_is_looked_through_a_few_objects_at_a_time(store: Store, store_url: str) -> None:
    # Zones that take the place of others free about as much as they are made of, so a collector that counts what is
    # made less what is freed can let thousands of objects come together.
    built = (build(f"e{number}", 1 + number, *PARTS) for number in range(ENVIRONMENTS))
    environments = [replace(environment, revision=1) for environment in built]
    seen = list[int]()

    def count(phase: str, _info: Mapping[str, int]) -> None:
        if phase == "start":
            seen.append(sum(len(gc.get_objects(generation=young)) for young in (0, 1)))

    async with inside(store, store_url) as (redis, _keys), following(store) as (_, recorder):
        spare_zones()
        gc.callbacks.append(count)
        try:
            for _ in range(ROUNDS):
                async with redis.pipeline(transaction=False) as pipe:
                    for environment in environments:
                        written, network = document.encode(environment), str(environment.network)
                        keys, arguments = commit_arguments(
                            store, environment.id, environment.revision, written, network
                        )
                        pipe.eval(COMMIT_SCRIPT.text, len(keys), *keys, *arguments)
                    await pipe.execute()
                await until(partial(recorder.holds, *environments))
                environments = [toggled(environment) for environment in environments]
        finally:
            gc.callbacks.remove(count)
    assert 0 < max(seen) < FEW
