"""What the model test needs: readers that are cut off and restarted, hands that reach into a store, and what it holds.

`Reader` is a process that follows the store through a proxy and keeps a snapshot. `Hands` change the data as no writer
of ours does. `Truth` is what the store holds, read without any of the code that is tested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.keys import Keys
from store.store import Store
from tests.store.servers import Proxy
from tests.waiting import cancel, until
from tests.watcher.harness import Recorder
from tests.worlds import PLATFORM
from watcher.guard import Kind
from watcher.keeper import SnapshotKeeper
from watcher.watcher import Watcher
from zones import document, parts
from zones.errors import ZonesError
from zones.hosts import hosts_of
from zones.model import Environment
from zones.names import EnvironmentId

LARGEST = "18446744073709551615-18446744073709551615"  # the last position that a stream can have


@dataclass
class Reader:
    """A process that follows the store at ``socket`` and keeps a snapshot at ``path``."""

    socket: Path
    path: Path
    interest: str | None = None
    """The host whose environments it follows, with all hosts; None for all environments, and no hosts."""

    async def open(self) -> None:
        """Starts it, and the proxy that stands between it and the store."""
        self.proxy = Proxy(self.socket)
        await self.proxy.__aenter__()
        self._start()

    def _start(self) -> None:
        self.recorder = Recorder()
        self._store = Store(self.proxy.url)
        hosts = self.recorder.take_hosts if self.interest else None
        self.watcher = Watcher(self._store, PLATFORM, self.recorder, interest=self.interest, on_hosts=hosts)
        self.watcher.snapshots = keeper = SnapshotKeeper(self.path, "the store", "0.1.0", 1 << 20)
        self._tasks = [asyncio.create_task(self.watcher.run()), asyncio.create_task(keeper.run(self.watcher))]

    async def restart(self, how: str) -> None:
        """Ends it and starts it again.

        ``how``: "asked" writes a last snapshot, "killed" leaves the one that is there, "bare" comes back without one.
        """
        kept = self.path.read_bytes() if self.path.exists() else None
        await self._end()
        if how == "bare" or (how == "killed" and kept is None):
            self.path.unlink(missing_ok=True)
        elif how == "killed" and kept is not None:
            self.path.write_bytes(kept)
        self._start()

    async def close(self) -> None:
        """Ends it and its proxy."""
        await self._end()
        await self.proxy.__aexit__()

    async def _end(self) -> None:
        ended = [task for task in self._tasks if task.done()]
        await asyncio.gather(*map(cancel, self._tasks))
        await self._store.close()
        assert not ended, ended

    def heal(self) -> None:
        """Its connection works again; one on which it heard nothing is ended, so that nobody waits for its timeout."""
        if self.proxy.swallow:
            self.proxy.drop()
        self.proxy.refuse = self.proxy.swallow = False

    async def until_compared(self) -> None:
        """Returns when it has compared all that it serves with what the store has held since the call."""
        counts, before = self.watcher.counts, self.watcher.counts.compared
        await until(lambda: counts.compared > before + 2, "a comparison")
        await until(lambda: self.watcher.connected)

    @property
    def held(self) -> dict[Kind, frozenset[str]]:
        """What it holds back."""
        return {one.kind: frozenset(one.names) for one in self.watcher.guard.held}


@dataclass(frozen=True)
class Truth:
    """What a store holds."""

    good: Mapping[EnvironmentId, Environment]
    """The environments whose line in the index and document belong together."""
    deleted: frozenset[EnvironmentId]
    """Those that the index calls deleted."""
    damaged: frozenset[EnvironmentId]
    """Those whose line or document is spoilt."""

    def documents(self, interest: str | None) -> dict[EnvironmentId, bytes]:
        """The good documents that a reader with ``interest`` is to serve."""
        return {
            id_: document.encode(environment)
            for id_, environment in self.good.items()
            if interest is None or interest in hosts_of(environment)
        }


@dataclass
class Hands:
    """Somebody with a client of the store ``redis``, in which the keys are named by ``keys``."""

    redis: Any
    keys: Keys
    owners: dict[str, EnvironmentId] = field(default_factory=dict)
    """Network → the environment that it was made for."""

    async def truth(self) -> Truth:
        """What the store holds now."""
        good, deleted, damaged = {}, set(), set()
        is_index = await self.redis.type(self.keys.environments) == b"hash"
        for id_, line in (await self.redis.hgetall(self.keys.environments) if is_index else {}).items():
            name = EnvironmentId(id_.decode())
            kind = (await self.redis.type(self.keys.environment(name))).decode()
            written = await self.redis.get(self.keys.environment(name)) if kind == "string" else None
            key = self.keys.differences(name)
            fields = await self.redis.hgetall(key) if await self.redis.type(key) == b"hash" else {}
            differences = [difference for _, difference in sorted((int(of), each) for of, each in fields.items())]
            if line.split()[1:] == [b"deleted"] and kind == "none":
                deleted.add(name)
            elif environment := self._good(name, line, written, differences):
                good[name] = environment
            else:
                damaged.add(name)
        return Truth(good, frozenset(deleted), frozenset(damaged))

    def _good(
        self, id_: EnvironmentId, line: bytes, written: bytes | None, differences: list[bytes]
    ) -> Environment | None:
        revision, _, rest = line.partition(b" ")
        if not written:
            return None
        digest = document.digest(written)
        if rest.split(b" ")[0].decode() == digest:
            differences = []  # what is left of a document that was replaced
        for each in differences:
            digest = parts.next_digest(digest, each)
        if rest.split(b" ")[0].decode() != digest:
            return None
        try:
            environment = document.decode(written)
            for each in differences:
                environment = parts.apply_difference(environment, parts.decode(each))
        except ZonesError:
            return None
        is_own = environment.id == id_ == self.owners.get(str(environment.network), id_)
        return environment if is_own and str(environment.revision).encode() == revision else None

    async def wrong_keys(self) -> list[str]:
        """The keys that have a wrong type, or cannot be used any more."""
        wrong = []
        for key, wanted in self.keys.types.items():
            actual = (await self.redis.type(key)).decode()
            if actual not in (wanted, "none"):
                wrong.append(key)
        if await self.redis.type(self.keys.changes) == b"stream":
            last = (await self.redis.xinfo_stream(self.keys.changes))["last-generated-id"]
            wrong += [self.keys.changes] * (last == LARGEST.encode())
        return wrong

    async def save(self) -> dict[bytes, bytes]:
        """A dump of all keys."""
        return {key: await self.redis.dump(key) for key in await self.redis.keys("*")}

    async def restore(self, saved: Mapping[bytes, bytes]) -> None:
        """Puts ``saved`` in place of all that there is."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.flushall()
            for key, value in saved.items():
                pipe.restore(key, 0, value)
            await pipe.execute()

    async def replay(self, numbers: list[int], *, is_chained: bool) -> None:
        """Appends some entries of the stream again; chained, each names the one before it as a new one would."""
        entries = await self.redis.xrange(self.keys.changes, count=50)
        for number in numbers:
            if entries:
                fields = dict(entries[number % len(entries)][1])
                if is_chained:
                    fields[b"previous"] = (await self.redis.xrevrange(self.keys.changes, count=1))[0][0]
                await self.redis.xadd(self.keys.changes, fields)

    async def announce(self, id_: str, revision: int) -> None:
        """Appends a change of an environment that was not made."""
        newest = await self.redis.xrevrange(self.keys.changes, count=1)
        fields = {"environment": id_, "revision": revision, "digest": "0123456789abcdef", "hosts": "h1"}
        await self.redis.xadd(self.keys.changes, {**fields, "previous": newest[0][0] if newest else "0-0"})
