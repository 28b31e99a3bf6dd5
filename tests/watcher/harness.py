"""A watcher to follow a store with, and a publisher that records what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from store.environments import COMMIT_SCRIPT
from store.store import Store
from tests.store.reading import documents
from tests.waiting import DEADLINE, cancel, until
from tests.worlds import PLATFORM
from watcher.watcher import Watcher
from zones import document
from zones.hosts import Hosts
from zones.model import Environment
from zones.names import EnvironmentId
from zones.zone import Zone


@dataclass
class Recorder:
    """A publisher that records what it is given, and in which order."""

    zones: dict[EnvironmentId, Zone] = field(default_factory=dict)
    pending: dict[EnvironmentId, Zone] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    hosts: list[Hosts] = field(default_factory=list)
    is_loaded: bool = False
    restored_at: float | None = None

    def announce(self, zone: Zone) -> None:
        self.pending[zone.id] = zone
        self.events.append(("announce", zone.id))

    def publish(self, zone: Zone) -> None:
        if (pending := self.pending.get(zone.id)) and pending.environment is zone.environment:
            del self.pending[zone.id]
        self.zones[zone.id] = zone
        self.events.append(("publish", zone.id))

    def withdraw(self, environment: EnvironmentId) -> None:
        assert environment in {*self.zones, *self.pending}
        self.zones.pop(environment, None)
        self.pending.pop(environment, None)
        self.events.append(("withdraw", environment))

    def restored(self, as_of: float) -> None:
        self.events.append(("restored", ""))
        self.restored_at = as_of

    def source_away(self) -> None:
        self.events.append(("source_away", ""))

    def loaded(self) -> None:
        assert not self.is_loaded
        self.is_loaded = True
        self.events.append(("loaded", ""))

    def take_hosts(self, hosts: Hosts) -> None:
        self.hosts.append(hosts)
        self.events.append(("hosts", str(hosts.revision)))

    def holds(self, *environments: Environment) -> bool:
        """Whether exactly ``environments`` are served, each at this revision."""
        return self.documents == {environment.id: document.encode(environment) for environment in environments}

    @property
    def documents(self) -> dict[EnvironmentId, bytes]:
        return {id_: document.encode(zone.environment) for id_, zone in self.zones.items()}


@asynccontextmanager
async def following(
    store: Store,
    clock: Callable[[], float] | None = None,
    *,
    loaded: bool = True,
    interest: str | None = None,
    with_hosts: bool = False,
) -> AsyncIterator[tuple[Watcher, Recorder]]:
    """A watcher that follows ``store`` and has loaded it."""
    recorder = Recorder()
    watcher = Watcher(
        store, PLATFORM, recorder, clock, interest=interest, on_hosts=recorder.take_hosts if with_hosts else None
    )
    task = asyncio.create_task(watcher.run())
    try:
        if loaded:
            with patch("watcher.watcher.SOON", DEADLINE):  # else a busy machine has it say that the store is away
                await until(lambda: recorder.is_loaded or task.done(), "loaded")
        yield watcher, recorder
        assert not task.done(), task.exception()
    finally:
        await cancel(task)


async def served_documents(store: Store) -> dict[EnvironmentId, bytes]:
    """The documents that a watcher of ``store`` should serve."""
    index = await store.environments.index()
    read = await documents(store, index) if index else {}
    return {id_: written for id_, (_entry, written) in read.items() if written is not None}


async def commit_raw(
    store: Store, redis: Any, id_: str, revision: int, written: bytes, network: str, hosts: str = "-"
) -> None:
    """What a writer of another release may commit: by the script, but with any document."""
    script = redis.register_script(COMMIT_SCRIPT.text)
    outcome = await script(*commit_arguments(store, id_, revision, written, network, hosts))
    assert outcome[0] == b"ok"


def commit_arguments(
    store: Store, id_: str, revision: int, written: bytes, network: str, hosts: str = "-"
) -> tuple[list[str], list[Any]]:
    """The keys and arguments of the script that commits."""
    keys = store.connection.keys
    return (
        [keys.epoch, keys.environments, keys.environment(id_), keys.networks, keys.changes, keys.acks(id_)],
        [id_, revision - 1, revision, document.digest(written), network, written, hosts, "epoch", 1000, "", ""],
    )
