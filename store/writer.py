"""How a write is made: read, decide, commit; and again if somebody else was first.

    read environment ──► step(revision, environment) ──► the same object    nothing to do
          ▲                                         └──► the next one ──► store.commit ──► done
          └────────────── conflict: read again ◄───────────────────────────────┘

Writers of one environment in this process take turns, so only other processes can be in the way, and each of them
has one writer at a time too: a few rounds settle it however many clients there are.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from store.errors import NetworkTaken, RevisionConflict
from store.store import Store
from zones import edits
from zones.edits import Edit, must_exist
from zones.model import Environment
from zones.names import EnvironmentId

MAX_ATTEMPTS = 20  # beyond what a handful of processes need; then the client is told, before its patience ends
PAUSE = 0.005  # seconds, times the attempt; the spread that lets one of two competing processes go first

T = TypeVar("T")
Step = Callable[[int, Environment | None], Environment]
"""Given the newest revision and the environment (None where there is none), what it should be."""


@dataclass(frozen=True, slots=True)
class Written:
    """A write that was made. ``before`` is None for a new environment; the same as ``after`` where nothing changed."""

    before: Environment | None
    after: Environment


class Tally(Protocol):
    """Where writes are counted: ``commits`` that changed something, ``conflicts`` where somebody else was first."""

    commits: int
    conflicts: int


@dataclass(slots=True)
class Counts:
    """A `Tally` of its own, for who has no other."""

    commits: int = 0
    conflicts: int = 0


class Writer:
    """Writes to ``store``. All methods raise `store.errors.Unavailable`, and `RevisionConflict` for too many."""

    def __init__(self, store: Store, counts: Tally | None = None) -> None:
        self.counts = counts or Counts()
        self._store = store
        self._turns: WeakValueDictionary[EnvironmentId, asyncio.Lock] = WeakValueDictionary()

    async def edit(self, id_: EnvironmentId, wanted: Sequence[Edit], now: int) -> Written:
        """Applies ``wanted`` to the environment ``id_`` in one commit, at ``now`` (Unix milliseconds).

        Raises `zones.errors.ZonesError`: `Missing` where there is no such environment.
        """
        return await self.settle(id_, lambda _, before: edits.apply(must_exist(id_, before), wanted, now))

    async def settle(self, id_: EnvironmentId, step: Step) -> Written:
        """Makes the environment ``id_`` what ``step`` says, which is asked anew whenever somebody else was first.

        Where it gives what it was given, nothing is written; whatever it raises ends the write. Raises `NetworkTaken`
        where each attempt's network was somebody else's.
        """

        async def attempt() -> Written:
            revision, before = await self._store.environments.read(id_)
            after = step(revision, before)
            if after is not before:
                if before is None and revision:
                    # One created anew must not be open to tokens of the one deleted, should some have been left.
                    await self._forget_tokens(id_)
                await self._store.environments.commit(after, revision)
                self.counts.commits += 1
            return Written(before, after)

        return await self._take_turn(id_, attempt)

    async def delete(self, id_: EnvironmentId, check: Callable[[Environment], object]) -> int:
        """Deletes the environment ``id_`` and all its tokens; gives the revision of the deletion.

        ``check`` is given what is to be deleted; whatever it raises ends the write. Raises `Missing`.
        """

        async def attempt() -> int:
            _, before = await self._store.environments.read(id_)
            environment = must_exist(id_, before)
            check(environment)
            revision = await self._store.environments.delete(environment)
            self.counts.commits += 1
            await self._forget_tokens(id_)
            return revision

        return await self._take_turn(id_, attempt)

    async def _take_turn(self, id_: EnvironmentId, attempt: Callable[[], Awaitable[T]]) -> T:
        async with self._turns.setdefault(id_, asyncio.Lock()):
            for number in range(MAX_ATTEMPTS):
                try:
                    return await attempt()
                except (RevisionConflict, NetworkTaken):
                    self.counts.conflicts += 1
                    if number + 1 == MAX_ATTEMPTS:
                        raise
                    await asyncio.sleep(random.uniform(0, PAUSE * number))  # noqa: S311 no secret
        raise AssertionError("the last attempt returns or raises")

    async def _forget_tokens(self, id_: EnvironmentId) -> None:
        tokens = await self._store.tokens.read()
        await self._store.tokens.remove(digest for digest, token in tokens.items() if token.environment == id_)
